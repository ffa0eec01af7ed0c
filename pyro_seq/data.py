"""``Sequences``: the one data container of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError, shape_text

_AXES = ("series", "time")


@dataclass(frozen=True, eq=False)
class Sequences:
    r"""A batch of sequences with masks, time stamps, inputs and a place in a larger data set.

    Series of different length are padded and masked. Hidden entries of `values` are set to zero on construction: a NaN
    under a mask leaves the loss finite and the gradient NaN. `times` may be longer than `values`; the surplus is the
    *horizon*, the steps to be forecast.

    Args:
        values: Observations (series, time, \*obs), anything `torch.as_tensor` takes; integers become floats. NaN marks a
            missing entry when no `mask` is given.
        mask: True where observed, (series, time) for whole steps or (series, time, \*obs) for single entries.
        times: Strictly increasing time stamps in any unit, (time,) shared or (series, time); counted steps 0, 1, 2, ...
            when absent. Kept in double precision, so that an offset such as a Unix time costs no accuracy.
        inputs: Known exogenous variables (series, time, input_dim) over all `times`, the horizon included.
        context: Named tensors with the series axis first, for what a model's `training_view` hands to its `guide`.
        index: Position of each series in the data set that this batch was taken from, (series,).
        total: Number of series of that data set.

    Raises:
        ShapeError: When axes do not fit together.
        DataError: When numbers cannot be used: infinite, NaN where `mask` says observed, times that do not increase.

    Example:
        >>> data = Sequences(torch.tensor([[[1.0], [float("nan")], [3.0]]]))
        >>> data.mask
        tensor([[ True, False,  True]])
        >>> data.extend(horizon=2).horizon
        2
    """

    values: Tensor
    mask: Tensor = None  # type: ignore[assignment]
    times: Tensor = None  # type: ignore[assignment]
    inputs: Tensor | None = None
    context: Mapping[str, Tensor] | None = None
    index: Tensor = None  # type: ignore[assignment]
    total: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        values = _as_float(self.values, "values")
        if values.ndim < 3:
            raise ShapeError(
                f"`values` must have the axes (series, time, *obs). Got {shape_text(values, _AXES)}. "
                "Add the missing axes, for example `values[..., None]` for one variable a step."
            )
        if values.shape[0] == 0:
            raise DataError(f"`values` must hold at least one series. Got {shape_text(values, _AXES)}.")
        mask = _checked_mask(self.mask, values)
        times = _checked_times(self.times, values)
        if self.inputs is not None:
            self._set(inputs=_checked_inputs(self.inputs, values, times))
        for name, extra in (self.context or {}).items():
            if extra.shape[:1] != values.shape[:1]:
                raise ShapeError(
                    f"`context[{name!r}]` must have the series axis first. Got {tuple(extra.shape)} for "
                    f"{values.shape[0]} series."
                )
        index = torch.arange(values.shape[0]) if self.index is None else torch.as_tensor(self.index)
        total = values.shape[0] if self.total is None else int(self.total)
        if index.shape != values.shape[:1] or total < values.shape[0]:
            raise ShapeError(
                f"`index` must name each of the {values.shape[0]} series and `total` must be at least that. "
                f"Got index {tuple(index.shape)}, total {total}."
            )
        entry_mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
        values = torch.where(entry_mask, values, values.new_zeros(()))
        self._set(values=values, mask=mask, times=times, index=index.to(values.device), total=total)

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------------ sizes

    @property
    def num_series(self) -> int:
        """Number of series in this batch."""
        return self.values.shape[0]

    @property
    def num_steps(self) -> int:
        """Number of seen steps, the time axis of `values`."""
        return self.values.shape[1]

    @property
    def horizon(self) -> int:
        """Number of steps in `times` beyond the seen ones."""
        return self.times.shape[-1] - self.num_steps

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return tuple(self.values.shape[2:])

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of `values`."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Device of `values`."""
        return self.values.device

    @property
    def step_mask(self) -> Tensor:
        """True where a step has at least one observed entry, (series, time)."""
        return self.mask if self.mask.ndim == 2 else self.mask.flatten(2).any(-1)

    @property
    def entry_mask(self) -> Tensor:
        r"""`mask` expanded to single entries, (series, time, \*obs)."""
        mask = self.mask
        return mask.reshape(mask.shape + (1,) * (self.values.ndim - mask.ndim)).expand_as(self.values)

    @property
    def lengths(self) -> Tensor:
        """Number of steps up to the last observed one, (series,)."""
        steps = torch.arange(1, self.num_steps + 1, device=self.device)
        return (self.step_mask * steps).amax(-1) if self.num_steps else steps.new_zeros(self.num_series)

    @property
    def weight(self) -> float:
        """Factor that scales this batch's sum up to the whole data set, ``total / num_series``."""
        return self.total / self.num_series

    def __len__(self) -> int:
        return self.num_series

    def __repr__(self) -> str:
        horizon = f", horizon {self.horizon}" if self.horizon else ""
        missing = 100.0 * float((~self.mask).double().mean()) if self.mask.numel() else 0.0
        return f"Sequences({shape_text(self.values, _AXES)}{horizon}, {missing:.3g} % missing, total {self.total})"

    # ------------------------------------------------------------------ views

    def __getitem__(self, item: Any) -> Sequences:
        """Select series; the result is a data set of its own."""
        item = [item] if isinstance(item, int) else item
        return dataclasses.replace(self._select(item), index=None, total=None)

    def minibatch(self, index: Tensor) -> Sequences:
        """Select series as a subsample that remembers its place in, and the size of, the whole data set."""
        return self._select(index)

    def _select(self, item: Any) -> Sequences:
        return dataclasses.replace(
            self,
            values=self.values[item],
            mask=self.mask[item],
            times=self.times[item] if self.times.ndim == 2 else self.times,
            inputs=None if self.inputs is None else self.inputs[item],
            context=None if self.context is None else {name: extra[item] for name, extra in self.context.items()},
            index=self.index[item],
        )

    def take_steps(self, steps: Tensor) -> Sequences:
        """Select seen steps, increasing, the same for all series (steps,) or for each its own (series, steps).

        The horizon is dropped: what was not seen cannot be selected.
        """
        seen = self.seen()
        steps = torch.as_tensor(steps, device=self.device)
        if steps.ndim == 1:
            return dataclasses.replace(
                seen,
                values=seen.values[:, steps],
                mask=seen.mask[:, steps],
                times=seen.times[..., steps],
                inputs=None if seen.inputs is None else seen.inputs[:, steps],
            )
        rows = torch.arange(self.num_series, device=self.device)[:, None]
        times = seen.times.expand(self.num_series, -1)
        return dataclasses.replace(
            seen,
            values=seen.values[rows, steps],
            mask=seen.mask[rows, steps],
            times=times[rows, steps],
            inputs=None if seen.inputs is None else seen.inputs[rows, steps],
        )

    def first(self, num_steps: int) -> Sequences:
        """The first steps of every series; the rest is cut off."""
        if not 0 <= num_steps <= self.num_steps:
            raise ShapeError(f"`num_steps` must lie between 0 and {self.num_steps}. Got {num_steps}.")
        return self.take_steps(torch.arange(num_steps))

    def hide(self, hidden: Tensor) -> Sequences:
        r"""Mark entries as missing; `hidden` is True there, (series, time) or (series, time, \*obs)."""
        hidden = torch.as_tensor(hidden, device=self.device)
        same = hidden.ndim == self.mask.ndim
        return dataclasses.replace(self, mask=(self.mask if same else self.entry_mask) & ~_widen(hidden, self.values, same))

    def extend(
        self, horizon: int | None = None, times: Tensor | None = None, inputs: Tensor | None = None
    ) -> Sequences:
        """Append a horizon: `horizon` steps at the median spacing, or the given future `times`.

        Args:
            horizon: Number of steps; 0 is allowed.
            times: Future time stamps (horizon,) or (series, horizon), later than every seen one.
            inputs: Inputs over the horizon (series, horizon, input_dim), needed when the data have inputs.
        """
        if (horizon is None) == (times is None):
            raise DataError("`extend` needs exactly one of `horizon` and `times`. Give the one you know.")
        seen = self.seen()
        future = _future_times(seen.times, horizon) if times is None else _as_times(times, self.device)
        if max(future.ndim, seen.times.ndim) == 2:
            past = seen.times.expand(self.num_series, -1)
            future = future.expand(self.num_series, -1)
        else:
            past = seen.times
        if self.inputs is not None:
            if inputs is None and future.shape[-1]:
                raise ShapeError("`inputs` over the horizon is missing, and these data have inputs. Pass `inputs=`.")
            parts = [seen.inputs] if inputs is None else [seen.inputs, torch.as_tensor(inputs).to(seen.inputs)]
            inputs = torch.cat(parts, 1)
        return dataclasses.replace(seen, times=torch.cat([past, future], -1), inputs=inputs)

    def seen(self) -> Sequences:
        """These data without their horizon."""
        if not self.horizon:
            return self
        steps = self.num_steps
        inputs = None if self.inputs is None else self.inputs[:, :steps]
        return dataclasses.replace(self, times=self.times[..., :steps], inputs=inputs)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Sequences:
        """Move to a device and convert the floating fields (masks stay boolean, times stay double)."""

        def move(field: Tensor | None) -> Tensor | None:
            if field is None:
                return None
            return field.to(device=device, dtype=dtype if field.is_floating_point() else None)

        return dataclasses.replace(
            self,
            values=move(self.values),
            mask=move(self.mask),
            times=self.times.to(device=device),
            inputs=move(self.inputs),
            context=None if self.context is None else {name: move(extra) for name, extra in self.context.items()},
            index=move(self.index),
        )


