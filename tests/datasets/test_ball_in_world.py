"""One ball in a world: laws of motion, seeds, and what a frame shows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_seq.datasets import BallWorld, ball_in_world
from pyro_seq.datasets._ball_world import simulate
from pyro_seq.datasets.ball_in_world import render
from pyro_seq.errors import DataError, UnsupportedError

DT, RADIUS = 0.2, 3.0
WORLDS = ["box", "box_with_gravity", "hexagon", "pong"]
FEW = {"num_train": 4, "num_test": 3, "num_steps": 5}
EMPTY = BallWorld(walls=(((-500.0, -500.0), (500.0, -500.0)),), position_scale=5.0, gravity=5.0)


@pytest.fixture(scope="module")
def box() -> np.ndarray:
    return simulate(BallWorld.box(), 300, 60, 0)[0]


def wall_distance(world: BallWorld, points: np.ndarray) -> np.ndarray:
    """Signed distances (series, time, wall) from the lines of a convex polygon, positive inside."""
    ends = np.array(world.walls, dtype=float)
    normals = np.stack((-(ends[:, 1] - ends[:, 0])[:, 1], (ends[:, 1] - ends[:, 0])[:, 0]), axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    inwards = np.sign(((ends.mean((0, 1)) - ends[:, 0]) * normals).sum(-1))
    return ((points[..., None, :] - ends[:, 0]) * normals).sum(-1) * inwards


@pytest.mark.parametrize("name", ["box", "hexagon"])
def test_ball_stays_inside(name: str) -> None:
    world = getattr(BallWorld, name)()
    states, _ = simulate(world, 300, 60, 0)
    distance = wall_distance(world, states[..., :2])
    assert distance.min() > 0.0  # it enters a wall by up to one step, 3 pixels, and its radius is 3
    assert np.mean(distance < RADIUS - 0.5) < 0.1


def test_speed_is_conserved_in_the_box(box: np.ndarray) -> None:
    speed = np.linalg.norm(box[..., 2:], axis=-1)
    np.testing.assert_allclose(speed, speed[:, :1].repeat(60, 1), rtol=1e-9)
    assert speed.min() > 10.0
    assert speed.max() < 15.0
    # Bounces reverse the velocity across a wall and leave the one along it.
    np.testing.assert_allclose(np.abs(box[:, :, 2:]), np.abs(box[:, :1, 2:]).repeat(60, 1), rtol=1e-9)
    assert (np.diff(np.sign(box[..., 2:]), axis=1) != 0).any((1, 2)).all()


def test_flight_is_straight_between_bounces(box: np.ndarray) -> None:
    position, velocity = box[..., :2], box[..., 2:]
    free = (wall_distance(BallWorld.box(), position).min(-1) > RADIUS)[:, :-1]
    moved = np.diff(position, axis=1)
    assert free.mean() > 0.5
    np.testing.assert_allclose(moved[free], DT * velocity[:, :-1][free], rtol=0, atol=1e-9)


def test_fall_is_a_parabola() -> None:
    states, _ = simulate(EMPTY, 20, 15, 0)
    steps = np.arange(15)[None]
    x, y, vx, vy = np.moveaxis(states[:, :1], -1, 0)
    # The engine moves with the velocity before the step: n (n - 1) / 2 in place of n^2 / 2.
    falling = y + DT * vy * steps - 5.0 * DT**2 * steps * (steps - 1) / 2
    expected = np.stack((x + DT * vx * steps, falling, vx + 0 * steps, vy - 5.0 * DT * steps), axis=-1)
    np.testing.assert_allclose(states, expected, rtol=1e-10, atol=1e-9)


def test_energy_under_gravity() -> None:
    """The engine's step of first order gains m (g dt)^2 / 2 each time, whatever the state."""
    states, _ = simulate(EMPTY, 20, 15, 0)
    energy = 0.5 * np.square(states[..., 2:]).sum(-1) + 5.0 * states[..., 1]
    gained = 0.5 * (5.0 * DT) ** 2 * np.arange(15)
    np.testing.assert_allclose(energy - energy[:, :1], gained[None].repeat(20, 0), atol=1e-8)


