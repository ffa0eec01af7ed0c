"""The fields of ``Sequences`` from a long data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_seq._arguments import described
from pyro_seq.data._ragged import from_list
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
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """Make a data set from a long data frame with one row for each series and time.

    Rows are sorted; rows of one series that share a time stamp are averaged, each column over its numbers. NaN is
    missing. Series keep the order in which they first appear, ``frame[series].unique()``. Each has its own time stamps,
    padded as in `from_list`, unless all start alike. Dates count in seconds since 1970, durations in seconds.

    Args:
        frame: A `pandas.DataFrame`.
        series: Column that names the series.
        time: Column of time stamps: numbers, dates or durations.
        values: Columns of the observations, which become the one axis of obs.
        inputs: Columns of the exogenous variables, without NaN.
        dtype: `torch.float32` or `torch.float64`; the default floating type when absent.

    Returns:
        The data set.

    Raises:
        DataError: When a column is missing or not numeric, or the frame has no rows.

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
    rows = pd.DataFrame(columns).groupby([codes, _stamps(frame, time)]).mean()
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
    return fields | {"dtype": dtype or torch.get_default_dtype()}


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
            "Convert it, for example by `pandas.to_numeric`."
        )
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        raise DataError(
            f"Column {name!r} must be finite. Got {numbers[np.isinf(numbers)][0]} in row "
            f"{frame.index[np.isinf(numbers)][0]!r}. Replace it by NaN."
        )
    return numbers


def _stamps(frame: pd.DataFrame, name: str) -> np.ndarray:
    import pandas as pd

    column = frame[name]
    if bool(column.isna().any()):
        raise DataError(
            f"Column {name!r} (`time`) has no time stamp in row {frame.index[column.isna()][0]!r}. Drop it."
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        column = (column - pd.Timestamp(0, tz=column.dt.tz)).dt.total_seconds()
    elif pd.api.types.is_timedelta64_dtype(column):
        column = column.dt.total_seconds()
    return _numbers(pd.DataFrame({name: column.to_numpy()}, index=frame.index), name)
