"""The fields of ``Sequences`` from a long data frame, or from data that can be converted to one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_seq._arguments import described
from pyro_seq.data._categories import with_entries
from pyro_seq.data._ragged import from_list
from pyro_seq.data.calendar import Calendar, as_dates, counted
from pyro_seq.data.labels import Labels
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def from_dataframe(
    frame: pd.DataFrame,
    *,
    series: str,
    time: str,
    values: Sequence[str],
    inputs: Sequence[str] | None = None,
    static: Sequence[str] | None = None,
    freq: str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """Make a data set from a long data frame with one row for each series and time.

    Columns are numbers; booleans count as 0 and 1. A categorical column becomes one entry per category, ``state=ill``
    and ``state=well``, in the order of the categories, as by `one_hot`; text columns are refused. To get the same
    entries from two tables, list the categories: ``pandas.Categorical(frame["state"], categories=[...])``. Names of
    columns and series become the `labels` of the data.

    Rows are sorted; rows of one series with the same time stamp are averaged, ignoring NaN in each column. NaN is
    missing. Series keep the order in which they first appear, ``frame[series].unique()``. Each series has its own time
    stamps, padded as in `from_list`, unless all start alike. Durations are in seconds; for dates see `Calendar`.

    Months, business days and days with a clock change differ in length. With `freq`, times count calendar steps, and
    steps without a row are missing, so that models that need even steps accept the data.

    Args:
        frame: A `pandas.DataFrame`.
        series: Column that names the series.
        time: Column of time stamps: numbers, dates, durations or periods (their start is used).
        values: Columns of the observations; they form the single observation axis.
        inputs: Columns of the exogenous variables, without NaN.
        static: Columns of covariates of whole series, constant within each series; NaN next to a number is ignored.
        freq: Step of dates, such as ``"MS"``, ``"B"`` or ``"D"`` in `pandas.date_range`; seconds by default.
        dtype: `torch.float32` or `torch.float64`; by default `torch.get_default_dtype()`.

    Returns:
        The data set.

    Raises:
        DataError: When a column is missing or not numeric, a static one varies within a series, the frame has no rows,
            or a date is not a step of `freq`.

    Warns:
        UserWarning: When averaged rows differ, for example because two series have the same name.

    Example:
        >>> import pandas as pd
        >>> from pyro_seq.data import Sequences
        >>> frame = pd.DataFrame({"id": ["a", "b", "a"], "day": [2, 1, 1], "x": [0.2, 0.3, 0.1]})
        >>> data = Sequences.from_dataframe(frame, series="id", time="day", values=["x"])
        >>> data.values[..., 0]
        tensor([[0.1000, 0.2000],
                [0.3000, 0.0000]])
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame) or frame.empty:
        raise DataError(f"`frame` must be a pandas.DataFrame with rows and columns. Got {described(frame)}.")
    observed, exogenous = _column_names(values, "values"), _column_names(inputs or [], "inputs")
    constant = _column_names(static or [], "static")
    missing = [
        name for name in [series, time, *observed, *exogenous, *constant] if list(frame.columns).count(name) != 1
    ]
    if missing or not observed:
        raise DataError(
            f"`series`, `time`, `values` (at least one), `inputs` and `static` must each name one column of `frame`. "
            f"Got {missing}, and the columns are {list(frame.columns)}. A table of one series needs a column for its "
            "name, too: `frame.assign(series='one')`."
        )
    if bool(frame[series].isna().any()):
        raise DataError(f"Column {series!r} (`series`) has no name in row {frame.index[frame[series].isna()][0]!r}.")
    frame, (observed, exogenous, constant) = with_entries(frame, observed, exogenous, constant)
    codes, found = pd.factorize(frame[series])
    labels = _labels(found, observed, exogenous, constant)
    columns = {position: _numbers(frame, name) for position, name in enumerate([*observed, *exogenous])}
    counts, calendar = _stamps(frame, time, freq)
    rows = _averaged(pd.DataFrame(columns), codes, counts, frame[[series, time]])
    if freq is not None:
        rows = _filled(rows)
    stamps = rows.index.get_level_values(1).to_numpy()
    cuts = np.flatnonzero(np.diff(rows.index.get_level_values(0).to_numpy())) + 1
    table = rows.to_numpy()
    for position, name in enumerate(exogenous, start=len(observed)):
        if np.isnan(table[:, position]).any():
            at = stamps[np.isnan(table[:, position])][0]
            at = at if calendar is None else calendar.dates(torch.tensor([at]))[0]
            raise DataError(
                f"Column {name!r} (`inputs`) must be known at every step. Got NaN at time {at}. Fill it, and add what "
                f"was missing as a further input: `frame[{name!r}].isna()`."
            )
    fields = from_list(
        np.split(table[:, : len(observed)], cuts),
        times=np.split(stamps, cuts),
        inputs=np.split(table[:, len(observed) :], cuts) if exogenous else None,
        static=np.stack([_constants(frame, name, codes, series) for name in constant], -1) if constant else None,
        labels=labels,
    )
    return fields | {"calendar": calendar, "dtype": dtype or torch.get_default_dtype()}


