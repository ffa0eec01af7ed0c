"""Spirals: the stated curves, windows, noise and parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pyro_seq.datasets import spirals
from pyro_seq.errors import DataError

FEW = {"num_train": 40, "num_validation": 3, "num_test": 20}
ROUNDING = 2e-6


def polar(points: torch.Tensor, centre: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Radius and angle without jumps, of points (series, time, 2)."""
    x, y = points.double().unbind(-1)
    angle = torch.atan2(y, x - centre)
    return torch.hypot(x - centre, y), torch.from_numpy(np.unwrap(angle.numpy(), axis=-1))


@pytest.mark.parametrize("part", ["train", "test"])
def test_points_lie_on_the_curves(part: str) -> None:
    data = getattr(spirals(noise=0.0, **FEW), part)
    assert torch.equal(data.values, data.context["truth"])
    is_clockwise, start = data.context["is_clockwise"], data.context["start"]
    theta = 6 * np.pi / 999 * (start[:, None] + torch.arange(data.num_steps)).double()
    radius, angle = polar(data.values[~is_clockwise], 5.0)
    torch.testing.assert_close(radius, 0.3 * theta[~is_clockwise], rtol=0, atol=ROUNDING)
    turns = (angle - theta[~is_clockwise]) / (2 * np.pi)
    torch.testing.assert_close(turns, turns.round(), rtol=0, atol=ROUNDING)
    radius, angle = polar(data.values[is_clockwise], -5.0)
    rest = 6 * np.pi + 1 - theta[is_clockwise]
    torch.testing.assert_close(radius * rest, torch.full_like(rest, 15.0), rtol=1e-5, atol=0)
    turns = (angle - rest) / (2 * np.pi)
    torch.testing.assert_close(turns, turns.round(), rtol=0, atol=ROUNDING)


def test_direction_of_turning() -> None:
    data = spirals(noise=0.0, **FEW).test
    centre = torch.where(data.context["is_clockwise"], -5.0, 5.0)[:, None]
    x, y = (data.values - torch.stack([centre, torch.zeros_like(centre)], -1)).unbind(-1)
    turning = x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]
    assert (turning[data.context["is_clockwise"]] < 0).all()
    assert (turning[~data.context["is_clockwise"]] > 0).all()


def test_sizes_and_times() -> None:
    train, validation, test = spirals()
    assert [part.values.shape for part in (train, validation, test)] == [(1000, 100, 2), (1000, 100, 2), (200, 500, 2)]
    assert train.dtype == torch.float32
    assert train.times[0] == 0.0
    torch.testing.assert_close(test.times[:100], train.times)
    torch.testing.assert_close(test.times[1:].diff(), torch.full((498,), 6 * np.pi / 999, dtype=torch.float64))
    share = train.context["is_clockwise"].double().mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(1000)


def test_windows_fit_and_reach_both_ends() -> None:
    train, _, test = spirals(num_train=8_000, num_validation=0, num_test=4_000)
    assert (train.context["start"].min(), train.context["start"].max()) == (100, 900)
    assert (test.context["start"].min(), test.context["start"].max()) == (100, 500)


def test_noise_is_gaussian() -> None:
    train = spirals().train
    noise = (train.values - train.context["truth"]).flatten()[::31].numpy()
    assert kstest(noise, "norm", (0.0, 0.3)).pvalue > 1e-3


def test_seeds_and_parts(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        train, validation, test = spirals(**FEW)
    again = spirals(num_train=2, num_validation=0, num_test=20)
    assert again.validation is None
    assert torch.equal(again.test.values, test.values)
    assert torch.equal(spirals(**FEW).train.values, train.values)
    assert not torch.equal(spirals(seed=1, **FEW).train.values, train.values)
    assert not torch.equal(train.values[:3], validation.values)
    assert spirals(num_train=1, num_test=1, num_steps=900).train.num_steps == 900


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_train": 0}, "num_train"),
        ({"num_test": 1.5}, "num_test"),
        ({"num_steps": 901}, "num_steps"),
        ({"num_test_steps": 0}, "num_test_steps"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("inf")}, "noise"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        spirals(**arguments)
