"""Log scores: the mean density over draws, of what the emission says at each of them."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.predict.log_density import LogDensity
from tests.kinds import kind

TASKS = pytest.mark.parametrize("task", [ps.Reconstruction(), ps.Forecasting(5), ps.Imputation(0.4)], ids=str)


def gaussian() -> tuple[ps.GuidePosterior, ps.Sequences]:
    torch.manual_seed(0)
    data = ps.Sequences(torch.randn(4, 8, 2), mask=torch.rand(4, 8, 2) < 0.8)
    model = ps.KalmanVAE((2,))
    model.take_units(data)
    return ps.GuidePosterior(model), data


@TASKS
@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.filterwarnings("ignore:Central 90 % intervals")  # of a model without training
def test_it_is_the_mean_density_given_each_draw(task, chunk_size):
    posterior, data = gaussian()
    found = ps.evaluate(posterior, data, task, num_samples=20, chunk_size=chunk_size, seed=3)
    if isinstance(task, ps.Imputation):
        means = ps.reconstruct(posterior, task.given(data), num_samples=20, chunk_size=chunk_size, seed=3)
    else:
        means = task.predict(posterior, task.given(data), num_samples=20, chunk_size=chunk_size, seed=3)
    scored, scale = task.scored(data), posterior.model.emission.scale.detach()
    each = dist.Normal(means.emission_means, scale).log_prob(data.values[:, -scored.shape[1] :])
    entries = torch.where(scored, each.logsumexp(0) - math.log(20), 0.0)
    torch.testing.assert_close(found.log_score, entries.sum((1, 2)) / scored.sum((1, 2)), rtol=1e-4, atol=1e-4)
    rows, expected = found.table("entry")["log_score"].tolist(), entries.sum((0, 1)) / scored.sum((0, 1))
    assert rows == pytest.approx(expected.tolist(), abs=1e-4)


def test_classes_have_the_log_probability_of_theirs_dealt_out():
    emission, data = kind("categorical")
    model = ps.RecurrentVAE(data.obs_shape, emission=emission)
    model.take_units(data)
    found = ps.evaluate(ps.GuidePosterior(model), data, ps.Reconstruction(), num_samples=10)
    shares = ps.reconstruct(ps.GuidePosterior(model), data, num_samples=10).mean  # of each class, the mean over draws
    expected = torch.where(data.values == 1, shares.log(), 0.0).mean((1, 2))
    torch.testing.assert_close(found.log_score, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_binary", [True, False])
def test_grey_levels_have_no_density_by_a_bernoulli_law(is_binary):
    levels = torch.rand(3, 5, 2)
    data = ps.Sequences(levels.round() if is_binary else levels)
    posterior = ps.GuidePosterior(ps.RecurrentVAE((2,), emission=ps.BernoulliEmission()))
    assert bool(ps.evaluate(posterior, data, ps.Reconstruction(), num_samples=5).log_score.isnan().all()) != is_binary


def test_measured_pixels_have_none():
    data = ps.Sequences(torch.rand(3, 5, 2))
    posterior = ps.GuidePosterior(ps.RecurrentVAE((2,), emission=ps.PixelEmission(scale=0.3)))
    assert bool(ps.evaluate(posterior, data, ps.Reconstruction(), num_samples=5).log_score.isfinite().all())
    posterior.model.emission.measure(*[torch.rand(1000)] * 2, torch.ones(1000, dtype=torch.bool))
    assert bool(ps.evaluate(posterior, data, ps.Reconstruction(), num_samples=5).log_score.isnan().all())


def test_what_was_drawn_otherwise_has_none():
    posterior, data = gaussian()
    with LogDensity(data.values, 8) as density:
        ps.impute(posterior, data, is_causal=True, num_samples=4)  # copies of series
    assert density.entries(4) is None
    with LogDensity(data.values, 8) as density:
        ps.reconstruct(posterior, data, num_samples=4)
    assert density.entries(4).shape == data.values.shape and density.entries(5) is None
