"""Categorical columns of a data frame as one column of 0 and 1 per category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def with_entries(frame: pd.DataFrame, *lists: list[Any]) -> tuple[pd.DataFrame, list[list[Any]]]:
    """The frame and lists of its columns, with ``state=ill``, ``state=well`` in place of a column ``state``.

    Entries follow the order of the categories, including categories that do not occur in the frame; all are NaN where
    the category is missing.

    Raises:
        DataError: When a column has fewer than two categories, or an entry has the name of another column.
    """
    import pandas as pd

    made: dict[Any, dict[str, np.ndarray]] = {}
    for name in dict.fromkeys(name for names in lists for name in names):
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            made[name] = _entries(frame[name], name)
    if not made:
        return frame, list(lists)
    columns = {entry: values for entries in made.values() for entry, values in entries.items()}
    if twice := [entry for entry in columns if entry in frame.columns]:
        raise DataError(
            f"`frame` must have no column {twice[0]!r}, the name of an entry of the categories of "
            f"{twice[0].partition('=')[0]!r}. Rename one of them."
        )
    wider = pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)
    return wider, [[entry for name in names for entry in made.get(name, [name])] for names in lists]


def _entries(column: pd.Series, name: Any) -> dict[str, np.ndarray]:
    categories = column.cat.categories
    if len(categories) < 2:
        raise DataError(
            f"Column {name!r} must have at least two categories. Got {list(categories)}. Leave it out, or say which "
            f"there are: `pandas.Categorical(frame[{name!r}], categories=[...])`."
        )
    codes = column.cat.codes.to_numpy()
    numbers = np.where(codes[:, None] < 0, np.nan, codes[:, None] == np.arange(len(categories)))
    return {f"{name}={category}": numbers[:, place] for place, category in enumerate(categories)}