def test_few_balls_pass_the_floor() -> None:
    states, _ = simulate(BallWorld.box_with_gravity(), 1_000, 20, 1234)
    outside = (wall_distance(BallWorld.box_with_gravity(), states[..., :2]) < 0).any((1, 2))
    assert 0.0 < outside.mean() < 0.03


def test_paddles_follow_the_ball() -> None:
    states, paddles = simulate(BallWorld.pong(), 200, 40, 0)
    assert paddles.shape == (200, 40, 2)
    assert np.array_equal(paddles[..., 0], paddles[..., 1])
    moves = np.diff(paddles, axis=1)
    assert set(np.unique(np.abs(moves))) <= {0.0, 1.0, 2.0}  # 1 where the edge of the image cuts a move short
    ahead = states[:, :-1, 1:2] - paddles[:, :-1]
    assert (moves[ahead > 1.0] >= 0).all()
    assert (moves[ahead < -1.0] <= 0).all()
    assert (moves[np.abs(ahead) <= 1.0] == 0).all()
    assert np.abs(ahead)[:, 5:].max() < 3 + RADIUS  # the middle of the ball stays in reach


def test_bounces_of_pong_lose_speed() -> None:
    states, _ = simulate(BallWorld.pong(), 200, 40, 0)
    ratio = np.abs(states[:, 1:, 2:] / states[:, :-1, 2:])
    lost = ratio[ratio < 1 - 1e-9]
    np.testing.assert_allclose(lost, 0.9 * 0.99, rtol=1e-9)
    assert lost.size > 100


def test_starts_are_those_of_the_public_code() -> None:
    """NumPy's legacy generator, in the order angle, speed, position."""
    states, _ = simulate(BallWorld.box(), 3, 1, 1234)
    rng = np.random.RandomState(1234)
    for series in range(3):
        angle, speed = rng.uniform(0, 360), rng.uniform(10, 15)
        start = np.clip(16 + 10 * rng.normal(size=2), 6, 26)
        direction = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        np.testing.assert_allclose(states[series, 0], [*start, speed * direction[0], speed * direction[1]], rtol=1e-12)


@pytest.mark.parametrize("name", WORLDS)
def test_seeds_and_parts(name: str, assert_rng_untouched) -> None:
    world = getattr(BallWorld, name)()
    with assert_rng_untouched():
        train, validation, test = ball_in_world(world, num_validation=2, **FEW)
    assert train.values.shape == (4, 5, 1, 32, 32)
    assert train.dtype == torch.float32
    assert set(train.values.unique().tolist()) == {0.0, 1.0}
    assert (validation.num_series, test.num_series) == (2, 3)
    assert train.context["state"].shape == (4, 5, 4)
    assert ("paddles" in train.context) == (name == "pong")
    longer = ball_in_world(world, **(FEW | {"num_train": 6}))
    assert longer.validation is None
    assert torch.equal(longer.train.values[:4], train.values)
    assert torch.equal(longer.train.context["state"][:4], train.context["state"])
    assert torch.equal(longer.test.values, test.values)
    starts = torch.cat([part.context["state"][:, 0] for part in (train, validation, test)])
    assert len(starts.unique(dim=0)) == 9
    other = ball_in_world(world, seeds=(1, 2, 3), **FEW)
    assert not torch.equal(other.train.context["state"], train.context["state"])


