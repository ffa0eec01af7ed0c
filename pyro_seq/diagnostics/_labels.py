"""Names for the axes of exported arrays, and labels along them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.data._frames import naive, stamps
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.model import SequenceModel

_OBS_AXES = {1: ("obs",), 2: ("row", "column"), 3: ("channel", "row", "column")}
_OWN_AXES = ("chain", "draw", "series")
_NAMED = {"obs": "variables", "input": "inputs"}


class Labelled(NamedTuple):
    """An array with the names of its axes."""

    axes: tuple[str, ...]
    values: np.ndarray


class Labels:
    """Names of the axes of a model's sites.

    Args:
        model: The model, which gives `dims` and `coords`.
        data: The data, which give series numbers, time stamps and the shape of an observation.
        dims: Axis names by site that add to or replace those of the model.
        coords: Labels by axis name that add to or replace those of the model.
        sites: Names of all sites. An axis of the same name is called ``<name>_axis``, because xarray has one name space
            for both.
    """

    def __init__(
        self,
        model: SequenceModel,
        data: Sequences,
        dims: Mapping[str, Sequence[str]],
        coords: Mapping[str, Any],
        sites: Collection[str],
    ) -> None:
        self._data = data
        self._sites = frozenset(sites)
        self._dims = {**model.dims, **dims}
        self._coords = {**model.coords(data), **coords}

    def event_axes(self, site: str, num_axes: int) -> tuple[str, ...]:
        """Axis names of one draw of a site for one series; a continuation has the names of its path."""
        base = site.removesuffix("_future")
        if base in self._dims:
            named = self._dims[base]
            names = (named,) if isinstance(named, str) else tuple(named)
        elif base == "x":
            names = _OBS_AXES.get(num_axes - 1, tuple(f"obs_{i}" for i in range(num_axes - 1)))
        else:
            names = tuple(f"{base}_{i}" for i in range(num_axes))
        if base == "x" and len(names) == num_axes - 1:
            names = ("time", *names)
        if len(names) != num_axes or len(set(names)) != num_axes or set(names) & set(_OWN_AXES):
            raise ShapeError(
                f"`dims[{base!r}]` must name its {num_axes} axes differently, and not {', '.join(_OWN_AXES)}. "
                f"Got {names}. Correct `{'dims' if base == 'x' else 'model.dims'}`."
            )
        return tuple(f"{name}_axis" if name in self._sites else name for name in names)

    def site(self, name: str, draws: Tensor, is_global: bool) -> Labelled:
        r"""Draws (sample, series, \*event), or (sample, \*event) for a site that all series share."""
        own = ("sample",) if is_global else ("sample", "series")
        return Labelled((*own, *self.event_axes(name, draws.ndim - len(own))), as_array(draws))

    def coords(self, variables: Mapping[str, Labelled], is_future: bool) -> dict[str, tuple[Any, Any]]:
        """Labels of every axis in use; time stamps that differ between series become the coordinate ``time_stamp``."""
        sizes: dict[str, int] = {}
        for name, variable in variables.items():
            for axis, size in zip(variable.axes, variable.values.shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise ShapeError(
                        f"`dims` must not give axes of different size one name. Got {axis!r} for sizes {sizes[axis]} "
                        f"and {size} ({name!r}). Rename one of them in `dims`."
                    )
        labels: dict[str, tuple[Any, Any]] = {
            axis: (axis, self._axis_labels(axis, size, is_future)) for axis, size in sizes.items()
        }
        times = self._times(is_future)
        if times.ndim == 2 and "time" in sizes and "series" in sizes:
            labels["time_stamp"] = (("series", "time"), times)
        return labels

    def _axis_labels(self, axis: str, size: int, is_future: bool) -> Any:
        own = axis.removesuffix("_axis") if axis.removesuffix("_axis") in self._sites else axis
        if own in self._coords:
            labels: Any = list(self._coords[own])
        elif axis == "series":
            named = self._data.labels.series
            labels = as_array(self._data.index) if named is None else list(named)
        elif axis in _NAMED and (names := getattr(self._data.labels, _NAMED[axis])) is not None:
            labels = list(names)
        elif axis == "input_time" and self._data.times.ndim == 1:
            labels = self._stamps(slice(None))
        elif axis == "time" and (times := self._times(is_future)).ndim == 1:
            labels = times
        else:
            start = self._data.num_steps if axis == "time" and is_future else 0
            return np.arange(start, start + size)
        if len(labels) != size:
            raise DataError(f"`coords[{axis!r}]` must have one label for each of {size} entries. Got {len(labels)}.")
        return labels

    def _times(self, is_future: bool) -> np.ndarray:
        steps = slice(self._data.num_steps, None) if is_future else slice(self._data.num_steps)
        return self._stamps(steps)

    def _stamps(self, steps: slice) -> np.ndarray:
        """Time stamps or dates; dates with a time zone in UTC, because xarray does not support time zones."""
        times = self._data.times[..., steps]
        return naive(stamps(times, self._data.calendar, 1)).reshape(times.shape)


def as_array(values: Any) -> np.ndarray:
    """A NumPy array; floating numbers in single precision."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
