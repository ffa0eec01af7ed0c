"""Bouncing balls: discs that collide elastically in a box, rendered as small images."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._cache import Arrays, cached
from pyro_seq.datasets._splits import Splits
from pyro_seq.errors import DataError

_BOX, _RADIUS = 10.0, 1.2
_FIRST_CORNER, _FIRST_SPAN = 2.0, 8.0  # initial coordinates are drawn from 2 + 8 u
_SPEED = 0.5  # joint Euclidean norm of all velocities of a series
_SUBSTEPS = 2
_MAX_ROUNDS = 2_000
_SERIES_PER_CHUNK = 64  # rendered at once
_VERSION = 1  # of the simulation; increase it when the same arguments give other images


def bouncing_balls(
    *,
    num_balls: int = 3,
    num_train: int = 1_000,
    num_validation: int = 100,
    num_test: int = 100,
    num_steps: int = 20,
    size: int = 32,
    seed: int = 0,
    cache: bool = False,
) -> Splits:
    r"""Videos of balls of equal mass that bounce off each other and off the walls without loss.

    Balls of radius 1.2 move in a box of 10 x 10. Initial positions are uniform over non-overlapping arrangements inside
    the box; velocities are Gaussian, scaled jointly to norm 0.5, about 0.29 per ball for three balls. A frame is two
    sub-steps of length 0.5: move, reflect at the walls, exchange the velocities of touching pairs along their line of
    centres. A pixel at p shows

    .. math::

        \min\Bigl(1, \sum_b \exp\bigl(-(\|p - c_b\|^2 / r^2)^4\bigr)\Bigr)

    The set in the literature has 10 000 training, 500 validation and 500 test series of 20 frames: 0.9 GB of memory,
    and about 1 ms per series to generate.

    Args:
        num_balls: Balls per series, 1 to 5.
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Frames per series.
        size: Height and width in pixels.
        seed: Each part has a separate random stream, so its series do not depend on the other parts' sizes.
        cache: Store the images in the user's cache folder, 80 kB per series, and read them from there next time.

    Returns:
        Splits with values (series, time, 1, size, size) in [0, 1], single precision, times counted in frames.

    Raises:
        DataError: When an argument is out of range, or the balls hardly fit into the box.

    References:
        Sutskever, Hinton and Taylor (2008), The recurrent temporal restricted Boltzmann machine; Yildiz, Heinonen and
        Lahdesmaki (2019), ODE2VAE.

    Example:
        >>> bouncing_balls(num_train=4, num_validation=0, num_test=2).train
        Sequences((series 4, time 20, obs 1, obs 32, obs 32), 0 % missing, total 4)
    """
    num_balls, num_steps = whole_number(num_balls, "num_balls", 1), whole_number(num_steps, "num_steps", 1)
    size, seed = whole_number(size, "size", 1), seed_number(seed)
    counts = (
        whole_number(num_train, "num_train", 1),
        whole_number(num_validation, "num_validation"),
        whole_number(num_test, "num_test", 1),
    )

    def make() -> Arrays:
        streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(counts))]
        positions = [simulate(count, num_balls, num_steps, rng)[0] for count, rng in zip(counts, streams, strict=True)]
        return {part: render(where, size) for part, where in zip(Splits._fields, positions, strict=True)}

    setting = {"version": _VERSION, "series": counts, "sizes": (num_balls, num_steps, size), "seed": seed}
    arrays = cached("bouncing_balls", setting, make) if cache else make()
    train, validation, test = (torch.from_numpy(arrays[part]) for part in Splits._fields)
    return Splits(Sequences(train), Sequences(validation) if len(validation) else None, Sequences(test))


def simulate(
    num_series: int, num_balls: int, num_steps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities at every frame, both (series, time, ball, 2) in units of the box.

    A pair exchanges velocities only while it approaches. This matters only when a third ball or a wall pushes a
    separating pair together again: another exchange would make the balls stick.
    """
    position = _initial_positions(num_series, num_balls, rng)
    velocity = rng.standard_normal((num_series, num_balls, 2))
    velocity *= _SPEED / np.linalg.norm(velocity, axis=(1, 2), keepdims=True)
    positions, velocities = (np.empty((num_series, num_steps, num_balls, 2)) for _ in range(2))
    for step in range(num_steps):
        positions[:, step], velocities[:, step] = position, velocity
        for _ in range(_SUBSTEPS):
            position = position + velocity / _SUBSTEPS
            velocity = np.where(position < _RADIUS, np.abs(velocity), velocity)
            velocity = np.where(position > _BOX - _RADIUS, -np.abs(velocity), velocity)
            _collide(position, velocity)
    return positions, velocities


def _initial_positions(num_series: int, num_balls: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform over the arrangements inside the box without overlap, by rejection of whole arrangements."""
    position = np.empty((num_series, num_balls, 2))
    open_series = np.arange(num_series)
    for _ in range(_MAX_ROUNDS):
        draw = _FIRST_CORNER + _FIRST_SPAN * rng.uniform(size=(len(open_series), num_balls, 2))
        fits = (draw <= _BOX - _RADIUS).all((1, 2))
        for first, second in combinations(range(num_balls), 2):
            fits &= np.linalg.norm(draw[:, first] - draw[:, second], axis=-1) >= 2 * _RADIUS
        position[open_series[fits]] = draw[fits]
        open_series = open_series[~fits]
        if not len(open_series):
            return position
    raise DataError(f"{num_balls} balls hardly ever fit into the box at random. Pass a smaller `num_balls`, 1 to 5.")


def _collide(position: np.ndarray, velocity: np.ndarray) -> None:
    """Exchange the velocities of touching, approaching pairs along their line of centres, in place."""
    for first, second in combinations(range(position.shape[1]), 2):
        line = position[:, first] - position[:, second]
        distance = np.linalg.norm(line, axis=-1, keepdims=True)
        line = line / np.maximum(distance, np.finfo(float).tiny)
        approach = ((velocity[:, first] - velocity[:, second]) * line).sum(-1, keepdims=True)
        exchange = np.where((distance < 2 * _RADIUS) & (approach < 0), approach * line, 0.0)
        velocity[:, first] -= exchange
        velocity[:, second] += exchange


def render(positions: np.ndarray, size: int) -> np.ndarray:
    """Images (series, time, 1, size, size) of positions (series, time, ball, 2); the first coordinate is the row."""
    num_series, num_steps, num_balls, _ = positions.shape
    frames = np.zeros((num_series, num_steps, 1, size, size), dtype=np.float32)
    centres = ((np.arange(size) + 0.5) * (_BOX / size)).astype(np.float32)
    offsets = np.square((positions.astype(np.float32)[..., None] - centres) / np.float32(_RADIUS))
    for start in range(0, num_series, _SERIES_PER_CHUNK):
        chunk = slice(start, start + _SERIES_PER_CHUNK)
        for ball in range(num_balls):
            rows, columns = offsets[chunk, :, ball, 0, :, None], offsets[chunk, :, ball, 1, None, :]
            frames[chunk, :, 0] += np.exp(-np.square(np.square(rows + columns)))
    return np.minimum(frames, 1.0, out=frames)
