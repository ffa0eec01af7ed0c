"""A ball with friction: one disc in a box that slows down, at a random rate per series."""

from __future__ import annotations

import numpy as np
import torch

from pyro_seq._arguments import real_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._arguments import part_sizes, streams
from pyro_seq.datasets._splits import Splits

_HALF, _RADIUS = 5.0, 1.0  # half the side of the box, and the ball
_START = 3.0  # start coordinates lie between -_START and _START
_SPEED = 1.0  # before the first frame, in lengths per frame
_SUBSTEPS = 10


def ball_with_friction(
    *,
    num_train: int = 1_000,
    num_validation: int = 100,
    num_test: int = 100,
    num_steps: int = 20,
    num_test_steps: int = 40,
    max_friction: float = 0.02,
    size: int = 28,
    seed: int = 0,
) -> Splits:
    r"""Videos of one ball that bounces off the walls and slows down, with different friction per series.

    A ball of radius 1 moves in a box from -5 to 5. It starts uniformly in [-3, 3] x [-3, 3], with speed 1 in a random
    direction. The friction :math:`\mu \sim U[0, 0.02]` of a series is dry friction: each frame begins with

    .. math::
        \|v\| \leftarrow \max(\|v\| - \mu, 0)

    independent of the speed, so that frame k has speed :math:`\max(1 - (k + 1) \mu, 0)`. The frame is recorded, and ten
    sub-steps follow: move by a tenth of the velocity, reflect the velocity at a touched wall. A pixel at p shows
    :math:`\exp(-(\|p - c\|^2)^4)` of the centre c: a disc with a soft edge.

    Args:
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Frames of a training and a validation series.
        num_test_steps: Frames of a test series.
        max_friction: Upper limit of the uniform friction.
        size: Height and width in pixels.
        seed: Each part has a separate random stream, so its series do not depend on the other parts' sizes.

    Returns:
        Splits with values (series, time, 1, size, size) in [0, 1], single precision, times counted in frames. The
        context holds each series' `friction`, and the `state` (series, time, 4) at the frame: the position, to the
        right and down, and the velocity.

    Raises:
        DataError: When an argument is out of range.

    References:
        Auzina, Yildiz, Magliacane, Bethge and Gavves (2023), Modulated neural ODEs; after Sutskever, Hinton and Taylor
        (2008), The recurrent temporal restricted Boltzmann machine.

    Example:
        >>> ball_with_friction(num_train=4, num_validation=0, num_test=2).test
        Sequences((series 2, time 40, obs 1, obs 28, obs 28), 0 % missing, total 2)
    """
    sizes = part_sizes(num_train, num_validation, num_test)
    num_steps, size = whole_number(num_steps, "num_steps", 1), whole_number(size, "size", 1)
    num_test_steps = whole_number(num_test_steps, "num_test_steps", 1)
    max_friction = real_number(max_friction, "max_friction", 0.0, _SPEED)

    def part(num_series: int, length: int, rng: np.random.Generator) -> Sequences:
        friction = rng.uniform(0.0, max_friction, num_series)
        position = rng.uniform(-_START, _START, (num_series, 2))
        velocity = rng.standard_normal((num_series, 2))
        velocity *= _SPEED / np.linalg.norm(velocity, axis=1, keepdims=True)
        states = simulate(position, velocity, friction, length)
        context = {"friction": torch.from_numpy(friction).float(), "state": torch.from_numpy(states).float()}
        return Sequences(torch.from_numpy(render(states[..., :2], size)), context=context)

    train, validation, test = zip(sizes, (num_steps, num_steps, num_test_steps), streams(seed, len(sizes)), strict=True)
    return Splits(part(*train), part(*validation) if num_validation else None, part(*test))


def simulate(position: np.ndarray, velocity: np.ndarray, friction: np.ndarray, num_steps: int) -> np.ndarray:
    """Positions and velocities (series, time, 4) from a start, each (series, 2), and friction (series,)."""
    states = np.empty((len(friction), num_steps, 4))
    for step in range(num_steps):
        speed = np.linalg.norm(velocity, axis=1)
        slower = np.maximum(speed - friction, 0.0)
        velocity = velocity * np.divide(slower, speed, out=np.zeros_like(speed), where=speed > 0)[:, None]
        states[:, step, :2], states[:, step, 2:] = position, velocity
        for _ in range(_SUBSTEPS):
            position = position + velocity / _SUBSTEPS
            velocity = np.where(position < _RADIUS - _HALF, np.abs(velocity), velocity)
            velocity = np.where(position > _HALF - _RADIUS, -np.abs(velocity), velocity)
    return states


def render(positions: np.ndarray, size: int) -> np.ndarray:
    """Images (series, time, 1, size, size) of positions (series, time, 2), to the right and down."""
    centres = (np.arange(size) + 0.5) * (2 * _HALF / size) - _HALF
    columns, rows = (np.square((positions[..., axis, None] - centres) / _RADIUS).astype(np.float32) for axis in (0, 1))
    squares = rows[..., :, None] + columns[..., None, :]
    return np.exp(-np.square(np.square(squares)))[:, :, None]
