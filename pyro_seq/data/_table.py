"""The fields of ``Sequences`` from a long data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_seq._arguments import described
from pyro_seq.data._ragged import from_list
from pyro_seq.data.calendar import Calendar, as_dates, counted
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def from_dataframe(
    frame: pd.DataFrame,
    *,
    series: str,
    time: str,
    values: Sequence[str],
    inputs: Sequence[str] | None = None,
    freq: str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """Make a data set from a long data frame with one row for each series and time.

    Rows are sorted; rows of one series that share a time stamp are averaged, each column over its numbers. NaN is
    missing. Series keep the order in which they first appear, ``frame[series].unique()``. Each has its own time stamps,
    padded as in `from_list`, unless all start alike. Durations count in seconds, dates as `Calendar` says.

    Months, business days and days on which clocks change differ in seconds. With `freq` dates count in steps of such a
    calendar, and steps without a row are missing, so that models of even steps take the data.

    Args:
        frame: A `pandas.DataFrame`.
        series: Column that names the series.
        time: Column of time stamps: numbers, dates, durations or periods, which begin where they begin.
        values: Columns of the observations, which become the one axis of obs.
        inputs: Columns of the exogenous variables, without NaN.
        freq: Step of dates, such as ``"MS"``, ``"B"`` or ``"D"`` in `pandas.date_range`; seconds count by default.
        dtype: `torch.float32` or `torch.float64`; the default floating type when absent.

    Returns:
        The data set.

    Raises:
        DataError: When a column is missing or not numeric, the frame has no rows, or a date is no step of `freq`.

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
    missing = [name for name in [series, time, *observed, *exogenous] if list(frame.columns).count(name) != 1]
    if missing or not observed:
        raise DataError(
            f"`series`, `time`, `values` (at least one) and `inputs` must each name one column of `frame`. "
            f"Got {missing}, and the columns are {list(frame.columns)}."
        )
    if bool(frame[series].isna().any()):
        raise DataError(f"Column {series!r} (`series`) has no name in row {frame.index[frame[series].isna()][0]!r}.")
    codes, _ = pd.factorize(frame[series])
    columns = {position: _numbers(frame, name) for position, name in enumerate([*observed, *exogenous])}
    counts, calendar = _stamps(frame, time, freq)
    rows = pd.DataFrame(columns).groupby([codes, counts]).mean()
    if freq is not None:
        rows = _filled(rows)
    stamps = rows.index.get_level_values(1).to_numpy()
    cuts = np.flatnonzero(np.diff(rows.index.get_level_values(0).to_numpy())) + 1
    table = rows.to_numpy()
    for position, name in enumerate(exogenous, start=len(observed)):
        if np.isnan(table[:, position]).any():
            at = stamps[np.isnan(table[:, position])][0]
            raise DataError(f"Column {name!r} (`inputs`) must be known at every step. Got NaN at time {at}. Fill it.")
    fields = from_list(
        np.split(table[:, : len(observed)], cuts),
        times=np.split(stamps, cuts),
        inputs=np.split(table[:, len(observed) :], cuts) if exogenous else None,
    )
    return fields | {"calendar": calendar, "dtype": dtype or torch.get_default_dtype()}


def _column_names(names: Any, argument: str) -> list[Any]:
    if not isinstance(names, list | tuple):
        raise DataError(f"`{argument}` must be a list of column names. Got {names!r}. Write `{argument}=[{names!r}]`.")
    return list(names)


def _numbers(frame: pd.DataFrame, name: Any) -> np.ndarray:
    import pandas as pd

    column = frame[name]
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
    """Rows by series and whole step, with a row of NaN for each step between the first and the last that has none."""
    import pandas as pd

    return pd.concat(
        {
            series: (own := part.droplevel(0)).reindex(np.arange(own.index.min(), own.index.max() + 1))
            for series, part in rows.groupby(level=0)
        }
    )
