"""``Sequences``: the one data container of the library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_seq import _frame, _horizon, _makers, _npz, _parts
from pyro_seq import _validation as check
from pyro_seq._selection import series_selector, step_selector
from pyro_seq.errors import DataError, ShapeError, shape_text


@dataclass(frozen=True, eq=False)
class Sequences:
    r"""A batch of sequences with masks, time stamps, inputs and a place in a larger data set.

    Series of different length are padded and masked. Hidden entries of `values` are set to zero on construction: a NaN
    under a mask leaves the loss finite and the gradient NaN. `times` may be longer than `values`; the surplus is the
    *horizon*, the steps to be forecast.

    Construction, `dataclasses.replace` included, copies `values` and checks everything; the selections below trust what
    has been checked. Gradients do not flow into `values`, `mask`, `times` and `inputs`.

    Args:
        values: Observations (series, time, \*obs), anything array-like. Single and double precision are kept; integers,
            booleans and half precision become the default floating type, their numbers unchanged. NaN marks a missing
            entry when no `mask` is given.
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

    from_numpy = classmethod(_makers.from_numpy)
    from_list = classmethod(_makers.from_list)
    from_dataframe = classmethod(_frame.from_dataframe)
    from_npz = classmethod(_npz.from_npz)
    to_npz = _npz.to_npz
    extend = _horizon.extend
    split = _parts.split
    windows = _parts.windows

    def __post_init__(self) -> None:
        values = check.checked_values(self.values)
        mask = check.checked_mask(self.mask, values)
        times = check.checked_times(self.times, values)
        inputs = check.checked_inputs(self.inputs, values, times)
        context = check.checked_context(self.context, values)
        index, total = check.checked_index(self.index, self.total, values)
        _zero_hidden_(values, mask)
        fields = {"values": values, "mask": mask, "times": times, "inputs": inputs}
        self.__dict__.update(fields, context=context, index=index, total=total)

    def _with(self, **changes: Any) -> Sequences:
        """A copy with some fields changed, which the caller vouches for: nothing is checked or filled."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **changes)
        return copy

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
        return check.widen(self.mask, self.values).expand_as(self.values)

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
        return f"Sequences({shape_text(self.values, check.AXES)}{horizon}, {missing:.3g} % missing, total {self.total})"

    # ------------------------------------------------------------------ views

    def __getitem__(self, item: Any) -> Sequences:
        """Select series by number, slice, list or boolean mask; the result is a data set of its own."""
        chosen = self._select(item)
        return chosen._with(index=torch.arange(chosen.num_series, device=self.device), total=chosen.num_series)

    def minibatch(self, index: Tensor) -> Sequences:
        """Select series as a subsample that remembers its place in, and the size of, the whole data set."""
        chosen = self._select(index)
        if chosen.num_series > self.total:
            raise ShapeError(f"`index` must name at most {self.total} series, the `total`. Got {chosen.num_series}.")
        return chosen

    def _select(self, item: Any) -> Sequences:
        item = series_selector(item, self.num_series, self.device)
        return self._with(
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
        steps = step_selector(steps, self.num_series, self.num_steps, self.device)
        rows: Any = slice(None) if steps.ndim == 1 else torch.arange(self.num_series, device=self.device)[:, None]
        shared = steps.ndim == 1 and seen.times.ndim == 1
        return seen._with(
            values=seen.values[rows, steps],
            mask=seen.mask[rows, steps],
            times=seen.times[steps] if shared else seen.times.expand(self.num_series, -1)[rows, steps],
            inputs=None if seen.inputs is None else seen.inputs[rows, steps],
        )

    def first(self, num_steps: int) -> Sequences:
        """The first steps of every series; the rest is cut off."""
        if check.whole_number(num_steps, "num_steps") > self.num_steps:
            raise ShapeError(f"`num_steps` must lie between 0 and {self.num_steps}. Got {num_steps}.")
        return self.take_steps(torch.arange(int(num_steps)))

    def hide(self, hidden: Tensor) -> Sequences:
        r"""Mark entries as missing; `hidden` is True there, (series, time) or (series, time, \*obs)."""
        hidden = check.as_mask(hidden, self.values, "hidden")
        if hidden.ndim == self.mask.ndim:
            mask = self.mask & ~hidden
        else:
            mask = self.entry_mask & ~check.widen(hidden, self.values)
        return self._with(mask=mask, values=_zero_hidden_(self.values.clone(), mask))

    def seen(self) -> Sequences:
        """These data without their horizon."""
        if not self.horizon:
            return self
        steps = self.num_steps
        return self._with(times=self.times[..., :steps], inputs=None if self.inputs is None else self.inputs[:, :steps])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Sequences:
        """Move to a device and convert the floating fields to single or double precision; times stay double."""
        if dtype is not None and dtype not in check.KEPT_DTYPES:
            raise DataError(
                f"`dtype` must be torch.float32 or torch.float64. Got {dtype}. Mixed precision is set where a model is "
                "trained; data stay in full."
            )

        def move(field: Tensor | None) -> Tensor | None:
            if field is None:
                return None
            moved = field.to(device=device, dtype=dtype if field.is_floating_point() else None)
            if moved.dtype.itemsize < field.dtype.itemsize and bool((moved.isinf() & field.isfinite()).any()):
                raise DataError(f"`dtype` {dtype} must hold every number. Got one above its range. Rescale first.")
            return moved

        return self._with(
            values=move(self.values),
            mask=move(self.mask),
            times=self.times.to(device=device),
            inputs=move(self.inputs),
            context=None if self.context is None else {name: move(extra) for name, extra in self.context.items()},
            index=move(self.index),
        )


def _zero_hidden_(values: Tensor, mask: Tensor) -> Tensor:
    return values if bool(mask.all()) else values.masked_fill_(~check.widen(mask, values), 0.0)
