"""Data and predictions as tables and as labelled arrays, with the labels and the dates of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_seq.data.calendar import Calendar
from pyro_seq.data.labels import Labels
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from pyro_seq.data.sequences import Sequences

_OBS_AXES = {1: ("variable",), 2: ("row", "column"), 3: ("channel", "row", "column")}


def to_dataframe(data: Sequences) -> pd.DataFrame:
    """A table with one row per series and time; `from_dataframe` restores the same data from it.

    A horizon is restored as hidden steps.

    Returns:
        Columns ``series``, ``time`` (dates if there is a calendar), the variables (NaN where hidden and over the
        horizon), the inputs and the static covariates, by name.

    Raises:
        DataError: When two columns would have the same name.
    """
    import pandas as pd

    series, steps = len(data), data.times.shape[-1]
    seen = data.values.masked_fill(~data.entry_mask, float("nan")).flatten(2)
    blocks = {"variables": _padded(seen, steps), "inputs": data.inputs, "static": data.static}
    keys = {"series": _series(data.labels, series).repeat(steps), "time": stamps(data.times, data.calendar, series)}
    names, columns = list(keys), list(keys.values())
    for axis, block in blocks.items():
        if block is None:
            continue
        wide = block.detach().cpu().numpy()
        wide = np.repeat(wide, steps, 0) if wide.ndim == 2 else wide.reshape(series * steps, wide.shape[-1])
        names += data.labels.of(axis, data.obs_shape if axis == "variables" else wide.shape[-1:])
        columns += list(wide.T)
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"`labels` must give every column another name, none of them 'series' or 'time'. Got {twice[0]!r} "
            f"{len(twice)} times. Rename it: `dataclasses.replace(data, labels=...)`."
        )
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


def long_table(columns: Mapping[str, Tensor], times: Tensor, labels: Labels, calendar: Calendar | None) -> pd.DataFrame:
    r"""One row per series, time and variable, with tensors (series, time, \*obs) as columns."""
    import pandas as pd

    series, steps, *obs = next(iter(columns.values())).shape
    variables = np.array(labels.of("variables", obs), dtype=object)
    keys = {
        "series": _series(labels, series).repeat(steps * len(variables)),
        "time": stamps(times, calendar, series).repeat(len(variables)),
        "variable": np.tile(variables, series * steps),
    }
    return pd.DataFrame(keys | {name: column.detach().cpu().numpy().ravel() for name, column in columns.items()})


def labelled(arrays: Mapping[str, Tensor], times: Tensor, labels: Labels, calendar: Calendar | None) -> xr.Dataset:
    r"""Tensors (sample, series, time, \*obs) with names on their axes and labels along them.

    Times that differ between series are a coordinate ``time_stamp`` (series, time); the axis then counts steps. Dates
    with a time zone are in UTC, because xarray does not support time zones; the attribute ``time_zone`` names the zone.
    """
    import xarray as xr

    _, series, steps, *obs = next(iter(arrays.values())).shape
    axes = ("sample", "series", "time", *_OBS_AXES.get(len(obs), tuple(f"obs_{i}" for i in range(len(obs)))))
    coords: dict[str, Any] = {"series": _series(labels, series)}
    if len(obs) == 1:
        coords["variable"] = labels.of("variables", obs)
    dates = naive(stamps(times, calendar, 1))
    coords["time"] = dates if times.ndim == 1 else np.arange(steps)
    if times.ndim == 2:
        coords["time_stamp"] = (("series", "time"), dates.reshape(series, steps))
    content = {name: (axes, array.detach().cpu().numpy()) for name, array in arrays.items()}
    attrs = {} if calendar is None or calendar.tz is None else {"time_zone": calendar.tz}
    return xr.Dataset(content, coords=coords, attrs=attrs)


def as_html(noun: Any, part: Any) -> str:
    """HTML for notebooks: the text form of an object and the first rows of a table of a small part of it."""
    import html

    try:
        rows = "" if part is None else part.to_dataframe().head(10).to_html(index=False, border=0, max_cols=20)
    except DataError:  # columns with the same name, or times between the steps of a calendar
        rows = ""
    return f"<div><code>{html.escape(repr(noun))}</code>{rows}</div>"


# ---------------------------------------------------------------------- keys


def _series(labels: Labels, num_series: int) -> np.ndarray:
    found = labels.of("series", [num_series])
    return np.array(found, dtype=object if isinstance(found[0], str) else np.int64)


def stamps(times: Tensor, calendar: Calendar | None, num_series: int) -> Any:
    """Dates, or numbers without a calendar, of all steps, series after series."""
    import pandas as pd

    flat = times.flatten()
    if calendar is None:
        found = pd.Index(flat.cpu().numpy())
    else:
        known = flat.isfinite()  # in a backtest, a series without observations has no times
        place = torch.where(known, known.cumsum(0) - 1, -1).cpu().numpy()
        found = calendar.dates(flat[known]).take(place, allow_fill=True, fill_value=pd.NaT)
    return found if times.ndim == 2 else found.take(np.tile(np.arange(len(flat)), num_series))


def naive(found: Any) -> np.ndarray:
    """The result of `stamps` as an array; dates with a time zone in UTC, because NumPy does not support time zones."""
    return (found.tz_convert("UTC").tz_localize(None) if getattr(found, "tz", None) else found).to_numpy()


def _padded(values: Tensor, steps: int) -> Tensor:
    padding = values.new_full((len(values), steps - values.shape[1], values.shape[2]), float("nan"))
    return torch.cat([values, padding], 1)