def _widen(mask: Tensor, values: Tensor, same: bool) -> Tensor:
    return mask if same else mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)).expand_as(values)


def _as_float(values: Any, name: str) -> Tensor:
    try:
        values = torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"`{name}` must be an array of numbers with equal lengths along every axis. Got {type(values).__name__} "
            f"({error}). For lists of different length use `Sequences.from_list`."
        ) from error
    if values.is_complex():
        raise DataError(f"`{name}` must be real. Got {values.dtype}. Stack the real and imaginary parts.")
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _checked_mask(mask: Any, values: Tensor) -> Tensor:
    if bool(torch.isinf(values).any()):
        where = tuple(torch.isinf(values).nonzero()[0].tolist())
        raise DataError(f"`values` must be finite. Got an infinite entry at {where}. Remove it or replace it by NaN.")
    missing = torch.isnan(values)
    if mask is None:
        whole_steps = missing.flatten(2).any(-1)
        by_step = bool((missing.flatten(2).all(-1) == whole_steps).all())
        return ~whole_steps if by_step else ~missing
    mask = torch.as_tensor(mask, device=values.device)
    if mask.dtype != torch.bool:
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise DataError(f"`mask` must be boolean, True where observed. Got {mask.dtype} with values besides 0 and 1.")
        mask = mask.bool()
    if mask.shape not in (values.shape[:2], values.shape):
        raise ShapeError(
            f"`mask` must be (series, time) or (series, time, *obs). Got {tuple(mask.shape)} for `values` "
            f"{shape_text(values, _AXES)}."
        )
    contradiction = missing & mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    if bool(contradiction.any()):
        where = tuple(contradiction.nonzero()[0].tolist())
        raise DataError(
            f"`values` is NaN at {int(contradiction.sum())} entries that `mask` calls observed, first at {where}. "
            "Set the mask to False there, or leave `mask` out to treat every NaN as missing."
        )
    return mask


