"""Energies of draws against densities worked out by hand, and the uses that are made of them."""

from __future__ import annotations

import torch
from torch.distributions import Normal

import pyro_seq as ps
from pyro_seq.infer.series_target import SeriesTarget
from pyro_seq.predict.energies import Energies, energies


def some_model() -> tuple[ps.ODELEBM, ps.Sequences]:
    torch.manual_seed(0)
    model = ps.ODELEBM(obs_shape=(2,), state_dim=3, static_dim=1, initial_prior=ps.EnergyTilt(ps.EnergyMLP(4, (5,))))
    mask = torch.rand(6, 7, 2) < 0.6
    return model, ps.Sequences(torch.randn(6, 7, 2).where(mask, 0), mask=mask, times=torch.arange(7.0))


def test_energies_are_the_densities_of_prior_and_model() -> None:
    model, data = some_model()
    draws = {"initial": torch.randn(5, 6, 4)}
    found = energies(model, data.extend(horizon=3), draws)
    vector = draws["initial"]
    prior = model.initial_prior(vector) - Normal(0, 1).log_prob(vector).sum(-1)
    torch.testing.assert_close(found.prior, prior.detach())
    torch.testing.assert_close(found.joint, SeriesTarget(model, data)(vector).detach())
    path = ps.reconstruct(
        ps.StoredPosterior(model, data, {"initial": vector[:, None]}), data, num_samples=5
    ).emission_means
    likelihood = Normal(path, model.emission.scale).log_prob(data.values).where(data.entry_mask, 0).sum((-2, -1))
    torch.testing.assert_close(found.joint - found.prior, -likelihood.detach(), rtol=1e-4, atol=1e-4)


def test_weights_prefer_the_lower_energy() -> None:
    joint = torch.tensor([[0.0, 5.0], [torch.log(torch.tensor(3.0)), -60.0]])
    found = Energies(joint, joint)
    torch.testing.assert_close(found.weights, torch.tensor([[0.75, 0.0], [0.25, 1.0]]))
    values = torch.tensor([[[4.0], [1.0]], [[8.0], [2.0]]])
    torch.testing.assert_close(found.mean(values), torch.tensor([[5.0], [2.0]]))


def test_random_numbers_and_gradients_are_left_alone() -> None:
    model, data = some_model()
    draws = {"initial": torch.randn(2, 6, 4)}
    before = torch.get_rng_state()
    found = energies(model, data, draws)
    assert torch.equal(before, torch.get_rng_state()) and not found.joint.requires_grad


def test_global_latents_do_not_count() -> None:
    model = ps.ODE2VAE(obs_shape=(2,), state_dim=1, vector_field=ps.BayesianMLP(2, 1, (3,)))
    data = ps.Sequences(torch.randn(3, 5, 2))
    draws = ps.GuidePosterior(model).draws(data, 4)
    found = energies(model, data, draws)
    assert found.prior.shape == found.joint.shape == (4, 3)
    torch.testing.assert_close(found.prior, -Normal(0, 1).log_prob(draws["initial"]).sum(-1))
