"""Guides of what was not seen: the prior, entry by entry, whatever the networks would say."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.distributions.energy_based import EnergyBased
from pyro_seq.nn.informed import informed, sight
from pyro_seq.nn.initial_prior import LearnedNormal
from pyro_seq.ops.langevin import MALA

SEES = torch.tensor([[True, True], [True, False], [False, False]])


def encoded() -> dist.TorchDistribution:
    return dist.Normal(torch.full((3, 2), 5.0), 0.1).to_event(1)


def learned() -> LearnedNormal:
    prior = LearnedNormal(2)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([1.0, -1.0]))
        prior.log_scale.copy_(torch.tensor([2.0, 3.0]).log())
    return prior


def test_entries_that_were_not_seen_follow_a_normal_prior():
    base = informed(encoded(), learned().distribution(torch.zeros(2)), SEES).base_dist
    torch.testing.assert_close(base.loc, torch.tensor([[5.0, 5.0], [5.0, -1.0], [1.0, -1.0]]))
    torch.testing.assert_close(base.scale, torch.tensor([[0.1, 0.1], [0.1, 3.0], [2.0, 3.0]]))


def test_what_was_seen_whole_is_left_as_it_is():
    given = encoded()
    assert informed(given, learned().distribution(torch.zeros(2)), torch.ones(3, 1, dtype=torch.bool)) is given


def test_of_an_energy_a_blind_vector_follows_the_tilted_prior():
    """The energy (z - 3)^2 / 2 on a standard normal is a normal around 1.5 with variance 1/2."""
    prior = EnergyBased(
        dist.Normal(torch.zeros(2), 1.0).to_event(1), lambda z: (z - 3).square().sum(-1) / 2, sampler=MALA(0.5)
    )
    with torch.no_grad():
        found = informed(encoded(), prior, SEES)
        draws = found.expand(torch.Size([2000, 3])).sample()
    assert found.batch_shape == (3,) and found.event_shape == (2,)
    # standard errors: .71 / sqrt(2000) = .016 of the means, 1 / sqrt(2000) = .022 where the base is drawn
    torch.testing.assert_close(draws[:, 0].mean(0), torch.tensor([5.0, 5.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(draws[:, 1].mean(0), torch.tensor([5.0, 0.0]), rtol=0, atol=0.11)
    torch.testing.assert_close(draws[:, 2].mean(0), torch.tensor([1.5, 1.5]), rtol=0, atol=0.08)
    torch.testing.assert_close(draws[:, 2].var(0), torch.tensor([0.5, 0.5]), rtol=0.2, atol=0)
    assert informed(encoded(), prior, SEES).has_rsample  # under gradients, the base


def test_encoders_of_a_window_say_what_they_read():
    encoder = ps.InitialStateEncoder(
        ps.FrameWindow(ps.MLPTrunk(1, (2,)), 1, 1), ps.FrameWindow(ps.MLPTrunk(3, (2,)), 3, 2)
    )
    mask = torch.zeros(4, 5, 2, dtype=torch.bool)
    mask[0, 0, 1] = mask[1, 2, 0] = mask[2, 4] = True
    assert sight(encoder, mask).tolist() == [[True] * 3, [False, True, True], [False] * 3, [False] * 3]
    assert sight(ps.RNNEncoder((2,), 3), mask).tolist() == [[True], [True], [True], [False]]


class Flat(torch.nn.Module):
    """An encoder of a user's own, of another family than the normal."""

    dim = 2

    def forward(self, frames, mask, times):
        zeros = frames.new_zeros(len(frames), 2)
        return dist.Laplace(zeros + 7.0, 0.01).to_event(1)


def test_an_encoder_of_another_family_gives_way_as_a_whole():
    found = informed(Flat()(torch.zeros(3, 4, 1), None, None), learned().distribution(torch.zeros(2)), SEES)
    draws = found.expand(torch.Size([500, 3])).rsample().detach()
    assert bool(((draws[:, :2] - 7).abs() < 1).all()) and float(draws[:, 2].std(0)[0]) == pytest.approx(2.0, rel=0.2)


DATA = ps.Sequences(torch.rand(4, 6, 2), mask=torch.tensor([[True] * 6] * 3 + [[False] * 6]))
EMPTY = DATA.hide(torch.ones(4, 6, dtype=torch.bool))


def tilt(size: int) -> ps.EnergyTilt:
    return ps.EnergyTilt(ps.EnergyMLP(size, (4,)), num_steps=5)


@pytest.mark.parametrize("encoder", [lambda: None, lambda: ps.RNNEncoder((2,), 4), lambda: ps.ODERNNEncoder((2,), 4)])
@pytest.mark.parametrize("prior", [lambda: None, lambda: ps.LearnedNormal(4), lambda: tilt(4)])
def test_a_series_without_any_observation_has_the_prior_of_its_first_state(encoder, prior):
    """So has a forecast of it; whoever is seen keeps the encoder's narrow answer."""
    model = ps.ODE2VAE((2,), 2, encoder=encoder(), initial_prior=prior())
    draws = ps.GuidePosterior(model).draws(DATA, 3000)["initial"]
    assert bool((draws[:, :3].std(0) < 0.3).all())
    # 5 standard errors of a deviation of 1; the energy of a new network moves it a little
    torch.testing.assert_close(draws[:, 3].std(0), torch.ones(4), rtol=0.15, atol=0)
    torch.testing.assert_close(draws[:, 3].mean(0), torch.zeros(4), rtol=0, atol=0.25)


def chain_model() -> ps.SRVP:
    small = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: torch.nn.GroupNorm(1, channels))
    return ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=0, num_frames=2, hidden_dim=8, architecture=small)


MODELS = {
    "KalmanVAE": lambda: ps.KalmanVAE((2,), 2, 3),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,)),
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2),
    "ODELEBM": lambda: ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2)),
    "SRVP": chain_model,
}


@pytest.mark.parametrize("name", MODELS)
def test_with_everything_hidden_a_reconstruction_is_a_sample(name):
    """In every latent the same means and deviations as `sample` draws, within 5 standard errors."""
    torch.manual_seed(0)
    model = MODELS[name]()
    shape = model.obs_shape
    data = ps.Sequences(torch.rand(2, 4, *shape), mask=torch.zeros(2, 4, dtype=torch.bool))
    posterior = ps.GuidePosterior(model)
    count = 3000
    given, prior = (verb(posterior, data, num_samples=count).latents for verb in (ps.reconstruct, ps.sample))
    assert given.keys() == prior.keys()
    for site in given.keys() - {"weights"}:
        mine, theirs = given[site].flatten(2), prior[site].flatten(2)
        spread = theirs.std(0) + 1e-6
        assert float(((mine.mean(0) - theirs.mean(0)).abs() / spread).max()) < 5 * (2 / count) ** 0.5, site
        # the error of a deviation, sqrt(kurtosis - 1) / 2 of it: normal entries have .7, ends of paths up to 2
        assert float(((mine.std(0) - theirs.std(0)).abs() / spread).max()) < 5 * 2 * (2 / count) ** 0.5, site
