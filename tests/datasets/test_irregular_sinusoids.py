"""Irregular sinusoids: the law of each part of a series, and shares of observed points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import kstest

from pyro_seq.data import Sequences
from pyro_seq.datasets import irregular_sinusoids, observe_share
from pyro_seq.errors import DataError
from pyro_seq.metrics import mse, nearest_series

FEW = {"num_train": 6, "num_test": 4}


def fitted(times: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
    """Least squares of level, sine and cosine, with the best frequency of a fine grid, refined."""

    def solve(frequency: float) -> tuple[np.ndarray, float]:
        angle = 2 * np.pi * frequency * times
        design = np.stack([np.ones_like(times), np.sin(angle), np.cos(angle)], axis=1)
        weights, *_ = np.linalg.lstsq(design, values, rcond=None)
        return weights, float(np.square(design @ weights - values).sum())

    grid = np.linspace(0.3, 0.9, 61)
    best = grid[np.argmin([solve(frequency)[1] for frequency in grid])]
    found = minimize_scalar(lambda f: solve(f)[1], bounds=(best - 0.01, best + 0.01), method="bounded").x
    return found, solve(found)[0]


def test_frequency_and_level_by_least_squares() -> None:
    train, _, _ = irregular_sinusoids(num_train=10, num_test=1, noise=0.0)
    times = train.times.numpy()
    for values, frequency, level in zip(
        train.values[..., 0].double().numpy(), train.context["frequency"], train.context["level"], strict=True
    ):
        found, (constant, sine, cosine) = fitted(times, values)
        assert abs(found - frequency) < 1e-5  # single precision of the values
        assert abs(constant - level) < 1e-5
        assert abs(sine - 1.0) < 1e-5
        assert abs(cosine) < 1e-4  # the phase is zero at time 0


def test_laws_of_frequency_level_times_and_noise() -> None:
    train, _, test = irregular_sinusoids(num_train=2_000, num_test=1)
    assert kstest(train.context["frequency"].numpy(), "uniform", (0.4, 0.4)).pvalue > 1e-3
    assert kstest(train.context["level"].numpy(), "norm", (1.0, 0.1)).pvalue > 1e-3
    assert train.times[0] == 0.0
    assert torch.equal(train.times, test.times)
    assert kstest(train.times[1:].numpy(), "uniform", (0.0, 5.0)).pvalue > 1e-3
    noise = (train.values - train.context["truth"])[..., 0]
    assert (noise[:, 0] == 0).all()
    rounding = 1e-6
    assert noise.min() > -rounding
    assert noise.max() < 0.01 + rounding
    assert kstest(noise[:, 1:].flatten()[::37].numpy(), "uniform", (0.0, 0.01)).pvalue > 1e-3


def test_defaults_are_the_published_sizes() -> None:
    train, validation, test = irregular_sinusoids()
    assert train.values.shape == (800, 100, 1)
    assert validation is None
    assert test.values.shape == (200, 100, 1)


def test_seeds_and_parts(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        train, validation, test = irregular_sinusoids(num_validation=3, **FEW)
    longer = irregular_sinusoids(num_train=9, num_test=4)
    assert torch.equal(longer.test.values, test.values)
    assert torch.equal(longer.train.times, train.times)
    assert torch.equal(irregular_sinusoids(**FEW).train.values, train.values)
    assert not torch.equal(irregular_sinusoids(seed=1, **FEW).train.times, train.times)
    frequencies = torch.cat([part.context["frequency"] for part in (train, validation, test)])
    assert len(frequencies.unique()) == 13


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5, 1.0])
def test_share_of_points(share: float) -> None:
    _, _, test = irregular_sinusoids(**FEW)
    seen = observe_share(test, share)
    assert (seen.mask.sum(1) == round(100 * share)).all()
    assert torch.equal(seen.values, torch.where(seen.mask[..., None], test.values, 0.0))
    assert torch.equal(seen.mask, observe_share(test, share).mask)
    if share < 1.0:
        assert len(seen.mask.unique(dim=0)) == 4
        assert not torch.equal(seen.mask, observe_share(test, share, seed=1).mask)


def test_larger_shares_add_points() -> None:
    train, _, _ = irregular_sinusoids(**FEW)
    masks = [observe_share(train, share).mask for share in (0.1, 0.2, 0.3, 0.5)]
    assert all((larger >= smaller).all() for smaller, larger in pairwise(masks))
    assert torch.equal(observe_share(train[:2], 0.2).mask, masks[1][:2])


def test_every_point_is_kept_equally_often() -> None:
    count, share, num_steps = 4_000, 0.3, 10
    kept = observe_share(Sequences(torch.zeros(count, num_steps, 1)), share).mask.double().mean(0)
    assert (kept - share).abs().max() < 4 * np.sqrt(share * (1 - share) / count)


def test_share_counts_observed_steps_only() -> None:
    mask = torch.zeros(3, 20, 2, dtype=torch.bool)
    mask[0, 5:15, 0] = True
    mask[1, 7, 1] = True
    seen = observe_share(Sequences(torch.ones(3, 20, 2), mask=mask), 0.4)
    assert seen.step_mask.sum(1).tolist() == [4, 1, 0]
    assert not (seen.mask & ~mask).any()


def test_nearest_training_series_is_near() -> None:
    """The published errors of models lie between 0.02 and 0.07; this is twenty times less, at every share."""
    train, _, test = irregular_sinusoids()
    for share in (0.1, 0.5):
        assert mse(nearest_series(train, observe_share(test, share)), test.values) < 2e-3


@pytest.mark.parametrize("name", ["num_train", "num_test", "num_steps", "duration", "noise", "seed", "num_validation"])
@pytest.mark.parametrize("value", [-1, "two", float("nan")], ids=str)
def test_wrong_arguments(name: str, value: object) -> None:
    with pytest.raises(DataError, match=name):
        irregular_sinusoids(**(FEW | {name: value}))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan"), "half"], ids=str)
def test_wrong_shares(share: object) -> None:
    with pytest.raises(DataError, match="share"):
        observe_share(Sequences(torch.ones(2, 3, 1)), share)
