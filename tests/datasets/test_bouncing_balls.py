"""Bouncing balls: conservation laws, geometry, pixels, and trivial scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_seq.datasets import bouncing_balls
from pyro_seq.datasets.bouncing_balls import _collide, render, simulate
from pyro_seq.errors import DataError
from pyro_seq.metrics import last_frame, mse, training_mean

BOX, RADIUS = 10.0, 1.2


@pytest.fixture(scope="module")
def path() -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities of 200 series of 3 balls over 100 frames."""
    return simulate(200, 3, 100, np.random.default_rng(0))


def test_energy_is_conserved(path: tuple[np.ndarray, np.ndarray]) -> None:
    _, velocity = path
    np.testing.assert_allclose(np.square(velocity).sum((2, 3)), 0.25, rtol=1e-12)


def test_momentum_changes_only_at_walls(path: tuple[np.ndarray, np.ndarray]) -> None:
    position, velocity = path
    margin = 0.5 + 1e-9  # no ball moves farther in a frame
    centred = ((position > RADIUS + margin) & (position < BOX - RADIUS - margin)).all((2, 3))[:, :-1]
    momentum = velocity.sum(2)
    change = np.abs(np.diff(momentum, axis=1)).max(-1)
    collided = np.abs(np.diff(velocity, axis=1)).max((2, 3)) > 1e-9
    assert (centred & collided).sum() > 100
    assert change[centred].max() < 1e-12


def test_free_flight_is_straight(path: tuple[np.ndarray, np.ndarray]) -> None:
    position, velocity = path
    free = np.abs(np.diff(velocity, axis=1)).max((2, 3)) == 0
    # Two collisions in one frame could cancel, but not for continuous random numbers.
    moved = np.diff(position, axis=1)
    np.testing.assert_allclose(moved[free], velocity[:, :-1][free], atol=1e-12)
    assert 0.3 < free.mean() < 0.9


def test_balls_stay_inside_and_apart(path: tuple[np.ndarray, np.ndarray]) -> None:
    position, _ = path
    overshoot = 0.25  # what a ball moves in a sub-step
    assert position.min() > RADIUS - overshoot
    assert position.max() < BOX - RADIUS + overshoot
    gaps = np.stack(
        [np.linalg.norm(position[:, :, i] - position[:, :, j], axis=-1) for i, j in ((0, 1), (0, 2), (1, 2))]
    )
    assert gaps[:, :, 0].min() >= 2 * RADIUS
    # A pair approaches at up to sqrt(2) / 2 a frame; three bodies and walls can push a little further.
    assert gaps.min() > 2 * RADIUS - 2 * math.sqrt(0.5) / 2
    assert (gaps < 2 * RADIUS - 0.1).mean() < 0.05


def test_balls_do_not_stick(path: tuple[np.ndarray, np.ndarray]) -> None:
    position, _ = path
    touching = np.linalg.norm(position[:, :, 0] - position[:, :, 1], axis=-1) < 2 * RADIUS
    longest = touching.copy()
    for _ in range(9):
        longest = longest[:, 1:] & longest[:, :-1]
    assert not longest.any()


def test_one_ball_follows_the_reflected_line() -> None:
    """A single ball is a straight line folded at the walls, with each turn late by at most one sub-step."""
    position, velocity = simulate(100, 1, 200, np.random.default_rng(1))
    np.testing.assert_allclose(np.abs(velocity), np.abs(velocity[:, :1]).repeat(200, 1), rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(velocity, axis=-1), 0.5, rtol=1e-12)
    assert (np.abs(position - BOX / 2) <= BOX / 2 - RADIUS + 0.25).all()


def test_head_on_collision_exchanges_velocities() -> None:
    position = np.array([[[4.0, 5.0], [6.0, 5.0]], [[4.0, 5.0], [6.0, 5.0]], [[3.0, 5.0], [6.0, 5.0]]])
    approach = np.array([[0.3, 0.1], [-0.2, 0.4]])
    velocity = np.stack([approach, -approach, approach])
    _collide(position, velocity)
    np.testing.assert_allclose(velocity[0], [[-0.2, 0.1], [0.3, 0.4]], atol=1e-15)
    np.testing.assert_array_equal(velocity[1], -approach)  # separating already
    np.testing.assert_array_equal(velocity[2], approach)  # not touching


