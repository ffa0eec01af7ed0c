"""Moving digits: paths against closed forms and a step-by-step simulation, frames by hand, splits, reproducibility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_seq.data import Sequences
from pyro_seq.datasets import MNIST, BundledDigits, moving_digits
from pyro_seq.datasets._bouncing_paths import follow
from pyro_seq.errors import DataError

LIMIT, SPEED = 36, 4


@dataclass(frozen=True)
class Squares:
    """White squares of one size, each with a label of its own."""

    size: int = 5
    count: int = 60
    grey: float = 1.0

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full((self.count, self.size, self.size), self.grey, np.float32), np.arange(self.count)


def starts(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, LIMIT, (count, 2), endpoint=True), rng.integers(-SPEED, SPEED, (count, 2), endpoint=True)


def redraws(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-SPEED, SPEED, (2_000, count, 2), endpoint=True)


# ---------------------------------------------------------------------- paths


def test_reflected_paths_are_a_folded_line() -> None:
    start, velocity = starts(500)
    times = np.arange(0.0, 100.0, 0.25)
    line = start[:, None] + velocity[:, None] * times[:, None]
    folded = LIMIT - np.abs(line % (2 * LIMIT) - LIMIT)
    np.testing.assert_allclose(follow(start, velocity, LIMIT, times), folded, rtol=0, atol=1e-10)


@pytest.mark.parametrize("is_stochastic", [True, False])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_paths_are_the_same_bits_at_every_frame_rate(is_stochastic: bool, factor: int) -> None:
    start, velocity = starts(300)
    draws = redraws(300)
    redraw = draws.__getitem__ if is_stochastic else None
    whole = follow(start, velocity, LIMIT, np.arange(60.0), redraw)
    fine = follow(start, velocity, LIMIT, np.arange(59 * factor + 1) / factor, redraw)
    np.testing.assert_array_equal(fine[:, ::factor], whole)
    np.testing.assert_array_equal(follow(start, velocity, LIMIT, np.arange(20.0), redraw), whole[:, :20])


def by_steps(start: np.ndarray, velocity: np.ndarray, draws: np.ndarray, num_steps: int) -> np.ndarray:
    """One path, frame by frame: cut the move at the border, use the rest of the frame after the bounce."""
    place, velocity, hits, places = start.astype(float), velocity.astype(float), 0, []
    for _ in range(num_steps):
        places.append(place)
        left = 1.0
        while True:
            aim = place + left * velocity
            outside = (aim < -1e-9) | (aim > LIMIT + 1e-9)
            if not outside.any():
                place = aim
                break
            border = np.where(velocity > 0, LIMIT, 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                needed = np.where(outside, (border - place) / velocity, np.inf)
            used = needed.min()
            hit = np.abs(needed - used) < 1e-8
            place, left = np.where(hit, border, place + used * velocity), left - used
            drawn = draws[hits].astype(float)
            velocity = np.where(hit, np.where(border > 0, -1, 1) * np.abs(drawn), drawn)
            hits += 1
    return np.stack(places)


def test_random_bounces_are_those_of_a_simulation_by_steps() -> None:
    start, velocity = starts(200, seed=3)
    draws = redraws(200)
    paths = follow(start, velocity, LIMIT, np.arange(40.0), draws.__getitem__)
    for path in range(200):
        expected = by_steps(start[path], velocity[path], draws[:, path], 40)
        np.testing.assert_allclose(paths[path], expected, rtol=0, atol=1e-6)


def test_after_a_bounce_the_normal_component_points_inwards_and_may_be_zero() -> None:
    start = np.array([[30, 10], [30, 10], [30, 30], [2, 5]])
    velocity = np.array([[4, 1], [4, 1], [4, 4], [0, 0]])
    after = np.array([[3, -2], [0, 2], [1, -4], [4, 4]])
    paths = follow(start, velocity, LIMIT, np.array([0.0, 1.5, 2.5]), lambda hit: after)
    np.testing.assert_allclose(paths[0], [[30, 10], [36, 11.5], [33, 9.5]], atol=1e-12)  # 3 turned inwards
    np.testing.assert_allclose(paths[1], [[30, 10], [36, 11.5], [36, 13.5]], atol=1e-12)  # slides along the wall
    np.testing.assert_allclose(paths[2], [[30, 30], [36, 36], [35, 32]], atol=1e-12)  # a corner turns both
    np.testing.assert_array_equal(paths[3], np.tile([2, 5], (3, 1)))  # stands still for ever


# ---------------------------------------------------------------------- videos


def test_digits_start_uniform_stay_inside_and_keep_to_the_speeds() -> None:
    train = moving_digits(source=Squares(28), num_steps=12).train
    where = train[:2_000].context["position"].double().numpy()
    assert where.min() >= 0 and where.max() <= LIMIT
    counts = np.bincount(where[:, 0].astype(int).ravel(), minlength=LIMIT + 1)
    assert len(counts) == LIMIT + 1 and stats.chisquare(counts).pvalue > 1e-3
    steps = np.diff(where, axis=1)
    assert np.abs(steps).max() <= SPEED + 1e-5
    free = ((where[:, 0] >= SPEED) & (where[:, 0] <= LIMIT - SPEED)).all(-1)
    first = np.rint(steps[:, 0][free]).astype(int)
    np.testing.assert_allclose(steps[:, 0][free], first, atol=1e-5)
    assert stats.chisquare(np.bincount(first.ravel() + SPEED, minlength=2 * SPEED + 1)).pvalue > 1e-3


def test_frames_show_the_digits_at_rounded_places_cut_at_white() -> None:
    data = moving_digits(source=Squares(7, grey=0.6), num_digits=3, size=20, num_steps=9).train[:20]
    expected = torch.zeros_like(data.values)
    for series, step, digit in np.ndindex(20, 9, 3):
        row, column = data.context["position"][series, step, digit].double().round().long().tolist()
        expected[series, step, 0, row : row + 7, column : column + 7] += 153.0
    torch.testing.assert_close(data.values, expected.clamp(max=255.0) / 255.0, rtol=0, atol=0)
    assert data.values.max() == 1.0


def test_half_the_time_step_doubles_the_frame_rate() -> None:
    options = {"source": Squares(), "size": 24}
    coarse = moving_digits(**options, num_steps=10, num_test_steps=10)
    fine = moving_digits(**options, num_steps=19, num_test_steps=19, time_step=0.5)
    for one, other in ((coarse.train, fine.train), (coarse.test, fine.test)):
        slow, fast = one[:8], other[:8]
        assert torch.equal(fast.values[:, ::2], slow.values)
        assert fast.times.tolist()[:3] == [0.0, 0.5, 1.0]


def test_series_are_a_function_of_seed_and_number() -> None:
    train = moving_digits(num_steps=6).train
    first = train[[7, 3, 1_000_000]]
    again = moving_digits(num_steps=6).train
    assert torch.equal(again[[1_000_000]].values, first.values[2:])
    assert torch.equal(again[3:8].values[[4, 0]], first.values[:2])
    longer = moving_digits(num_steps=30).train[[7, 3]]
    assert torch.equal(longer.values[:, :6], first.values[:2])
    assert not torch.equal(moving_digits(num_steps=6, seed=1).train[[7]].values, first.values[:1])
    assert not torch.equal(first.values[0], first.values[1])
    part = train.minibatch(torch.tensor([5, 9]))
    assert part.index.tolist() == [5, 9] and part.total == train.num_series
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train[:2]
    assert torch.equal(torch.get_rng_state(), before)


def test_each_test_digit_is_used_once_and_no_part_shares_digits() -> None:
    train, validation, test = moving_digits(source=Squares(count=120), num_validation=9, size=16, num_steps=2)
    tested = test[:].context["label"]
    assert tested.shape == (10, 2) and len(tested.unique()) == 20
    trained = train[:500].context["label"].unique()
    assert len(trained) == 95 and len(validation) == 9
    everywhere = torch.cat([trained, tested.flatten(), validation[:].context["label"].unique()])
    assert len(everywhere.unique()) == len(everywhere)
    other = moving_digits(source=Squares(count=120), seed=5, size=16, num_test=4).test
    assert len(other) == 4 and torch.equal(other[:].values[:, :2], test[:4].values[:, :2])


def test_default_lengths_and_types() -> None:
    train, validation, test = moving_digits()
    assert validation is None and train.is_endless and not test.is_endless
    assert (train.num_steps, test.num_steps) == (15, 25)
    assert moving_digits(is_stochastic=False).test.num_steps == 100
    data = test[:2]
    assert isinstance(data, Sequences) and data.dtype == torch.float32
    assert data.values.shape == (2, 25, 1, 64, 64) and 0.0 <= data.values.min() < data.values.max() <= 1.0


@pytest.mark.data
def test_mnist_gives_five_thousand_test_videos() -> None:
    train, validation, test = moving_digits(source=MNIST(), test_source=MNIST(is_train=False), num_validation=1_500)
    assert (len(test), len(validation)) == (5_000, 1_500)
    assert train[:2].values.shape == (2, 15, 1, 64, 64)
    assert len(np.unique(test.order)) == 10_000


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 20}, "`size` must hold a digit"),
        ({"num_test": 10_000}, "`num_test` must be at most 150"),
        ({"num_digits": 0}, "num_digits"),
        ({"num_digits": 400}, "num_test"),
        ({"time_step": 0.0}, "time_step"),
        ({"source": "mnist"}, "BundledDigits"),
        ({"source": Squares(count=10), "num_validation": 2, "num_digits": 1}, "digits for every part"),
    ],
)
def test_wrong_arguments(options: dict, match: str) -> None:
    with pytest.raises(DataError, match=match):
        moving_digits(**{"source": BundledDigits(28), **options})
