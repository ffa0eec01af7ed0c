"""One ball that bounces in a world of walls: the four data sets of the Kalman VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._ball_world import PADDLE_HALF_LENGTH, PADDLES_AT, RADIUS, SIZE, BallWorld, simulate
from pyro_seq.datasets._cache import Arrays, cached
from pyro_seq.datasets._raster import draw_balls, draw_bars, lines
from pyro_seq.datasets._splits import Splits
from pyro_seq.errors import DataError

_VERSION = 1  # of the states; increase it when the same arguments give other states
_MAX_SEED = 2**32 - 1


def ball_in_world(
    world: BallWorld = BallWorld.box(),
    *,
    num_train: int = 5_000,
    num_validation: int = 0,
    num_test: int = 1_000,
    num_steps: int = 20,
    seeds: Sequence[int] = (1234, 9012, 5678),
    cache: bool = False,
) -> Splits:
    r"""Black and white videos of a ball in a box, a box with gravity, an irregular polygon, or a game of Pong.

    The physics engine pymunk (``pip install 'pyro_seq[physics]'``) takes one step of 0.2 s per frame, with the
    constants of the public data sets. A bounce is resolved after up to one step of penetration, so it is not an exact
    reflection, and a fast ball may pass through a wall: in the box with gravity about one in a hundred falls through
    the floor. A frame shows the walls, the ball and the paddles as the engine draws them with pygame, without the marks
    at points of contact (0.1 to 0.2 pixels per frame).

    With the default seeds, training and test starts are those of the code behind the public data sets (where the
    training set of Pong has no seed); later frames depend on the version of the engine. The default sizes take a few
    seconds and about 1 GB of memory during generation, half of that afterwards.

    Args:
        world: `BallWorld.box()`, `BallWorld.box_with_gravity()`, `BallWorld.hexagon()`, `BallWorld.pong()` or a custom
            world.
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Frames per series.
        seeds: Seeds of the training, validation and test series. A series does not depend on the number of series.
        cache: Store the paths of the balls in the user's cache folder, 640 bytes per series, and read them from there
            next time.

    Returns:
        Splits with values (series, time, 1, 32, 32) of zeros and ones, single precision, times counted in frames; row
        0 is the top, y = 32. The context holds the `state` (series, time, 4) at the time of the frame: x, y and their
        velocities in pixels per second (the public data sets give the state one step later than the frame). In a world
        with paddles it also holds `paddles` (series, time, 2), the heights of their centres.

    Raises:
        DataError: When an argument is out of range or seeds are equal.
        UnsupportedError: When pymunk is not installed.

    References:
        Fraccaro, Kamronn, Paquet and Winther (2017), A disentangled recognition and nonlinear dynamics model for
        unsupervised learning.

    Example:
        >>> ball_in_world(BallWorld.hexagon(), num_train=4, num_test=2).train
        Sequences((series 4, time 20, obs 1, obs 32, obs 32), 0 % missing, total 4)
    """
    if not isinstance(world, BallWorld):
        raise DataError(f"`world` must be a world such as `BallWorld.box()`. Got {world!r}.")
    counts = (
        whole_number(num_train, "num_train", 1),
        whole_number(num_validation, "num_validation"),
        whole_number(num_test, "num_test", 1),
    )
    num_steps, seeds = whole_number(num_steps, "num_steps", 1), _checked_seeds(seeds)

    def make() -> Arrays:
        arrays = {}
        for part, count, seed in zip(Splits._fields, counts, seeds, strict=True):
            arrays[part], arrays[f"{part}_paddles"] = simulate(world, count, num_steps, seed)
        return arrays

    setting = {"version": _VERSION, "world": asdict(world), "series": counts, "num_steps": num_steps, "seeds": seeds}
    arrays = cached("ball_in_world", setting, make) if cache else make()

    def sequences(part: str) -> Sequences:
        states, paddles = arrays[part], arrays[f"{part}_paddles"]
        context = {"state": torch.from_numpy(states).float()}
        if world.has_paddles:
            context["paddles"] = torch.from_numpy(paddles).float()
        return Sequences(torch.from_numpy(render(world, states, paddles)), context=context)

    return Splits(sequences("train"), sequences("validation") if num_validation else None, sequences("test"))


def _checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Sequence) or len(seeds) != len(Splits._fields):
        raise DataError(f"`seeds` must be three, of the training, validation and test series. Got {seeds!r}.")
    numbers = tuple(whole_number(seed, "seeds", 0, _MAX_SEED) for seed in seeds)
    if len(set(numbers)) != len(numbers):
        raise DataError(f"`seeds` must differ, or two parts would hold the same series. Got {seeds!r}.")
    return numbers


def render(world: BallWorld, states: np.ndarray, paddles: np.ndarray) -> np.ndarray:
    """Frames (series, time, 1, 32, 32) of states (series, time, 4) and heights of paddles (series, time, paddle)."""
    frames = np.zeros((*states.shape[:2], 1, SIZE, SIZE), dtype=np.float32)
    flat = frames.reshape(-1, SIZE, SIZE)
    flat[:, lines(np.asarray(world.walls), SIZE)] = 1
    draw_balls(flat, states[..., :2].reshape(-1, 2), RADIUS)
    for x, heights in zip(PADDLES_AT, np.moveaxis(paddles, -1, 0), strict=False):
        draw_bars(flat, x, heights.ravel(), int(PADDLE_HALF_LENGTH))
    return frames
