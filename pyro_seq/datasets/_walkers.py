"""Bodies of the DeepMind control suite, released in a random state."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from pyro_seq._arguments import whole_number
from pyro_seq.errors import DataError, NumericalError, UnsupportedError

BODIES = ("hopper", "swimmer", "cheetah")
_SWIMMER_JOINTS = 6  # of "swimmer6", the smaller of the suite's two
_SERIES_PER_CHUNK = 256  # simulated at once

Range = tuple[float, float]


@dataclass(frozen=True)
class Walker:
    """A body for `mujoco_walkers` with the ranges of its random initial states; motors are off.

    A state lists all positions and then all velocities. The first two positions are the root's place, in metres; the
    other positions are angles, in radians.

    Args:
        body: "hopper" (7 positions and 7 velocities), "swimmer" (8 and 8) or "cheetah" (9 and 9).
        root_range: Range of the root's uniform position, in both coordinates.
        angle_range: Range of all uniform angles. Values beyond a joint's limits are allowed; the joint springs back.
        velocity_range: Range of all uniform velocities, per second.
        steps_per_frame: Steps of the engine from one frame to the next: 5 ms each for the hopper, 2 ms for the swimmer,
            10 ms for the cheetah.

    Raises:
        DataError: When the body is unknown, or a range is not two finite numbers in increasing order.
    """

    body: str
    root_range: Range = (0.0, 0.5)
    angle_range: Range = (-2.0, 2.0)
    velocity_range: Range = (-5.0, 5.0)
    steps_per_frame: int = 1

    def __post_init__(self) -> None:
        if self.body not in BODIES:
            raise DataError(f"`body` must be one of {BODIES}. Got {self.body!r}.")
        for name in ("root_range", "angle_range", "velocity_range"):
            limits = getattr(self, name)
            if np.shape(limits) != (2,) or not np.isfinite(limits).all() or limits[0] > limits[1]:
                raise DataError(f"`{name}` must be a lower and an upper limit, both finite. Got {limits!r}.")
        whole_number(self.steps_per_frame, "steps_per_frame", 1)

    @classmethod
    def hopper(cls) -> Walker:
        """One leg with a foot, with the ranges of the published set; one step of 5 ms per frame, as there."""
        return cls("hopper")

    @classmethod
    def swimmer(cls) -> Walker:
        """A chain of six links in a fluid, slower; five steps of 2 ms per frame.

        No ranges are published. The hopper's are too fast for this body: four in ten swimmers diverge.
        """
        return cls("swimmer", angle_range=(-1.0, 1.0), velocity_range=(-1.0, 1.0), steps_per_frame=5)

    @classmethod
    def cheetah(cls) -> Walker:
        """A body with two legs; one step of 10 ms per frame. No ranges are published; these are the hopper's."""
        return cls("cheetah")


def simulate(walker: Walker, num_series: int, num_steps: int, rng: np.random.Generator) -> np.ndarray:
    """States (series, time, state) from random initial states, which are the first frame.

    Raises:
        UnsupportedError: When the engine is not installed.
        NumericalError: When a state diverges.
    """
    mujoco, rollout, model = _load(walker.body)
    width, half = model.nq + model.nv, model.nq
    start = np.empty((num_series, width))
    for series in start:  # one after the other, so that a series does not depend on the number of series
        series[:2] = rng.uniform(*walker.root_range, 2)
        series[2:half] = rng.uniform(*walker.angle_range, half - 2)
        series[half:] = rng.uniform(*walker.velocity_range, width - half)
    states = np.empty((num_series, num_steps, width))
    states[:, 0] = start
    engine = mujoco.MjData(model)
    stride = walker.steps_per_frame
    for first in range(0, num_series if num_steps > 1 else 0, _SERIES_PER_CHUNK):
        chunk = slice(first, first + _SERIES_PER_CHUNK)
        begin = np.insert(start[chunk], 0, 0.0, axis=1)  # the engine's state begins with the time
        path, _ = rollout.rollout(model, engine, begin, nstep=stride * (num_steps - 1))
        clock = np.diff(path[..., 0], axis=1)
        if not np.isfinite(path).all() or (clock <= 0).any():  # the engine stops or resets the clock when diverging
            raise NumericalError(
                f"`walker` must have ranges in which the {walker.body} stays in bounds. Some states left them within "
                f"{num_steps} frames. Narrow `velocity_range` or `angle_range` of {walker}."
            )
        states[chunk, 1:] = path[:, stride - 1 :: stride, 1:]
    return states


@cache
def _load(body: str) -> tuple[ModuleType, ModuleType, Any]:
    """The engine and the body's model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the suite looks for a screen on import, and finds none on a server
            import mujoco
            from dm_control.suite import cheetah, hopper, swimmer
            from mujoco import rollout
    except ImportError as error:
        raise UnsupportedError(
            "Trajectories of walkers need dm_control and MuJoCo, which are not installed. "
            "Install them with: pip install 'pyro_seq[mujoco]'"
        ) from error
    sources = {
        "hopper": hopper.get_model_and_assets,
        "swimmer": lambda: swimmer.get_model_and_assets(_SWIMMER_JOINTS),
        "cheetah": cheetah.get_model_and_assets,
    }
    return mujoco, rollout, mujoco.MjModel.from_xml_string(*sources[body]())
