"""Checks of the arguments of ``Sequences``; each returns the argument in its final form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_seq._arguments import described, whole_number
from pyro_seq._host import uploaded
from pyro_seq.data.calendar import Calendar, as_dates, counted
from pyro_seq.data.labels import Labels
from pyro_seq.errors import DataError, ShapeError, shape_text

AXES = ("series", "time")
KEPT_DTYPES = (torch.float32, torch.float64)


# ---------------------------------------------------------------------- conversion


def as_tensor(values: Any, name: str) -> Tensor:
    """Copy anything array-like into a dense, contiguous, detached tensor of real numbers that shares no memory."""
    try:
        tensor = _copy(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"`{name}` must be an array of numbers with equal lengths along every axis. Got {type(values).__name__} "
            f"({error}). Convert it first, dates in letters by `pandas.to_datetime`; for series of different length "
            "use `Sequences.from_list`."
        ) from error
    if tensor.is_complex():
        raise DataError(f"`{name}` must be real. Got {tensor.dtype}. Stack the real and imaginary parts.")
    return tensor


def _copy(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_nested:
            raise TypeError(f"layout {values.layout}")
        return values.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(values, list | tuple):
        leaf: Any = values
        while isinstance(leaf, list | tuple) and leaf:
            leaf = leaf[0]
        if isinstance(leaf, list | tuple | bool | int | float):
            return torch.as_tensor(values)
        return torch.stack([_copy(value) for value in values])
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    array = np.asarray(values)
    if array.dtype.kind in "SU":
        raise TypeError(f"texts, first {array.flat[0]!s}" if array.size else "texts")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=True))


def as_float(values: Any, name: str) -> Tensor:
    """Like `as_tensor`; single and double precision are kept, other types become the default floating type.

    Whole numbers that this type cannot hold become double precision.
    """
    tensor = as_tensor(values, name)
    if tensor.dtype in KEPT_DTYPES:
        return tensor
    for dtype in (torch.get_default_dtype(), torch.float64):
        result = tensor.to(dtype)
        if tensor.is_floating_point() or tensor.dtype.itemsize < 4 or torch.equal(result.to(tensor.dtype), tensor):
            return result
    raise DataError(
        f"`{name}` must be whole numbers of at most 2^53, beyond which double precision has gaps. Got up to "
        f"{int(tensor.max())}. Subtract an offset first."
    )


def as_mask(mask: Any, values: Tensor, name: str = "mask") -> Tensor:
    r"""Boolean mask (series, time) or (series, time, \*obs) of `values`."""
    mask = uploaded(as_tensor(mask, name), values.device)
    if mask.dtype != torch.bool:
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise DataError(
                f"`{name}` must be boolean. Got {mask.dtype} with entries besides 0 and 1. Compare it first."
            )
        mask = mask.bool()
    if mask.shape not in (values.shape[:2], values.shape):
        raise ShapeError(
            f"`{name}` must be (series, time) or (series, time, *obs). Got {tuple(mask.shape)} for `values` "
            f"{shape_text(values, AXES)}."
        )
    return mask


def as_times(times: Any, device: torch.device, calendar: Calendar | None, name: str = "times") -> Tensor:
    """Time stamps in double precision; dates are counted by `calendar`."""
    dates = as_dates(times, name)
    if dates is not None:
        return counted(dates, calendar, name).reshape(np.shape(times)).to(device)
    numbers = _as_array(times) if isinstance(times, list | tuple) else times
    return as_tensor(numbers, name).to(device=device, dtype=torch.float64)


def _as_array(numbers: list | tuple) -> Any:
    """A list of numbers as an array, in double precision unlike a tensor; other lists unchanged."""
    try:
        array = np.asarray(numbers)
    except (TypeError, ValueError, RuntimeError):  # such as rows of different lengths
        return numbers
    return array if array.dtype.kind in "biuf" else numbers


def as_device(device: Any) -> torch.device | None:
    """A device, or the device of that name; None means that tensors are not moved."""
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"`device` must be one that torch knows, such as 'cpu' or 'cuda:0'. Got {device!r}.") from error


def require_kept(dtype: torch.dtype | None) -> None:
    """Raise for a floating type that data cannot have."""
    if dtype is not None and dtype not in KEPT_DTYPES:
        raise DataError(
            f"`dtype` must be torch.float32 or torch.float64. Got {dtype}. Mixed precision is set where a model is "
            "trained; data stay in full."
        )


def moved(field: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """A field on a device, with floating numbers converted to `dtype`; raises if `dtype` cannot hold all of them."""
    result = field.to(device=device, dtype=dtype if field.is_floating_point() else None)
    if result.dtype.itemsize < field.dtype.itemsize and bool((result.isinf() & field.isfinite()).any()):
        raise DataError(f"`dtype` {dtype} must hold every number. Got one above its range. Rescale first.")
    return result


def widen(mask: Tensor, values: Tensor) -> Tensor:
    """Give `mask` as many axes as `values`, the added ones of size one."""
    return mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))


# ---------------------------------------------------------------------- fields


def checked_values(values: Any) -> Tensor:
    """Observations with at least one series and one entry per step; NaN is not yet replaced."""
    if hasattr(values, "columns"):
        raise DataError(
            f"`values` must be an array (series, time, *obs). Got the table {described(values)}. Read it by "
            "`Sequences.from_dataframe`."
        )
    values = as_float(values, "values")
    text = shape_text(values, AXES)
    if values.ndim < 3:
        raise ShapeError(
            f"`values` must have the axes (series, time, *obs). Got {text}. "
            "Add the missing axes, for example `values[..., None]` for one variable a step."
        )
    if values.shape[0] == 0:
        raise DataError(f"`values` must hold at least one series. Got {text}.")
    if 0 in values.shape[2:]:
        raise ShapeError(f"`values` must hold at least one entry a step. Got {text}.")
    return values


def checked_mask(mask: Any, values: Tensor) -> Tensor:
    """The given mask, or the mask implied by NaN in `values`: by step if that suffices, otherwise by entry."""
    mask = None if mask is None else as_mask(mask, values)
    # A finite sum proves every entry finite, in one pass and without a temporary.
    if bool(values.sum().isfinite()):
        return values.new_ones(values.shape[:2], dtype=torch.bool) if mask is None else mask
    infinite = values.isinf()
    if bool(infinite.any()):
        raise DataError(
            f"`values` must be finite. Got {int(infinite.sum())} infinite entries, first at {_first(infinite)} "
            "(series, time, *obs). Remove them or replace them by NaN."
        )
    missing = values.isnan()
    if mask is None:
        whole_steps = missing.flatten(2).any(-1)
        by_step = bool((missing.flatten(2).all(-1) == whole_steps).all())
        return ~whole_steps if by_step else ~missing
    contradiction = missing & widen(mask, values)
    if bool(contradiction.any()):
        raise DataError(
            f"`values` is NaN at {int(contradiction.sum())} entries that `mask` calls observed, first at "
            f"{_first(contradiction)} (series, time, *obs). Set the mask to False there, or leave `mask` out to treat "
            "every NaN as missing."
        )
    return mask


def checked_calendar(calendar: Any, times: Any) -> Calendar | None:
    """The given calendar, or the calendar of the dates in `times`."""
    if calendar is not None and not isinstance(calendar, Calendar):
        raise DataError(f"`calendar` must be a `Calendar`. Got {calendar!r}. Leave it out: dates bring their own.")
    dates = None if calendar is not None or times is None else as_dates(times, "times")
    return calendar if dates is None or not hasattr(dates, "tz") else Calendar.of(dates)


def checked_times(times: Any, values: Tensor, calendar: Calendar | None) -> Tensor:
    """Time stamps that cover `values` and increase."""
    if times is None:
        return torch.arange(values.shape[1], dtype=torch.float64, device=values.device)
    times = as_times(times, values.device, calendar)
    if times.ndim not in (1, 2) or (times.ndim == 2 and times.shape[0] != values.shape[0]):
        raise ShapeError(
            f"`times` must be (time,) or (series, time). Got {tuple(times.shape)} for `values` "
            f"{shape_text(values, AXES)}."
        )
    if times.shape[-1] < values.shape[1]:
        raise ShapeError(
            f"`times` must cover every observed step. Got `len(times)` = {times.shape[-1]} but `values` has "
            f"{values.shape[1]} steps: {shape_text(values, AXES)}. Pass the observed times first and the horizon after "
            "them."
        )
    if not bool(times.isfinite().all()):
        where = _first(~times.isfinite())
        raise DataError(f"`times` must be finite. Got {float(times[where])} at {where}. Drop that step.")
    backwards = times.diff(dim=-1) <= 0
    if bool(backwards.any()):
        where = _first(backwards)
        before, after = float(times[where]), float(times[(*where[:-1], where[-1] + 1)])
        raise DataError(
            f"`times` must increase from step to step. Got {before!r} followed by {after!r} at {where}. "
            "Sort the steps; `Sequences.from_dataframe` sorts, and averages what shares a time stamp."
        )
    return times


def checked_inputs(inputs: Any, values: Tensor, times: Tensor) -> Tensor | None:
    """Finite inputs over all `times`."""
    if inputs is None:
        return None
    inputs = as_float(inputs, "inputs").to(values)
    if inputs.ndim != 3 or inputs.shape[:2] != (values.shape[0], times.shape[-1]):
        raise ShapeError(
            f"`inputs` must be (series {values.shape[0]}, time {times.shape[-1]}, input_dim), the horizon included. "
            f"Got {tuple(inputs.shape)}."
        )
    if not bool(inputs.isfinite().all()):
        where = _first(~inputs.isfinite())
        raise DataError(
            f"`inputs` must be finite, for they are known. Got {float(inputs[where])} at {where} "
            "(series, time, input). Fill it and add what was missing as a further input: `fill_inputs(inputs)` of "
            "`pyro_seq.data` does both."
        )
    return inputs


def checked_static(static: Any, values: Tensor) -> Tensor | None:
    """Finite covariates of each series."""
    if static is None:
        return None
    static = as_float(static, "static").to(values)
    if static.ndim != 2 or static.shape[0] != values.shape[0]:
        raise ShapeError(
            f"`static` must be (series {values.shape[0]}, static_dim). Got {tuple(static.shape)}. What changes from "
            "step to step belongs to `inputs`."
        )
    if not bool(static.isfinite().all()):
        where = _first(~static.isfinite())
        raise DataError(
            f"`static` must be finite, for it is known. Got {float(static[where])} at {where} (series, static). "
            "Fill it and add what was missing as further columns: "
            "`torch.cat([static.nan_to_num(), static.isnan()], -1)`."
        )
    return static


def check_labels(labels: Any, values: Tensor, inputs: Tensor | None, static: Tensor | None) -> None:
    """Raise if the number of labels is not the size of their axis."""
    if not isinstance(labels, Labels):
        raise DataError(
            f"`labels` must be `Labels`. Got {type(labels).__name__}. Write `labels=Labels(variables=[...])`, from "
            "`pyro_seq.data`."
        )
    labels.check(
        {
            "variables": values.shape[2] if values.ndim == 3 else None,
            "inputs": None if inputs is None else inputs.shape[-1],
            "static": None if static is None else static.shape[-1],
            "series": values.shape[0],
        }
    )


def checked_context(context: Any, values: Tensor) -> dict[str, Tensor] | None:
    """Tensors with the series axis first, on the device of `values`."""
    if context is None:
        return None
    if not isinstance(context, Mapping):
        raise DataError(f"`context` must map names to tensors. Got {type(context).__name__}.")
    checked = {}
    for name, extra in context.items():
        extra = (extra if isinstance(extra, Tensor) else as_tensor(extra, f"context[{name!r}]")).to(values.device)
        if extra.shape[:1] != values.shape[:1]:
            raise ShapeError(
                f"`context[{name!r}]` must have the series axis first. Got {tuple(extra.shape)} for "
                f"{values.shape[0]} series."
            )
        checked[name] = extra
    return checked


def checked_index(index: Any, total: Any, values: Tensor) -> tuple[Tensor, int]:
    """Position of each series in the data set, and the size of that data set."""
    num_series = values.shape[0]
    total = num_series if total is None else whole_number(total, "total", 1, 2**63 - 1)
    if index is None:
        index = torch.arange(num_series)
    else:
        index = as_tensor(index, "index")
    if index.shape != (num_series,) or total < num_series:
        raise ShapeError(
            f"`index` must name each of the {num_series} series and `total` must be at least that. "
            f"Got index {tuple(index.shape)}, total {total}."
        )
    if index.is_floating_point() or index.dtype == torch.bool or not bool(((index >= 0) & (index < total)).all()):
        raise DataError(f"`index` must hold whole numbers from 0 to {total - 1}. Got {index}.")
    return index.to(device=values.device, dtype=torch.int64), total


def _first(flags: Tensor) -> tuple[int, ...]:
    return tuple(flags.nonzero()[0].tolist())
