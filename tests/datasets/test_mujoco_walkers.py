"""MuJoCo walkers: initial ranges, mechanics in closed form, scaling, parts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pyro_seq.datasets import Walker, _walkers, mujoco_walkers
from pyro_seq.datasets._scaling import training_range
from pyro_seq.errors import DataError, NumericalError, UnsupportedError

FEW = {"num_train": 6, "num_test": 3, "num_steps": 5, "num_test_steps": 8}
WALKERS = {"hopper": 14, "swimmer": 16, "cheetah": 18}


@pytest.fixture
def engine() -> None:
    for name in ("mujoco", "dm_control"):
        pytest.importorskip(name, exc_type=ImportError)


def simulated(walker: Walker, num_series: int, num_steps: int) -> np.ndarray:
    return _walkers.simulate(walker, num_series, num_steps, np.random.default_rng(0))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("body", WALKERS)
def test_first_frames_fill_the_ranges(body: str) -> None:
    walker = getattr(Walker, body)()
    start, half = simulated(walker, 300, 1)[:, 0], WALKERS[body] // 2
    assert start.shape == (300, 2 * half)
    for values, (low, high) in (
        (start[:, :2], walker.root_range),
        (start[:, 2:half], walker.angle_range),
        (start[:, half:], walker.velocity_range),
    ):
        assert kstest(values.ravel(), "uniform", (low, high - low)).pvalue > 1e-3


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("body", WALKERS)
def test_positions_move_with_the_velocities(body: str) -> None:
    """The engine's step of first order: the new position is the old one plus dt times the new velocity."""
    walker = getattr(Walker, body)()
    walker = Walker(body, walker.root_range, walker.angle_range, walker.velocity_range, steps_per_frame=1)
    dt = {"hopper": 0.005, "swimmer": 0.002, "cheetah": 0.01}[body]
    states, half = simulated(walker, 5, 20), WALKERS[body] // 2
    np.testing.assert_allclose(np.diff(states[..., :half], axis=1), dt * states[:, 1:, half:], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("engine")
def test_bodies_in_the_air_fall_freely() -> None:
    """The mean acceleration of the centre of mass is gravity; the root alone swings around it."""
    import mujoco

    high = Walker("hopper", root_range=(50.0, 60.0), velocity_range=(-1.0, 1.0), angle_range=(0.0, 0.05))
    states = simulated(high, 4, 30)
    model = _walkers._load("hopper")[2]
    data, heights = mujoco.MjData(model), np.empty((4, 30))
    for place in np.ndindex(4, 30):
        data.qpos[:] = states[place][:7]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        heights[place] = data.subtree_com[0, 2]
    fall = np.diff(heights, n=2, axis=1) / 0.005**2
    np.testing.assert_allclose(fall, -9.81, rtol=0, atol=0.5)  # of first order in the step: 5 % of gravity
    np.testing.assert_allclose(fall.mean(), -9.81, rtol=0.01)


@pytest.mark.usefixtures("engine")
def test_frames_skip_steps_of_the_engine() -> None:
    swimmer = Walker.swimmer()
    fine = Walker("swimmer", swimmer.root_range, swimmer.angle_range, swimmer.velocity_range, steps_per_frame=1)
    np.testing.assert_array_equal(simulated(swimmer, 3, 5), simulated(fine, 3, 21)[:, ::5])


@pytest.mark.usefixtures("engine")
def test_series_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    many = simulated(Walker.cheetah(), 5, 40)
    np.testing.assert_array_equal(simulated(Walker.cheetah(), 2, 40), many[:2])
    monkeypatch.setattr(_walkers, "_SERIES_PER_CHUNK", 1)
    np.testing.assert_array_equal(simulated(Walker.cheetah(), 5, 40), many)


@pytest.mark.usefixtures("engine")
def test_swimmers_that_leave_all_bounds() -> None:
    with pytest.raises(NumericalError, match="swimmer stays in bounds"):
        simulated(Walker("swimmer"), 20, 100)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("body", WALKERS)
def test_scaling_and_parts(body: str, assert_rng_untouched) -> None:
    walker = getattr(Walker, body)()
    with assert_rng_untouched():
        train, validation, test = mujoco_walkers(walker, num_validation=2, **FEW)
        raw = mujoco_walkers(walker, num_validation=2, normalise=False, **FEW)
    assert train.values.shape == (6, 5, WALKERS[body])
    assert validation.values.shape == (2, 5, WALKERS[body])
    assert test.values.shape == (3, 8, WALKERS[body])
    assert train.dtype == torch.float32
    assert train.times.tolist() == list(range(5))
    low, high = (getattr(raw.train.values, name)(dim=(0, 1)) for name in ("amin", "amax"))
    for scaled, plain in zip((train, validation, test), raw, strict=True):
        torch.testing.assert_close(scaled.values, (plain.values - low) / (high - low), rtol=1e-4, atol=1e-5)
    assert (train.values.amin((0, 1)) == 0).all()
    assert (train.values.amax((0, 1)) == 1).all()
    by_maximum = mujoco_walkers(walker, divide_by_maximum=True, **FEW)
    expected = (raw.test.values - low) / high
    torch.testing.assert_close(by_maximum.test.values, expected, rtol=1e-4, atol=1e-5)
    assert by_maximum.validation is None
    assert not torch.equal(raw.train.values[:3, 0], raw.test.values[:3, 0])
    assert not torch.equal(mujoco_walkers(walker, seed=1, **FEW).train.values, train.values)


@pytest.mark.usefixtures("engine")
def test_cache_works_without_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = mujoco_walkers(**FEW)
    first = mujoco_walkers(cache=True, **FEW)
    monkeypatch.setattr(_walkers, "_load", None)
    second = mujoco_walkers(cache=True, normalise=True, **FEW)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    for again in (first, second):
        assert torch.equal(again.train.values, plain.train.values)
        assert torch.equal(again.test.values, plain.test.values)


def test_missing_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    _walkers._load.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'pyro_seq\[mujoco\]'"):
        mujoco_walkers(**FEW)


def test_training_range_ignores_what_is_missing() -> None:
    nan = np.nan
    rows = np.array([[1.0, nan, 3.0, nan, 0.0], [2.0, 4.0, 3.0, nan, nan], [nan, 8.0, 3.0, nan, -2.0]])
    low, divisor = training_range(rows, divide_by_maximum=False)
    np.testing.assert_array_equal(low, [1, 4, 3, 0, -2])
    np.testing.assert_array_equal(divisor, [1, 4, 1, 1, 2])
    low, divisor = training_range(rows, divide_by_maximum=True)
    np.testing.assert_array_equal(divisor, [2, 8, 3, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"walker": "hopper"}, "walker"),
        ({"num_train": 0}, "num_train"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_test_steps": "all"}, "num_test_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        mujoco_walkers(**(FEW | arguments))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"body": "human"}, "body"),
        ({"angle_range": (1.0, 0.0)}, "angle_range"),
        ({"velocity_range": (0.0, float("inf"))}, "velocity_range"),
        ({"root_range": 1.0}, "root_range"),
        ({"steps_per_frame": 0}, "steps_per_frame"),
    ],
)
def test_wrong_walkers(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        Walker(**({"body": "hopper"} | arguments))
