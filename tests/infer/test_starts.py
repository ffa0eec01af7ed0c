"""Where joint chains start: draws of a fit in the model's shapes, their spread as a mass matrix, cubes that shrink."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.infer.chains import latent_sites
from pyro_seq.infer.starts import KnownMassMatrix, starting_draws, strategies, variances
from pyro_seq.model import local_parameters


@pytest.fixture
def lines(toy):
    """A model, data, its sites, and its guide as a fit."""
    model, data = toy.make_lines(), toy.make_data(3)
    with local_parameters():
        sites = latent_sites(model, data)
    return data, sites, ps.GuidePosterior(model)


def test_draws_have_the_shapes_of_the_model(lines):
    data, sites, fit = lines
    draws = starting_draws(fit, data, sites, 40, seed=5)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {"drift": (120, 1), "line": (120, 3, 2)}
    expected = fit.draws(data, 120, seed=5)
    assert torch.equal(draws["line"], expected["line"]) and torch.equal(draws["drift"], expected["drift"][:, 0])
    assert len(starting_draws(fit, data, sites, 1, seed=5)["drift"]) == 100


def test_fits_of_others_are_refused(lines, toy):
    data, sites, fit = lines
    with pytest.raises(ps.DataError, match=r"`start` must be a fit of the same model.*without \['line'\]"):
        starting_draws(_Fixed({"drift": torch.zeros(100, 1, 1)}), data, sites, 1, seed=0)
    with pytest.raises(ps.DataError, match=r"'line' have the shape \(8, 2\), where \(3, 2\) is needed"):
        starting_draws(_Fixed(fit.draws(toy.make_data(8), 100)), data, sites, 1, seed=0)
    with pytest.raises(ps.DataError, match="`start` must be what `fit` returned"):
        ps.MCMC(ps.NUTS(), num_samples=1, warmup_steps=0, start="prior")


class _Fixed:
    def __init__(self, sites):
        self.sites = sites

    def draws(self, data, num_samples, *, seed=0):
        return self.sites


def test_each_chain_has_draws_of_its_own_to_try():
    start = {"z": torch.arange(12.0)[:, None]}
    site = {"name": "z", "fn": dist.Normal(torch.zeros(1), 1.0).to_event(1), "infer": {}}
    tried = [[float(strategy(site)) for strategy in strategies(start, chain, 2)] for chain in range(2)]
    assert tried == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    torch.manual_seed(0)
    wide = {"name": "z", "fn": dist.Normal(torch.zeros(1000), 1.0).to_event(1), "infer": {}}
    radii = [float(strategy(wide).abs().max()) for strategy in strategies(None, 0, 2)]
    assert radii == pytest.approx([2.0, 0.5, 0.1], rel=0.02)


def test_spread_is_that_of_real_numbers():
    draws = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1.0, 0.0])
    sites = {"scale": {"fn": dist.LogNormal(torch.zeros(3), 1.0).to_event(1)}}
    found = variances({"scale": draws.exp()}, sites)["scale"]
    torch.testing.assert_close(found, torch.cat([draws[:, :2].var(0), torch.ones(1)]))


@pytest.mark.parametrize("full_mass", [False, True])
def test_kernel_of_pyro_begins_with_it(full_mass):
    def model():
        pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("a", dist.Normal(torch.tensor(0.0), 1.0))

    kernel = pyro.infer.NUTS(model, full_mass=full_mass)
    kernel.mass_matrix_adapter = KnownMassMatrix({"b": torch.tensor([4.0, 9.0]), "a": torch.tensor([0.25])})
    kernel.setup(10)
    expected = torch.tensor([0.25, 4.0, 9.0])  # by the names of the sites
    (found,) = kernel.inverse_mass_matrix.values()
    torch.testing.assert_close(found, expected.diag() if full_mass else expected)
