"""``Sequences``: the one data container of the library."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq._host import in_both, on_host, uploaded
from pyro_seq.data import _columns, _frames, _grid, _horizon, _npz, _parts, _ragged, _table
from pyro_seq.data import _validation as check
from pyro_seq.data._selection import series_selector, step_selector
from pyro_seq.data.calendar import Calendar
from pyro_seq.data.labels import Labels
from pyro_seq.errors import PyroSeqError, ShapeError, shape_text

P = ParamSpec("P")


def _constructor(gather: Callable[P, dict[str, Any]]) -> classmethod[Any, P, Sequences]:
    """Make a class method with the arguments and the docstring of a function that gathers fields.

    Besides fields, the function may return a `dtype` to convert to and a `source` to be named in messages.
    """

    @functools.wraps(gather)
    def make(cls: type[Sequences], *args: P.args, **kwargs: P.kwargs) -> Sequences:
        fields = gather(*args, **kwargs)
        dtype, source = fields.pop("dtype", None), fields.pop("source", None)
        try:
            data = cls(**fields)
        except PyroSeqError as error:
            raise error if source is None else type(error)(f"{source}: {error}") from error
        return data if dtype is None else data.to(dtype=dtype)

    signature = inspect.signature(gather)
    cls = inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)
    make.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[cls, *signature.parameters.values()], return_annotation="Sequences"
    )
    make.__annotations__ = gather.__annotations__ | {"return": "Sequences"}
    return classmethod(make)


@dataclass(frozen=True, eq=False)
class Sequences:
    r"""A batch of sequences with masks, time stamps, inputs and a place in a larger data set.

    Series of different length are padded and masked. Hidden entries of `values` are set to zero on construction,
    because a NaN under a mask would make gradients NaN even where the loss is finite. `times` may be longer than
    `values`; the extra steps are the *horizon*, to be forecast.

    Construction, `dataclasses.replace` included, copies `values` and checks everything; the selections below do not
    check again. Gradients do not flow into `values`, `mask`, `times` and `inputs`.

    Args:
        values: Observations (series, time, \*obs), anything array-like. Single and double precision are kept; Python
            numbers, integers, booleans and half precision become the default floating type, or double precision for
            whole numbers that it cannot hold. NaN marks a missing entry when no `mask` is given.
        mask: True where observed, (series, time) for whole steps or (series, time, \*obs) for single entries.
        times: Strictly increasing time stamps in any unit, or dates, (time,) shared or (series, time); counted steps
            0, 1, 2, ... by default. Kept in double precision, so that an offset such as a Unix time costs no accuracy.
        inputs: Known exogenous variables (series, time, input_dim) over all `times`, the horizon included.
        context: Named tensors with the series axis first, passed from a model's `training_view` to its `guide`.
        index: Position of each series in the data set that this batch was taken from, (series,).
        total: Number of series of that data set.
        calendar: How dates are counted in `times`; ``data.calendar.dates(prediction.times)`` converts back to dates.
            Taken from `times` if those are dates, None if they are numbers.
        static: Known covariates of whole series, such as the age of a patient, (series, static_dim). No model reads
            them directly: use `with_static_as_inputs` to pass them to models that have inputs.
        labels: Names of series, variables, inputs and static covariates; predictions keep them.

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
    calendar: Calendar | None = None
    static: Tensor | None = None
    labels: Labels = Labels()

    from_numpy = _constructor(_ragged.from_numpy)
    from_list = _constructor(_ragged.from_list)
    from_dataframe = _constructor(_table.from_dataframe)
    from_xarray = _constructor(_table.from_xarray)
    from_npz = _constructor(_npz.from_npz)

    def __post_init__(self) -> None:
        values = check.checked_values(self.values)
        mask = check.checked_mask(self.mask, values)
        calendar = check.checked_calendar(self.calendar, self.times)
        times = check.checked_times(self.times, values, calendar)
        inputs = check.checked_inputs(self.inputs, values, times)
        context = check.checked_context(self.context, values)
        index, total = check.checked_index(self.index, self.total, values)
        static = check.checked_static(self.static, values)
        check.check_labels(self.labels, values, inputs, static)
        _zero_hidden_(values, mask)
        fields = {"values": values, "mask": mask, "times": times, "inputs": inputs, "static": static}
        self.__dict__.update(fields, context=context, index=index, total=total, calendar=calendar)

    def _with(self, **changes: Any) -> Sequences:
        """A copy with some fields changed; nothing is checked or filled, the caller must pass valid fields."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    def _mapped(self, change: Callable[[Tensor], Tensor], *names: str) -> Sequences:
        """A copy with `change` applied to the named tensors; for `context`, to each of its tensors."""
        changes: dict[str, Any] = {name: change(part) for name in names if (part := getattr(self, name)) is not None}
        if self.context is not None:
            changes["context"] = {name: change(extra) for name, extra in self.context.items()}
        return self._with(**changes)

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
        return self.mask if self.mask.ndim == 2 else in_both(lambda mask: mask.flatten(2).any(-1), self.mask)

    @property
    def entry_mask(self) -> Tensor:
        r"""`mask` expanded to single entries, (series, time, \*obs)."""
        return in_both(lambda mask: check.widen(mask, self.values).expand_as(self.values), self.mask)

    @property
    def lengths(self) -> Tensor:
        """Number of steps up to the last observed one, (series,)."""
        return in_both(_lengths, self.step_mask)

    @property
    def weight(self) -> float:
        """Factor that scales this batch's sum up to the whole data set, ``total / num_series``."""
        return self.total / self.num_series

    def __len__(self) -> int:
        return self.num_series

    def __repr__(self) -> str:
        horizon = f", horizon {self.horizon}" if self.horizon else ""
        missing = 100.0 * float((~self.mask).double().mean()) if self.mask.numel() else 0.0
        static = "" if self.static is None else f", static {self.static.shape[-1]}"
        sizes = f"{shape_text(self.values, check.AXES)}{horizon}{static}, {missing:.3g} % missing, total {self.total}"
        return f"Sequences({sizes}{f', {self.labels}' if self.labels.plain() else ''})"

    def _repr_html_(self) -> str:
        return _frames.as_html(self, self[:1].first(min(5, self.num_steps)) if len(self.obs_shape) == 1 else None)

    # ------------------------------------------------------------------ views

    def __getitem__(self, item: Any) -> Sequences:
        """Select series by number, slice, list or boolean mask; the result is a separate data set."""
        chosen = self._select(item)
        return chosen._with(index=uploaded(torch.arange(chosen.num_series), self.device), total=chosen.num_series)

    def minibatch(self, index: Tensor) -> Sequences:
        """Select series as a subsample that keeps their positions in the whole data set and its size."""
        chosen = self._select(index)
        if chosen.num_series > self.total:
            raise ShapeError(f"`index` must name at most {self.total} series, the `total`. Got {chosen.num_series}.")
        return chosen

    def _select(self, item: Any) -> Sequences:
        item = series_selector(item, self.num_series)
        there = item if isinstance(item, slice) else item.to(self.device)
        chosen = self._mapped(lambda part: part[there], "values", "inputs", "static")
        planned = ("mask", "index", "times") if self.times.ndim == 2 else ("mask", "index")
        fields = {name: uploaded(on_host(getattr(self, name))[item], self.device) for name in planned}
        return chosen._with(labels=self.labels.of_series(item), **fields)

    def take_steps(self, steps: Tensor) -> Sequences:
        """Select seen steps, in increasing order: the same for all series (steps,) or per series (series, steps).

        The horizon is dropped: only seen steps can be selected.
        """
        steps = step_selector(steps, self.num_series, self.num_steps)
        rows: Any = slice(None) if steps.ndim == 1 else torch.arange(self.num_series)[:, None]
        return self.seen()._gather(rows, steps)

    def _gather(self, rows: Any, steps: Tensor) -> Sequences:
        times = on_host(self.times)
        if steps.ndim > 1 or times.ndim > 1:
            times = times.expand(self.num_series, -1)[rows, steps]
        else:
            times = times[steps]
        there = tuple(part.to(self.device) if isinstance(part, Tensor) else part for part in (rows, steps))
        return self._with(
            values=self.values[there],
            mask=uploaded(on_host(self.mask)[rows, steps], self.device),
            times=uploaded(times, self.device),
            inputs=None if self.inputs is None else self.inputs[there],
        )

    def first(self, num_steps: int) -> Sequences:
        """The first steps of every series; the rest is cut off."""
        if whole_number(num_steps, "num_steps") > self.num_steps:
            raise ShapeError(f"`num_steps` must lie between 0 and {self.num_steps}. Got {num_steps}.")
        return self.take_steps(torch.arange(int(num_steps)))

    def hide(self, hidden: Tensor) -> Sequences:
        r"""Mark entries as missing; `hidden` is True there, (series, time) or (series, time, \*obs)."""
        hidden = check.as_mask(hidden, self.values, "hidden")
        mask = in_both(_apart, self.mask, hidden)
        return self._with(mask=mask, values=_zero_hidden_(self.values.clone(), mask))

    def windows(self, length: int, *, stride: int = 1) -> Sequences:
        """Cut every series into windows that become series with their original time stamps, in the order of the series.

        Windows without any observed entry, the horizon, and leftover steps at the end are dropped. Windows overlap when
        `stride` is below `length`: call `split` first, otherwise the parts share observations.

        Args:
            length: Steps in a window, at most the number of steps of the series.
            stride: Steps from the start of one window to that of the next.

        Raises:
            ShapeError: When `length` is above the number of steps.
            DataError: When nothing is observed.
        """
        series, steps = _parts.window_steps(on_host(self.step_mask), length, stride)
        windows = self.seen()._gather(series[:, None], steps)._mapped(lambda part: part[series], "static")
        place = {"index": uploaded(torch.arange(len(series)), self.device), "total": len(series)}
        return windows._with(labels=self.labels.of_series(series), **place)

    split = _parts.split
    select = _columns.select
    on_grid = _grid.on_grid
    with_static_as_inputs = _horizon.with_static_as_inputs

    # ------------------------------------------------------------------ the horizon

    extend = _horizon.extend

    def seen(self) -> Sequences:
        """The same data without the horizon."""
        if not self.horizon:
            return self
        steps = self.num_steps
        times = in_both(lambda times: times[..., :steps], self.times)
        return self._with(times=times, inputs=None if self.inputs is None else self.inputs[:, :steps])

    # ------------------------------------------------------------------ elsewhere

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Sequences:
        """Move to a device and convert the floating fields to single or double precision; times stay double."""
        check.require_kept(dtype)
        device = check.as_device(device)
        move = functools.partial(check.moved, device=device, dtype=dtype)
        planned = {name: uploaded(getattr(self, name), device) for name in ("mask", "index", "times")}
        return self._mapped(move, "values", "inputs", "static")._with(**planned)

    to_npz = _npz.to_npz
    to_dataframe = _frames.to_dataframe


def _zero_hidden_(values: Tensor, mask: Tensor) -> Tensor:
    return values if bool(on_host(mask).all()) else values.masked_fill_(~check.widen(mask, values), 0.0)


def _lengths(step_mask: Tensor) -> Tensor:
    steps = torch.arange(1, step_mask.shape[1] + 1, device=step_mask.device)
    return (step_mask * steps).amax(-1) if len(steps) else steps.new_zeros(len(step_mask))


def _apart(mask: Tensor, hidden: Tensor) -> Tensor:
    return check.widen(mask, hidden) & ~check.widen(hidden, mask)
