"""Checks of indices into the series and the steps of ``Sequences``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq.data._validation import as_tensor
from pyro_seq.errors import DataError, ShapeError


class OutOfRangeError(DataError, IndexError):
    """A series that does not exist; also an ``IndexError``, which ends a loop ``for series in data``."""


def series_selector(item: Any, num_series: int) -> slice | Tensor:
    """An index that keeps the series axis: a slice, or whole numbers from 0 to `num_series` - 1, on the host."""
    if isinstance(item, slice):
        try:
            chosen = range(num_series)[item]
        except TypeError as error:
            raise ShapeError(f"`index` must be a slice of whole numbers. Got {item}.") from error
        if len(chosen) and chosen.step > 0:
            return item
        item = list(chosen)
    if isinstance(item, tuple):
        raise ShapeError(f"`index` must select series only. Got {item!r}. Select steps with `take_steps` or `first`.")
    numbers = as_tensor(list(item) if isinstance(item, range) else item, "index").reshape(-1).cpu()
    if numbers.dtype == torch.bool:
        if numbers.shape != (num_series,):
            raise ShapeError(f"Boolean `index` must have an entry for each of {num_series} series. Got {len(numbers)}.")
        numbers = numbers.nonzero()[:, 0]
    if len(numbers) == 0:
        raise DataError(f"`index` must keep at least one of the {num_series} series. Got none.")
    if numbers.is_floating_point():
        raise DataError(f"`index` must hold whole numbers. Got {numbers.dtype}.")
    if int(numbers.min()) < -num_series or int(numbers.max()) >= num_series:
        raise OutOfRangeError(f"`index` must lie between 0 and {num_series - 1}. Got {numbers.tolist()}.")
    return torch.where(numbers < 0, numbers + num_series, numbers).long()


def step_selector(steps: Any, num_series: int, num_steps: int) -> Tensor:
    """Increasing whole numbers from 0 to `num_steps` - 1, (steps,) or (series, steps), on the host."""
    steps = as_tensor(steps, "steps").cpu()
    if steps.dtype == torch.bool and steps.shape == (num_steps,):
        steps = steps.nonzero()[:, 0]
    if steps.ndim not in (1, 2) or (steps.ndim == 2 and steps.shape[0] != num_series):
        raise ShapeError(f"`steps` must be (steps,) or (series {num_series}, steps). Got {tuple(steps.shape)}.")
    if steps.numel() == 0:
        return steps.long()
    if steps.is_floating_point() or steps.dtype == torch.bool:
        raise DataError(f"`steps` must hold whole numbers. Got {steps.dtype}.")
    steps = torch.where(steps < 0, steps + num_steps, steps).long()
    if int(steps.min()) < 0 or int(steps.max()) >= num_steps or bool((steps.diff(dim=-1) <= 0).any()):
        raise DataError(
            f"`steps` must increase and lie between 0 and {num_steps - 1}. Got {steps.tolist()}. "
            "Sort them; the horizon cannot be selected."
        )
    return steps
