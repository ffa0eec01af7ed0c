"""Leave-one-out over steps: densities against the dense Gaussian, sums against integrals over all parameters."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
import torch

import pyro_seq as ps
from benchmarks import _gallery_left_out as gallery
from pyro_seq.diagnostics import steps_left_out
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.nn.components import Level, PerSeries
from pyro_seq.posterior import StoredPosterior


@pytest.fixture(scope="module")
def nile() -> ps.Sequences:
    years = ps.datasets.nile()
    return ps.Sequences(years.values.double(), times=years.times)


def fitted(data: ps.Sequences, coordinates: torch.Tensor) -> StoredPosterior:
    """As if chains had drawn these coordinates (chain, draw, parameter)."""
    model = ps.StructuralSeries(Level()).double()
    model.take_units(data)
    return StoredPosterior(model, data, {"coordinates": coordinates}, frozenset({"coordinates"}), {})


def dense_conditionals(data: ps.Sequences, level: float, noise: float) -> np.ndarray:
    """Log density of each seen year given the others, by a level of which nothing is known at first."""
    seen = data.mask[0].nonzero().flatten().numpy()
    values = data.values[0, seen, 0].numpy()
    cov = level**2 * np.minimum.outer(seen, seen) + noise**2 * np.eye(len(seen))
    inverse = np.linalg.inv(cov)
    ones = inverse.sum(1, keepdims=True)
    precision = inverse - ones @ ones.T / ones.sum()  # of all that a constant does not change
    residual, variance = (precision @ values) / np.diag(precision), 1 / np.diag(precision)
    return -0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)


@pytest.mark.parametrize("hidden", [[], [0, 3, *range(40, 50), 99]], ids=["whole", "gaps"])
def test_densities_are_those_of_the_dense_gaussian(nile: ps.Sequences, hidden: list[int]) -> None:
    flags = torch.zeros(1, 100, dtype=torch.bool)
    flags[:, hidden] = True
    data = nile.hide(flags)
    coordinates = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    posterior = fitted(data, coordinates)
    found = steps_left_out(posterior, data)["log_likelihood"]["x"]
    assert found.dims == ("chain", "draw", "step")
    assert found["time"].values.tolist() == [step for step in range(100) if step not in hidden]
    scales = posterior.model.parameters_at(coordinates)
    for chain, draw in np.ndindex(2, 3):
        level, noise = (float(scales[name][chain, draw]) for name in ("level_scale", "noise_scale"))
        np.testing.assert_allclose(found.values[chain, draw], dense_conditionals(data, level, noise), rtol=1e-8)


def test_loo_of_arviz_is_the_integral_over_all_parameters(nile: ps.Sequences) -> None:
    """Independent draws of the posterior on a grid, against sums over the grid."""
    grid = gallery.nile_grid()
    points = gallery.draws_of(grid.log_posterior, seed=0)
    axes = [torch.linspace(*ends, dtype=torch.float64) for ends in zip(*gallery.BOUNDS, strict=True)]
    coordinates = torch.cartesian_prod(*axes)[points].unflatten(0, (gallery.NUM_CHAINS, -1))
    found = az.loo(steps_left_out(fitted(nile, coordinates), nile), pointwise=True, reff=1.0)
    exact, densities = gallery.exact_left_out(grid), grid.others[points]
    # the error of a mean of inverse densities, relative to it; years err independently, or nearly so
    inverse = (-densities).exp()
    errors = inverse.std(0) / inverse.mean(0) / len(points) ** 0.5
    assert np.asarray(found["pareto_k"]).max() < 0.7
    np.testing.assert_allclose(np.asarray(found["loo_i"]), exact.numpy(), atol=6 * float(errors.max()))
    assert abs(float(found.iloc[0]) - float(exact.sum())) < 4 * float(errors.sum())
    by_hand, _ = gallery.by_arviz(densities)
    np.testing.assert_allclose(np.asarray(found["loo_i"]), by_hand, rtol=1e-6)


def test_what_is_refused(nile: ps.Sequences) -> None:
    posterior = fitted(nile, torch.zeros(2, 3, 2, dtype=torch.float64))
    with pytest.raises(DataError, match="num_samples"):
        steps_left_out(posterior, nile, num_samples=7)
    assert steps_left_out(posterior, nile, num_samples=4)["log_likelihood"]["x"].shape == (2, 2, 100)
    many = ps.Sequences(torch.randn(3, 20, 1, generator=torch.Generator().manual_seed(0)).cumsum(1))
    with pytest.raises(UnsupportedError, match="linear Gaussian"):
        steps_left_out(ps.GuidePosterior(ps.ODE2VAE(obs_shape=(1,), state_dim=1)), many)


def test_series_with_parameters_of_their_own() -> None:
    many = ps.Sequences(torch.randn(3, 20, 1, generator=torch.Generator().manual_seed(0)).cumsum(1))
    model = ps.StructuralSeries(Level(), sharing=PerSeries())
    guide = ps.fit(model, many, ps.SVI(num_steps=2), trainer=ps.Trainer(progress=False, accelerator="cpu"))
    found = steps_left_out(guide, many, num_samples=5)["log_likelihood"]["x"]
    assert found.shape == (1, 5, 60) and found["series"].values.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert bool(np.isfinite(found.values).all())
