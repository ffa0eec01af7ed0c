"""Rotating digits: geometry, splits, and the published set's trivial scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pyro_seq.datasets import MNIST, BundledDigits, rotating_digits
from pyro_seq.errors import DataError
from pyro_seq.metrics import mse, nearest_series, training_mean


@dataclass(frozen=True)
class Discs:
    """Smooth radially symmetric or one-sided pictures as a source."""

    offset: float = 0.0
    size: int = 33

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        axis = np.arange(self.size) - (self.size - 1) / 2
        image = np.exp(-(axis[:, None] ** 2 + (axis - self.offset) ** 2) / 32.0)
        return np.repeat(image[None], 20, 0), np.full(20, 3)


def test_shapes_and_times() -> None:
    train, validation, test = rotating_digits(num_train=6, num_validation=4, num_test=5, num_steps=7)
    assert train.values.shape == (6, 7, 1, 8, 8)
    assert (validation.num_series, test.num_series) == (4, 5)
    assert train.dtype == torch.float32
    assert train.times.tolist() == list(range(7))
    assert train.mask.all()
    assert train.values.min() >= 0.0
    assert train.values.max() <= 1.0
    assert train.context["label"].tolist() == [3] * 6
    assert rotating_digits(num_train=1, num_test=1).validation is None


def test_radially_symmetric_picture_stands_still() -> None:
    train, _, _ = rotating_digits(source=Discs(), num_train=4, num_test=1)
    # Linear interpolation of curvature 1/16 a pixel is off by at most a quarter of it.
    assert (train.values - train.values[:, :1]).abs().max() < 1 / 64 * 2


def test_centre_of_mass_turns_counter_clockwise_by_the_stated_angle() -> None:
    train, _, _ = rotating_digits(
        source=Discs(offset=6.0), num_train=4, num_test=1, degrees_per_step=30.0, num_steps=12
    )
    frames = train.values[:, :, 0].double()
    axis = torch.arange(33, dtype=torch.float64) - 16
    weight = frames.sum((2, 3))
    right, up = (frames.sum(2) * axis).sum(-1) / weight, -(frames.sum(3) * axis).sum(-1) / weight
    angle = torch.rad2deg(torch.atan2(up, right))
    expected = train.context["start_degrees"][:, None] + 30.0 * torch.arange(12)
    error = (angle - expected + 180.0) % 360.0 - 180.0
    assert error.abs().max() < 1.0


def test_fifteen_angles_and_three_turns() -> None:
    """Steps of 24 degrees from one of 15 angles: frame 15 is frame 0, and no two of 15 frames are alike."""
    train, validation, test = rotating_digits(
        digits=range(10),
        num_train=60,
        num_validation=4,
        num_test=20,
        num_steps=16,
        num_test_steps=45,
        degrees_per_step=24.0,
        num_start_angles=15,
    )
    assert [part.num_steps for part in (train, validation, test)] == [16, 16, 45]
    torch.testing.assert_close(train.values[:, 15], train.values[:, 0], rtol=0, atol=1e-5)
    turns = test.values.unflatten(1, (3, 15))
    torch.testing.assert_close(turns, turns[:, :1].expand_as(turns), rtol=0, atol=1e-5)
    gaps = (test.values[:, :15, None] - test.values[:, None, :15]).abs().flatten(3).amax(-1)
    assert (gaps + torch.eye(15)).min() > 1e-2
    starts = train.context["start_degrees"] / 24
    assert torch.equal(starts, starts.round())
    assert (starts.min() >= 0) and (starts.max() <= 14)
    assert len(starts.unique()) > 10
    assert len(train.context["label"].unique()) == 10


def test_start_angles_are_whole_shifts_of_each_other() -> None:
    """Every series is a cyclic shift of the same fifteen pictures of its digit."""
    arguments = {"num_train": 5, "num_test": 1, "num_steps": 15, "degrees_per_step": 24.0, "num_start_angles": 15}
    first, second = (rotating_digits(seed=seed, **arguments).train for seed in (0, 1))
    shift = (second.context["start_degrees"] - first.context["start_degrees"]).div(24).round().long()
    steps = (torch.arange(15) - shift[:, None]) % 15
    shifted = second.values[torch.arange(5)[:, None], steps]
    torch.testing.assert_close(shifted, first.values, rtol=0, atol=1e-5)


def test_full_turn_comes_back() -> None:
    train, _, _ = rotating_digits(num_train=10, num_test=1, num_steps=17)
    torch.testing.assert_close(train.values[:, 16], train.values[:, 0], rtol=0, atol=1e-5)


def test_every_series_has_its_own_digit() -> None:
    parts = rotating_digits(num_train=120, num_validation=20, num_test=43, num_steps=1, seed=1)
    images, labels = BundledDigits().load()
    threes = images[labels == 3]
    assert len({image.tobytes() for image in threes}) == 183
    assert [part.num_series for part in parts] == [120, 20, 43]
    # The total brightness of a rotated picture identifies the order: train, test, validation along the file.
    brightness = torch.cat([part.values.sum((1, 2, 3, 4)) for part in (parts.train, parts.test, parts.validation)])
    assert np.corrcoef(brightness.numpy(), threes.sum((1, 2)))[0, 1] > 0.9


def test_classes_and_seeds() -> None:
    train, _, test = rotating_digits(digits=(0, 7), num_train=60, num_test=20)
    assert set(train.context["label"].tolist()) | set(test.context["label"].tolist()) == {0, 7}
    first, again, other = (rotating_digits(num_train=3, num_test=1, seed=seed).train for seed in (0, 0, 1))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    # A validation part does not change the others.
    more = rotating_digits(num_train=3, num_test=1, num_validation=2).train
    assert torch.equal(first.values, more.values)


def test_global_random_state_is_untouched(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        rotating_digits(num_train=2, num_test=1, num_steps=2)


def test_wrong_arguments() -> None:
    with pytest.raises(DataError, match=r"It has 183.*more digits"):
        rotating_digits(num_train=183, num_test=1)
    with pytest.raises(DataError, match="digits"):
        rotating_digits(digits=(10,))
    with pytest.raises(DataError, match="digits"):
        rotating_digits(digits=())
    with pytest.raises(DataError, match="source"):
        rotating_digits(source="mnist")
    with pytest.raises(DataError, match="num_test"):
        rotating_digits(num_test=0)
    with pytest.raises(DataError, match="num_test_steps"):
        rotating_digits(num_test_steps=0)
    with pytest.raises(DataError, match="num_start_angles"):
        rotating_digits(num_start_angles=0)
    with pytest.raises(DataError, match="degrees_per_step"):
        rotating_digits(degrees_per_step=float("nan"))


@pytest.mark.data
def test_trivial_scores_of_the_reference_set() -> None:
    """Figures found with an independent generator of the same set: all threes, seed 0, rounded to 4 digits."""
    train, _, test = rotating_digits(source=MNIST(), num_train=500, num_test=100)
    truth = test.values
    rounding = 5e-5
    assert abs(mse(torch.zeros_like(truth), truth) - 0.1175) < rounding
    assert abs(mse(truth[:, :1].expand_as(truth), truth) - 0.1212) < rounding
    assert abs(mse(training_mean(train, test), truth) - 0.0682) < rounding
    assert abs(mse(nearest_series(train, test.first(1)), truth) - 0.0434) < rounding
    assert abs(mse(truth.mean(1, keepdim=True).expand_as(truth), truth) - 0.0606) < rounding
