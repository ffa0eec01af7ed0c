"""Irregular sinusoids: sine waves of random frequency and level, seen at random times."""

from __future__ import annotations

import numpy as np
import torch

from pyro_seq._arguments import real_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._arguments import part_sizes, streams
from pyro_seq.datasets._splits import Splits

_FREQUENCIES = (0.4, 0.8)
_LEVEL, _LEVEL_SCALE = 1.0, 0.1


def irregular_sinusoids(
    *,
    num_train: int = 800,
    num_validation: int = 0,
    num_test: int = 200,
    num_steps: int = 100,
    duration: float = 5.0,
    noise: float = 0.01,
    seed: int = 0,
) -> Splits:
    r"""Sine waves of amplitude 1, with frequency, level and times of observation drawn at random.

    .. math::
        y_i(t) &= \ell_i + \sin(2 \pi f_i t), \qquad f_i \sim U[0.4, 0.8], \quad \ell_i \sim N(1, 0.1^2) \\
        x_{i0} &= y_i(0), \qquad x_{ik} = y_i(t_k) + \mathrm{noise} \cdot U[0, 1)

    The noise of the published set is one-sided: it raises values by 0.005 on average, except the first. As there, all
    series of all parts share one grid of times, 0 followed by sorted uniform draws.

    All points are observed. The usual task shows a model 10 to 50 % of a test series and scores all of it: hide the
    rest with `observe_share`, which keeps the same points for the same seed. To draw new points of a training series at
    every step, use the view `pyro_seq.training.views.RandomSteps`. The published training loss uses all points,
    including those not given to the model; a loss on the given points only is a harder task.

    Args:
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Points per series.
        duration: Upper limit of the times.
        noise: Largest value of the noise.
        seed: The times and each part have separate random streams, so that a part does not depend on the sizes of the
            others.

    Returns:
        Splits with values (series, time, 1), single precision, and shared times. The context holds each series'
        `frequency`, its `level`, and the `truth` (series, time, 1) without noise.

    Raises:
        DataError: When an argument is out of range.

    References:
        Rubanova, Chen and Duvenaud (2019), Latent ordinary differential equations for irregularly-sampled time series.

    Example:
        >>> train, _, test = irregular_sinusoids()
        >>> observe_share(test, 0.1).mask.sum(1).unique()
        tensor([10])
    """
    sizes, num_steps = part_sizes(num_train, num_validation, num_test), whole_number(num_steps, "num_steps", 1)
    duration, noise = real_number(duration, "duration", 1e-9), real_number(noise, "noise", 0.0)
    grid, *parts = streams(seed, 1 + len(sizes))
    times = np.concatenate([[0.0], np.sort(grid.uniform(0.0, duration, num_steps - 1))])

    def part(num_series: int, rng: np.random.Generator) -> Sequences:
        frequency = rng.uniform(*_FREQUENCIES, num_series)
        level = rng.normal(_LEVEL, _LEVEL_SCALE, num_series)
        truth = level[:, None] + np.sin(2 * np.pi * frequency[:, None] * times)
        values = truth + noise * rng.uniform(size=truth.shape) * (np.arange(num_steps) > 0)
        context = {"frequency": frequency, "level": level, "truth": truth[..., None]}
        return Sequences(
            torch.from_numpy(values[..., None]).float(),
            times=torch.from_numpy(times),
            context={name: torch.from_numpy(extra).float() for name, extra in context.items()},
        )

    train, validation, test = zip(sizes, parts, strict=True)
    return Splits(part(*train), part(*validation) if num_validation else None, part(*test))


def observe_share(data: Sequences, share: float, *, seed: int = 0) -> Sequences:
    r"""Keep a random share of each series' observed steps and hide the others, for any data set.

    Of n observed steps, `share` times n remain, rounded, and at least one. With the same seed, a larger share keeps the
    steps of a smaller one and adds others.

    Args:
        data: The series.
        share: Above 0 and up to 1.
        seed: Seed of the choice. The first series keep their steps when others are added after them.

    Returns:
        The same series with the mask narrowed; hidden values are zero there, so keep `data` for the scores.

    Raises:
        DataError: When the share is out of range.

    Example:
        >>> data = observe_share(Sequences(torch.ones(3, 10, 1)), 0.3)
        >>> data.mask.sum(1)
        tensor([3, 3, 3])
    """
    share = real_number(share, "share", np.finfo(float).tiny, 1.0)
    (rng,) = streams(seed, 1)
    seen = data.step_mask.cpu().numpy()
    order = np.where(seen, rng.uniform(size=seen.shape), np.inf)
    rank = order.argsort(axis=1).argsort(axis=1)
    count = np.maximum(np.rint(share * seen.sum(axis=1, keepdims=True)), 1)
    return data.hide(torch.from_numpy(rank >= count).to(data.device))