def from_xarray(
    dataset: xr.Dataset,
    *,
    series: str,
    time: str,
    values: Sequence[str],
    inputs: Sequence[str] | None = None,
    static: Sequence[str] | None = None,
    freq: str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """Make a data set from labelled arrays on one time grid; they are converted to a long table, see `from_dataframe`.

    Args:
        dataset: An `xarray.Dataset`; for a single array pass ``array.to_dataset(dim="variable")``.
        series: Dimension of the series; its coordinate becomes their labels.
        time: Dimension of time; its coordinate becomes the time stamps.
        values: Arrays (series, time) of the observations; they form the single observation axis.
        inputs: Arrays of the exogenous variables, without NaN.
        static: Arrays of covariates of whole series, (series,).
        freq: Step of dates, such as ``"MS"``; seconds by default.
        dtype: `torch.float32` or `torch.float64`; by default `torch.get_default_dtype()`.

    Returns:
        The data set.

    Raises:
        DataError: When arrays are missing, or have dimensions other than `series` and `time`; and as in
            `from_dataframe`.

    Example:
        >>> import xarray as xr
        >>> from pyro_seq.data import Sequences
        >>> dataset = xr.Dataset({"x": (("site", "day"), [[0.1, 0.2]])}, coords={"site": ["a"], "day": [3, 4]})
        >>> Sequences.from_xarray(dataset, series="site", time="day", values=["x"])
        Sequences((series 1, time 2, obs 1), 0 % missing, total 1, Labels(variables x; series a))
    """
    import xarray as xr

    if not isinstance(dataset, xr.Dataset):
        raise DataError(
            f"`dataset` must be an xarray.Dataset. Got {type(dataset).__name__}. Make one of an array by "
            '`array.to_dataset(dim="variable")`.'
        )
    lists = {"values": values, "inputs": inputs or [], "static": static or []}
    chosen = [name for argument, names in lists.items() for name in _column_names(names, argument)]
    if missing := [name for name in chosen if name not in dataset]:
        raise DataError(f"`dataset` must hold each array named. Got none for {missing}, only {list(dataset)}.")
    arrays = dataset[chosen]
    if set(arrays.dims) != {series, time}:
        raise DataError(
            f"`dataset` must have the dimensions `series` = {series!r} and `time` = {time!r}, and no other. Got "
            f"{dict(arrays.sizes)}. Add one by `expand_dims`, make arrays of one by `to_dataset(dim=...)`."
        )
    frame = arrays.to_dataframe().reset_index()
    return from_dataframe(
        frame, series=series, time=time, values=values, inputs=inputs, static=static, freq=freq, dtype=dtype
    )


# ---------------------------------------------------------------------- columns


def _column_names(names: Any, argument: str) -> list[Any]:
    if not isinstance(names, list | tuple):
        raise DataError(f"`{argument}` must be a list of column names. Got {names!r}. Write `{argument}=[{names!r}]`.")
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise DataError(f"`{argument}` must name each column once. Got {twice[0]!r} {len(twice)} times in {names}.")
    return list(names)


def _labels(series: Any, observed: list[Any], exogenous: list[Any], constant: list[Any]) -> Labels:
    """Names of columns as texts; names of series as whole numbers if all of them are."""
    import pandas as pd

    found = pd.Index(series)
    return Labels(
        variables=[str(name) for name in observed],
        inputs=[str(name) for name in exogenous] or None,
        static=[str(name) for name in constant] or None,
        series=[int(name) if found.inferred_type == "integer" else str(name) for name in found],
    )


def _numbers(frame: pd.DataFrame, name: Any) -> np.ndarray:
    import pandas as pd

    column = frame[name]
    if column.dtype == object or pd.api.types.is_string_dtype(column):
        raise DataError(
            f"Column {name!r} must be numeric or of categories. Got {column.dtype}, first {column.iloc[0]!r}. Convert "
            "texts by `pandas.to_numeric` or `pandas.to_datetime`, those of categories by "
            f"`pandas.Categorical(frame[{name!r}], categories=[...])`."
        )
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
        raise DataError(
            f"Column {name!r} must be numeric. Got {column.dtype}, first {column.iloc[0]!r}. "
            "Convert it, for example by `pandas.to_numeric`, or dates by `pandas.to_datetime`."
        )
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        raise DataError(
            f"Column {name!r} must be finite. Got {numbers[np.isinf(numbers)][0]} in row "
            f"{frame.index[np.isinf(numbers)][0]!r}. Replace it by NaN."
        )
    return numbers


def _constants(frame: pd.DataFrame, name: Any, codes: np.ndarray, series: str) -> np.ndarray:
    """The constant value of a column in each series."""
    import pandas as pd

    numbers = pd.Series(_numbers(frame, name)).groupby(codes)
    lowest, highest = numbers.min().to_numpy(), numbers.max().to_numpy()
    if (wrong := ~(lowest == highest)).any():
        at = int(wrong.argmax())
        came = "NaN alone" if np.isnan(lowest[at]) else f"{lowest[at]:g} and {highest[at]:g}"
        remedy = "Fill it or drop the series" if np.isnan(lowest[at]) else "Pass it among `inputs` or `values`"
        raise DataError(
            f"Column {name!r} (`static`) must have one number in each series. Got {came} in series "
            f"{frame[series].iloc[(codes == at).argmax()]!r}. {remedy}."
        )
    return lowest


def _averaged(numbers: pd.DataFrame, codes: np.ndarray, counts: np.ndarray, keys: pd.DataFrame) -> pd.DataFrame:
    """Average to one row per series and time; warn, with the `keys` of the first case, if averaged rows differ."""
    groups = numbers.groupby([codes, counts])
    rows = groups.mean()
    if len(rows) == len(numbers):
        return rows
    differ = (groups.max() > groups.min()).any(axis=1)
    if differ.any():
        code, count = rows.index[differ.argmax()]
        series, time = keys[(codes == code) & (counts == count)].iloc[0]
        warnings.warn(
            f"{int(differ.sum())} of {len(rows)} steps have several rows that differ, the first in series {series!r} "
            f"at time {time}: they are averaged. Rows of different series need different names in the column `series`, "
            "such as `frame['shop'] + frame['item']`.",
            stacklevel=4,
        )
    return rows


def _stamps(frame: pd.DataFrame, name: str, freq: str | None) -> tuple[np.ndarray, Calendar | None]:
    """The column as numbers, and the calendar of its dates."""
    import pandas as pd

    column = frame[name]
    if bool(column.isna().any()):
        raise DataError(
            f"Column {name!r} (`time`) has no time stamp in row {frame.index[column.isna()][0]!r}. Drop it."
        )
    index = column.array if isinstance(column.dtype, pd.DatetimeTZDtype) else as_dates(column, name)
    if isinstance(index, pd.arrays.DatetimeArray | pd.DatetimeIndex):
        calendar = _calendar(pd.DatetimeIndex(index), freq)
        return calendar.count(pd.DatetimeIndex(index), name), calendar
    if freq is not None:
        raise DataError(f"`freq` is a step of dates. Column {name!r} has {column.dtype}. Leave `freq` out.")
    return _numbers(frame, name) if index is None else counted(index, None, name).numpy(), None


def _calendar(dates: pd.DatetimeIndex, freq: str | None) -> Calendar:
    """The calendar of these dates.

    Raises:
        DataError: When pandas does not know `freq`.
    """
    import pandas as pd

    try:
        freq = None if freq is None else pd.tseries.frequencies.to_offset(freq).freqstr
    except ValueError as error:
        raise DataError(f"`freq` must be a step that pandas knows, such as 'MS'. Got {freq!r} ({error}).") from error
    return Calendar.of(dates, freq)


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by series and whole step, with a row of NaN for each missing step between the first and the last."""
    import pandas as pd

    return pd.concat(
        {
            series: (own := part.droplevel(0)).reindex(np.arange(own.index.min(), own.index.max() + 1))
            for series, part in rows.groupby(level=0)
        }
    )
