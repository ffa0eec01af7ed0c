"""Dividing ``Sequences`` by series and by steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pyro_seq import _validation as check
from pyro_seq.errors import DataError, ShapeError

if TYPE_CHECKING:
    from pyro_seq.data import Sequences


def split(data: Sequences, sizes: Sequence[float], *, seed: int) -> tuple[Sequences, ...]:
    """Deal the series out at random into data sets that share none.

    Args:
        data: The data set.
        sizes: Fractions that sum to one, or whole numbers that sum to the number of series.
        seed: Seed of the shuffle.

    Returns:
        One data set for each size, none empty.

    Raises:
        DataError: When the sizes do not sum up, or leave a part empty.

    Example:
        >>> from pyro_seq.data import Sequences
        >>> train, test = Sequences(torch.zeros(10, 5, 1)).split([0.8, 0.2], seed=0)
        >>> len(train), len(test)
        (8, 2)
    """
    counts = _counts(sizes, data.num_series)
    generator = torch.Generator().manual_seed(check.whole_number(seed, "seed", 0, 2**63 - 1))
    return tuple(data[part] for part in torch.randperm(data.num_series, generator=generator).split(counts))


def windows(data: Sequences, length: int, *, stride: int = 1) -> Sequences:
    """Cut every series into windows, each a series that keeps its time stamps.

    A window without any observed entry is dropped, and so are the horizon and what is left over at the end. Windows
    overlap when `stride` is below `length`: `split` first, or parts will share observations.

    Args:
        data: The data set.
        length: Steps a window.
        stride: Steps from the start of one window to that of the next.

    Returns:
        All windows of the first series, then those of the second, and so on.

    Raises:
        ShapeError: When `length` is above the number of steps.
        DataError: When nothing is observed.
    """
    length, stride = check.whole_number(length, "length", 1), check.whole_number(stride, "stride", 1)
    if length > data.num_steps:
        raise ShapeError(f"`length` must lie between 1 and the {data.num_steps} steps there are. Got {length}.")
    seen = data.seen()
    series, start = seen.step_mask.unfold(1, length, stride).any(-1).nonzero(as_tuple=True)
    if len(series) == 0:
        raise DataError("`windows` needs at least one observed entry. Got none in any window. Check `mask`.")
    rows, steps = series[:, None], start[:, None] * stride + torch.arange(length, device=data.device)
    context = None if seen.context is None else {name: extra[series] for name, extra in seen.context.items()}
    return seen._with(
        values=seen.values[rows, steps],
        mask=seen.mask[rows, steps],
        times=seen.times.expand(data.num_series, -1)[rows, steps],
        inputs=None if seen.inputs is None else seen.inputs[rows, steps],
        context=context,
        index=torch.arange(len(series), device=data.device),
        total=len(series),
    )


def _counts(sizes: Sequence[float], num_series: int) -> list[int]:
    parts = check.as_tensor(sizes, "sizes").reshape(-1)
    if parts.is_floating_point():
        ends = (parts.double().cumsum(0) * num_series).round().long()
        whole, counts = abs(float(parts.sum()) - 1.0) < 1e-6, ends.diff(prepend=ends.new_zeros(1))
    else:
        whole, counts = int(parts.sum()) == num_series, parts.long()
    if not whole or bool((counts < 1).any()):
        raise DataError(
            f"`sizes` must be fractions that sum to 1 or whole numbers that sum to {num_series}, with at least one "
            f"series each. Got {parts.tolist()}. Add a part for the rest."
        )
    return counts.tolist()