def test_pixels_by_hand() -> None:
    positions = np.array([[[[5.0, 2.5], [5.0, 5.5]]]])
    size = 5  # pixel centres at 1, 3, 5, 7, 9
    frame = render(positions, size)[0, 0, 0]
    for row in range(size):
        for column in range(size):
            point = np.array([2 * row + 1.0, 2 * column + 1.0])
            squares = ((point - positions[0, 0]) ** 2).sum(-1) / RADIUS**2
            assert frame[row, column] == pytest.approx(min(1.0, np.exp(-(squares**4)).sum()), abs=1e-6)
    overlapping = render(np.array([[[[5.0, 5.0], [5.0, 5.1]]]]), size)
    assert overlapping.max() == 1.0


def test_shapes_seeds_and_parts() -> None:
    train, validation, test = bouncing_balls(num_train=5, num_validation=2, num_test=3, num_steps=4, size=16)
    assert train.values.shape == (5, 4, 1, 16, 16)
    assert (validation.num_series, test.num_series) == (2, 3)
    assert train.dtype == torch.float32
    assert train.times.tolist() == [0, 1, 2, 3]
    again = bouncing_balls(num_train=5, num_validation=0, num_test=1, num_steps=4, size=16)
    assert again.validation is None
    assert torch.equal(train.values, again.train.values)
    other = bouncing_balls(num_train=5, num_validation=0, num_test=1, num_steps=4, size=16, seed=1)
    assert not torch.equal(train.values, other.train.values)


def test_rendering_does_not_depend_on_the_chunk() -> None:
    positions, _ = simulate(130, 2, 3, np.random.default_rng(0))
    single = np.concatenate([render(positions[i : i + 1], 8) for i in range(130)])
    np.testing.assert_array_equal(render(positions, 8), single)


def test_cache_gives_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = {"num_train": 3, "num_validation": 0, "num_test": 2, "num_steps": 2, "size": 8}
    plain, first, second = (bouncing_balls(**settings, cache=cache) for cache in (False, True, True))
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    assert second.validation is None
    for part in ("train", "test"):
        assert torch.equal(getattr(plain, part).values, getattr(first, part).values)
        assert torch.equal(getattr(plain, part).values, getattr(second, part).values)


def test_trivial_scores_of_the_literature() -> None:
    """Figures of an independent simulator over 200 series, so both sides have the sampling error of 200 series."""
    data = bouncing_balls(num_train=200, num_validation=0, num_test=200).test
    truth, given = data.values, data.first(3)
    frozen = last_frame(given, 10)
    scores = {
        0.083: mse(training_mean(data, data), truth, keep=0),
        0.104: mse(torch.zeros_like(truth), truth, keep=0),
        0.101: mse(frozen, truth[:, 3:13], keep=0),
    }
    for reference, score in scores.items():
        error = math.sqrt(2 / 200) * score.std().item()
        assert abs(score.mean().item() - reference) < 4 * error + 5e-4
    steps = [0.013, 0.038, 0.064, 0.087, 0.107, 0.123, 0.135, 0.143, 0.149, 0.153]
    score = mse(frozen, truth[:, 3:13], keep=(0, 1))
    error = math.sqrt(2 / 200) * score.std(0)
    assert ((score.mean(0) - torch.tensor(steps)).abs() < 4 * error + 5e-4).all()


def test_initial_positions_are_uniform() -> None:
    position, velocity = simulate(4_000, 1, 1, np.random.default_rng(0))
    position, low, high = position[:, 0, 0], 2.0, BOX - RADIUS
    assert (position >= low).all()
    assert (position <= high).all()
    # Kolmogorov's distance stays below 1.95 / sqrt(n) with probability 0.999.
    for values in position.T:
        ranks = (np.arange(4_000) + 0.5) / 4_000
        assert np.abs(np.sort((values - low) / (high - low)) - ranks).max() < 1.95 / math.sqrt(4_000)
    assert abs(velocity.mean()) < 4 * 0.5 / math.sqrt(8_000)


def test_wrong_arguments(assert_rng_untouched) -> None:
    with pytest.raises(DataError, match="num_balls"):
        bouncing_balls(num_balls=0)
    with pytest.raises(DataError, match="num_balls"), assert_rng_untouched():
        bouncing_balls(num_balls=9, num_train=1, num_validation=0, num_test=1)
    with pytest.raises(DataError, match="size"):
        bouncing_balls(size=1.5)