def test_cache_gives_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    world = BallWorld.pong()
    plain, first, second = (ball_in_world(world, cache=cache, **FEW) for cache in (False, True, True))
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    for part in ("train", "test"):
        for again in (first, second):
            assert torch.equal(getattr(plain, part).values, getattr(again, part).values)
            assert torch.equal(getattr(plain, part).context["paddles"], getattr(again, part).context["paddles"])
    ball_in_world(BallWorld.box(), cache=True, **FEW)
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def frame(world: BallWorld, x: float, y: float, paddles: tuple[float, ...] = ()) -> np.ndarray:
    return render(world, np.array([[[x, y, 0.0, 0.0]]]), np.array(paddles).reshape(1, 1, -1))[0, 0, 0]


def test_pixels_of_the_box() -> None:
    picture = frame(BallWorld.box(), 16.7, 12.2)
    walls = np.zeros((32, 32))
    walls[[2, 30], 2:31] = walls[2:31, [2, 30]] = 1  # y = 30 is row 2, y = 2 is row 30
    ball = picture - walls
    assert walls.sum() == 4 * 28
    assert ball.min() == 0.0
    assert ball.sum() == 2 * 3 * 4 + 1  # 2 r (r + 1) and the end of the line that shows the angle
    rows, columns = np.nonzero(ball)
    assert (rows.min(), rows.max()) == (32 - 12 - 3, 32 - 12 + 2)
    assert (columns.min(), columns.max()) == (16 - 3, 16 + 3)
    assert ball[20].sum() == 7
    assert ball[17].sum() == 2


def test_pixels_of_the_hexagon() -> None:
    picture = frame(BallWorld.hexagon(), 500.0, 500.0)
    for x, y in ((3, 1), (1, 15), (8, 30), (25, 30), (30, 8), (15, 1)):
        assert picture[32 - y, x] == 1
    # A side has one pixel for each step along its longer direction; the corners belong to two sides.
    assert picture.sum() == 14 + 15 + 17 + 22 + 15 + 12
    assert picture[31, 3:16].all()
    assert picture[2, 8:26].all()
    assert picture[24, 2] == 1  # half-way between (1, 15) and (3, 1)


def test_pixels_of_pong() -> None:
    picture = frame(BallWorld.pong(), 500.0, 500.0, (16.0, 20.0))
    assert picture[0].all()
    assert picture[31].all()
    inner = picture[1:31].copy()
    assert inner.sum() == 2 * (2 * 7)
    assert picture[13:20, :2].all()
    assert picture[9:16, 30:].all()


@pytest.mark.parametrize(("x", "y", "seen"), [(0.0, 16.0, 12 + 1), (34.0, 16.0, 2), (16.0, -10.0, 0), (-3.0, 16.0, 1)])
def test_balls_are_cut_at_the_edge(x: float, y: float, seen: int) -> None:
    far = BallWorld(walls=(((900.0, 900.0), (901.0, 900.0)),), position_scale=1.0)
    assert frame(far, x, y).sum() == seen


def test_missing_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymunk", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'pyro_seq\[physics\]'"):
        ball_in_world(**FEW)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_train": 0}, "num_train"),
        ({"num_validation": -1}, "num_validation"),
        ({"num_test": 1.5}, "num_test"),
        ({"num_steps": 0}, "num_steps"),
        ({"seeds": (1, 1, 2)}, "seeds"),
        ({"seeds": (1, 2)}, "seeds"),
        ({"seeds": (1, 2, -3)}, "seeds"),
        ({"seeds": 3}, "seeds"),
        ({"world": "box"}, "world"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        ball_in_world(**arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"walls": ((1.0, 2.0),)}, "walls"),
        ({"walls": ()}, "walls"),
        ({"position_scale": -1.0}, "position_scale"),
        ({"speeds": (2.0, 1.0)}, "speeds"),
        ({"gravity": float("nan")}, "gravity"),
        ({"wall_elasticity": -0.1}, "wall_elasticity"),
    ],
)
def test_wrong_worlds(arguments: dict[str, object], name: str) -> None:
    walls = (((0.0, 0.0), (1.0, 1.0)),)
    with pytest.raises(DataError, match=name):
        BallWorld(**({"walls": walls, "position_scale": 1.0} | arguments))