def _as_times(times: Any, device: torch.device) -> Tensor:
    try:
        return torch.as_tensor(times, dtype=torch.float64, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"`times` must be numbers. Got {type(times).__name__} ({error}).") from error


def _checked_times(times: Any, values: Tensor) -> Tensor:
    if times is None:
        return torch.arange(values.shape[1], dtype=torch.float64, device=values.device)
    times = _as_times(times, values.device)
    text = shape_text(values, _AXES)
    if times.ndim not in (1, 2) or (times.ndim == 2 and times.shape[0] != values.shape[0]):
        raise ShapeError(f"`times` must be (time,) or (series, time). Got {tuple(times.shape)} for `values` {text}.")
    if times.shape[-1] < values.shape[1]:
        raise ShapeError(
            f"`times` must cover every observed step. Got `len(times)` = {times.shape[-1]} but `values` has "
            f"{values.shape[1]} steps: {text}. Pass the observed times first and the horizon after them."
        )
    if not bool(torch.isfinite(times).all()):
        where = tuple((~torch.isfinite(times)).nonzero()[0].tolist())
        raise DataError(f"`times` must be finite. Got {float(times[where])} at {where}.")
    backwards = times.diff(dim=-1) <= 0
    if bool(backwards.any()):
        where = tuple(backwards.nonzero()[0].tolist())
        before, after = float(times[where]), float(times[(*where[:-1], where[-1] + 1)])
        raise DataError(
            f"`times` must increase from step to step. Got {before:g} followed by {after:g} at {where}. "
            "Sort the steps; `Sequences.from_dataframe` sorts, and averages what shares a time stamp."
        )
    return times


def _checked_inputs(inputs: Any, values: Tensor, times: Tensor) -> Tensor:
    inputs = _as_float(inputs, "inputs").to(values)
    if inputs.ndim != 3 or inputs.shape[:2] != (values.shape[0], times.shape[-1]):
        raise ShapeError(
            f"`inputs` must be (series {values.shape[0]}, time {times.shape[-1]}, input_dim), the horizon included. "
            f"Got {tuple(inputs.shape)}."
        )
    if not bool(torch.isfinite(inputs).all()):
        where = tuple((~torch.isfinite(inputs)).nonzero()[0].tolist())
        raise DataError(f"`inputs` must be finite, for they are known. Got a bad entry at {where}. Fill it first.")
    return inputs


def _future_times(times: Tensor, horizon: int | None) -> Tensor:
    if horizon is None or int(horizon) != horizon or horizon < 0:
        raise DataError(f"`horizon` must be a whole number of steps, 0 or more. Got {horizon!r}.")
    if times.shape[-1] == 0:
        return torch.arange(int(horizon), dtype=times.dtype, device=times.device)
    step = times.diff(dim=-1).median(-1, keepdim=True).values if times.shape[-1] > 1 else torch.ones_like(times)
    return times[..., -1:] + step * torch.arange(1, int(horizon) + 1, dtype=times.dtype, device=times.device)
