"""The fields of ``Sequences`` from arrays, and from ragged lists.

The docstrings become those of the constructors of `Sequences` built from these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import described
from pyro_seq.data import _validation as check
from pyro_seq.data.calendar import common
from pyro_seq.data.labels import Labels
from pyro_seq.errors import DataError, ShapeError


def from_numpy(
    values: Any,
    *,
    mask: Any = None,
    times: Any = None,
    inputs: Any = None,
    static: Any = None,
    labels: Labels = Labels(),
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    r"""Make a data set from arrays of equal length.

    Arrays are copied, of any numeric dtype, memory order and byte order; memory maps are read. Masked entries of a
    `numpy.ma.MaskedArray` count as missing. Numbers are not rescaled: divide frames in 0 to 255 by 255 yourself.

    Args:
        values: Observations (series, time, \*obs); NaN is missing when no `mask` is given.
        mask: True where observed, (series, time) or (series, time, \*obs).
        times: Time stamps (time,) or (series, time), numbers or dates, the horizon included.
        inputs: Exogenous variables (series, time, input_dim), the horizon included.
        static: Covariates of whole series, (series, static_dim).
        labels: Names of series, variables, inputs and static covariates.
        dtype: `torch.float32` or `torch.float64`; the type of `values` by default.

    Returns:
        The data set.

    Raises:
        ShapeError: When axes do not fit together.
        DataError: When numbers cannot be used.

    Example:
        >>> import numpy as np
        >>> from pyro_seq.data import Sequences
        >>> Sequences.from_numpy(np.zeros((16, 25, 2)), dtype=torch.float32)
        Sequences((series 16, time 25, obs 2), 0 % missing, total 16)
    """
    fields = {"values": values, "mask": mask, "times": times, "inputs": inputs, "static": static, "labels": labels}
    return fields | {"dtype": dtype}


def from_list(
    values: Sequence[Any],
    *,
    times: Sequence[Any] | None = None,
    masks: Sequence[Any] | None = None,
    inputs: Sequence[Any] | None = None,
    static: Any = None,
    labels: Labels = Labels(),
) -> dict[str, Any]:
    r"""Make a data set from series of different length, padded at the end and masked there.

    Over the padding, the time stamps continue at the median spacing of the series and inputs are zero. Time stamps are
    shared, (time,), if every series starts like the longest one. `forecast(posterior, data, horizon=...)` begins at the
    end of each series; a horizon in `times` begins after the padding.

    Args:
        values: For each series its observations (time_i, \*obs); a length of zero is allowed. NaN is missing when no
            `masks` are given.
        times: For each series its time stamps (time_i,), numbers or dates; counted steps by default.
        masks: For each series (time_i,) or (time_i, \*obs), True where observed.
        inputs: For each series its exogenous variables (time_i, input_dim).
        static: Covariates of whole series, (series, static_dim).
        labels: Names of series, variables, inputs and static covariates.

    Returns:
        The data set, as long as the longest series.

    Raises:
        ShapeError: When axes do not fit together.
        DataError: When numbers cannot be used.

    Example:
        >>> from pyro_seq.data import Sequences
        >>> data = Sequences.from_list([torch.ones(3, 1), torch.ones(2, 1)], times=[[0.0, 1.0, 2.0], [5.0, 7.0]])
        >>> data.lengths
        tensor([3, 2])
        >>> data.times[1]
        tensor([5., 7., 9.], dtype=torch.float64)
    """
    if not isinstance(values, list | tuple) or not values:
        raise DataError(f"`values` must be a list with one array for each series. Got {described(values)}.")
    parts = [check.as_float(part, f"values[{i}]") for i, part in enumerate(values)]
    for i, part in enumerate(parts):
        if part.ndim < 2 or part.shape[1:] != parts[0].shape[1:]:
            raise ShapeError(
                f"`values[{i}]` must be (time, *obs) with the *obs of the first series, {tuple(parts[0].shape[1:])}. "
                f"Got {tuple(part.shape)}. Add a missing axis with `[:, None]`."
            )
    lengths = torch.tensor([len(part) for part in parts])
    fields: dict[str, Any] = {"values": _padded(parts, float("nan")), "static": static, "labels": labels}
    if times is not None:
        calendar = common(times, "times") if isinstance(times, list | tuple) else None
        convert = functools.partial(check.as_times, device=torch.device("cpu"), calendar=calendar)
        stamps = _aligned(times, "times", lengths, axes=1, convert=convert)
        fields |= {"times": _padded_times(stamps, lengths), "calendar": calendar}
    if masks is not None:
        fields["mask"] = _padded_mask(_aligned(masks, "masks", lengths), parts)
    if inputs is not None:
        fields["inputs"] = _padded(_aligned(inputs, "inputs", lengths, axes=2, convert=check.as_float), 0.0)
    return fields


# ---------------------------------------------------------------------- padding


def _padded(parts: list[Tensor], fill: float) -> Tensor:
    widest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    parts = [part.to(device=parts[0].device, dtype=widest) for part in parts]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)


def _padded_times(parts: list[Tensor], lengths: Tensor) -> Tensor:
    longest = max(parts, key=len)
    if all(torch.equal(part, longest[: len(part)]) for part in parts):
        return longest
    padded = _padded(parts, float("nan"))
    gaps = torch.cat([padded.diff(dim=-1), padded.new_full((len(parts), 1), float("nan"))], -1)
    steps = gaps.nanmedian(-1, keepdim=True).values.nan_to_num(nan=1.0)
    last = lengths[:, None] - 1
    start = torch.where(last >= 0, padded.gather(1, last.clamp(min=0)), -steps)
    beyond = torch.arange(len(longest)) - last
    return torch.where(beyond > 0, start + steps * beyond, padded)


def _padded_mask(masks: list[Tensor], values: list[Tensor]) -> Tensor:
    for i, (mask, part) in enumerate(zip(masks, values, strict=True)):
        if mask.shape not in (part.shape[:1], part.shape):
            raise ShapeError(
                f"`masks[{i}]` must be (time,) or (time, *obs). Got {tuple(mask.shape)} for `values[{i}]` "
                f"{tuple(part.shape)}."
            )
    if any(mask.ndim > 1 for mask in masks):
        masks = [check.widen(mask, part).expand_as(part) for mask, part in zip(masks, values, strict=True)]
    return _padded(masks, 0.0)


def _aligned(
    parts: Any,
    name: str,
    lengths: Tensor,
    axes: int | None = None,
    convert: Callable[..., Tensor] = check.as_tensor,
) -> list[Tensor]:
    """One array per series, each as long as its series and with the trailing axes of the first."""
    if not isinstance(parts, list | tuple) or len(parts) != len(lengths):
        raise ShapeError(
            f"`{name}` must be a list of one array for each of {len(lengths)} series. Got {described(parts)}."
        )
    tensors = [convert(part, name=f"{name}[{i}]").cpu() for i, part in enumerate(parts)]
    for i, (part, length) in enumerate(zip(tensors, lengths.tolist(), strict=True)):
        if part.shape[:1] != (length,) or (axes and (part.ndim != axes or part.shape[1:] != tensors[0].shape[1:])):
            raise ShapeError(
                f"`{name}[{i}]` must have {length} steps, as `values[{i}]` has"
                + (f", and {axes} axes in all, of equal size in every series" if axes else "")
                + f". Got {tuple(part.shape)}."
            )
    return tensors
