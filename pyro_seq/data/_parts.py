"""Splits of a data set by series and into windows; `split` is a method of ``Sequences``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq.data import _validation as check
from pyro_seq.errors import DataError, ShapeError

if TYPE_CHECKING:
    from pyro_seq.data.sequences import Sequences


def split(data: Sequences, sizes: Sequence[float], *, seed: int) -> tuple[Sequences, ...]:  # noqa: D417
    """Split the series at random into disjoint data sets.

    Args:
        sizes: Fractions that sum to one, or whole numbers that sum to the number of series.
        seed: Seed of the shuffle.

    Raises:
        DataError: When the sizes do not add up, or a part would be empty.

    Example:
        >>> from pyro_seq.data import Sequences
        >>> train, test = Sequences(torch.zeros(10, 5, 1)).split([0.8, 0.2], seed=0)
        >>> len(train), len(test)
        (8, 2)
    """
    generator = torch.Generator().manual_seed(seed_number(seed))
    order = torch.randperm(data.num_series, generator=generator)
    return tuple(data[part] for part in order.split(_counts(sizes, data.num_series)))


def window_steps(step_mask: Tensor, length: Any, stride: Any) -> tuple[Tensor, Tensor]:
    """The series (window,) and the steps (window, length) of all windows with at least one observed entry."""
    length, stride = whole_number(length, "length", 1), whole_number(stride, "stride", 1)
    if length > step_mask.shape[1]:
        raise ShapeError(f"`length` must lie between 1 and the {step_mask.shape[1]} steps there are. Got {length}.")
    series, start = step_mask.unfold(1, length, stride).any(-1).nonzero(as_tuple=True)
    if len(series) == 0:
        raise DataError("`windows` needs at least one observed entry. Got none in any window. Check `mask`.")
    return series, start[:, None] * stride + torch.arange(length, device=step_mask.device)


def _counts(sizes: Any, num_series: int) -> list[int]:
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
