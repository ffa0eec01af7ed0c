"""Spirals: noisy windows of two planar curves, one clockwise and one counter-clockwise."""

from __future__ import annotations

import numpy as np
import torch

from pyro_seq._arguments import real_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._arguments import part_sizes, streams
from pyro_seq.datasets._splits import Splits

_ANGLE = 6 * np.pi  # of a whole curve, three turns
_GROWTH, _SHRINK, _SHIFT = 0.3, 15.0, 5.0
_NUM_POINTS, _FIRST = 1_000, 100  # of a whole curve; windows begin after the first tenth


def spirals(
    *,
    num_train: int = 1_000,
    num_validation: int = 1_000,
    num_test: int = 200,
    num_steps: int = 100,
    num_test_steps: int = 500,
    noise: float = 0.3,
    seed: int = 0,
) -> Splits:
    r"""Windows of two spirals in the plane, chosen with equal probability, with Gaussian noise.

    With the angle :math:`\theta` from 0 to :math:`6 \pi` on 1000 points and :math:`\phi = 6 \pi + 1 - \theta`,

    .. math::
        \text{counter-clockwise:} \quad & (0.3\, \theta \cos\theta + 5, \; 0.3\, \theta \sin\theta) \\
        \text{clockwise:} \quad & (15 / \phi \cos\phi - 5, \; 15 / \phi \sin\phi)

    A window begins at a random point, from the 100th to the last that fits. All windows have the same times, angles
    starting at 0, so a model must infer its position on the curve.

    The published example has 500 points, too few for test windows of 500: here the same curves have twice as many. The
    usual task is to continue a test series from its first 100 points; score against the `truth`, since the noise alone
    has a mean squared error of 0.09.

    Args:
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Points of a training and a validation series, up to 900.
        num_test_steps: Points of a test series, up to 900.
        noise: Standard deviation of the noise.
        seed: Each part has a separate random stream, so its series do not depend on the other parts' sizes.

    Returns:
        Splits with values (series, time, 2), single precision. The context holds the `truth` (series, time, 2) without
        noise, `is_clockwise`, and the number of the first point, `start`.

    Raises:
        DataError: When an argument is out of range.

    References:
        Chen, Rubanova, Bettencourt and Duvenaud (2018), Neural ordinary differential equations, section 5.1.

    Example:
        >>> spirals(num_train=4, num_validation=2, num_test=3).test
        Sequences((series 3, time 500, obs 2), 0 % missing, total 3)
    """
    sizes = part_sizes(num_train, num_validation, num_test)
    longest = _NUM_POINTS - _FIRST
    num_steps = whole_number(num_steps, "num_steps", 1, longest)
    num_test_steps = whole_number(num_test_steps, "num_test_steps", 1, longest)
    noise = real_number(noise, "noise", 0.0)
    angles = np.linspace(0.0, _ANGLE, _NUM_POINTS)
    curves = np.stack((_counter_clockwise(angles), _clockwise(angles)))

    def part(num_series: int, length: int, rng: np.random.Generator) -> Sequences:
        is_clockwise = rng.integers(2, size=num_series)
        start = rng.integers(_FIRST, _NUM_POINTS - length + 1, num_series)
        truth = curves[is_clockwise[:, None], start[:, None] + np.arange(length)]
        values = truth + noise * rng.standard_normal(truth.shape)
        context = {
            "truth": torch.from_numpy(truth).float(),
            "is_clockwise": torch.from_numpy(is_clockwise).bool(),
            "start": torch.from_numpy(start),
        }
        return Sequences(torch.from_numpy(values).float(), times=torch.from_numpy(angles[:length]), context=context)

    train, validation, test = zip(sizes, (num_steps, num_steps, num_test_steps), streams(seed, len(sizes)), strict=True)
    return Splits(part(*train), part(*validation) if num_validation else None, part(*test))


def _counter_clockwise(angles: np.ndarray) -> np.ndarray:
    radius = _GROWTH * angles
    return np.stack((radius * np.cos(angles) + _SHIFT, radius * np.sin(angles)), axis=-1)


def _clockwise(angles: np.ndarray) -> np.ndarray:
    turned = _ANGLE + 1 - angles
    radius = _SHRINK / turned
    return np.stack((radius * np.cos(turned) - _SHIFT, radius * np.sin(turned)), axis=-1)
