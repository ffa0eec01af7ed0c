"""Errors for observed values outside the support of an emission, with their position."""

from __future__ import annotations

from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError


def require_values(data: Sequences, is_allowed: Tensor, expected: str, remedy: str) -> None:
    r"""Raise if an observed value is not allowed.

    Args:
        data: The data.
        is_allowed: Whether each of ``data.values`` is allowed, (series, time, \*obs); hidden ones are ignored.
        expected: The requirement on values, and the part that needs it, in words.
        remedy: Advice, in words.

    Raises:
        DataError: With the first such value, its series, time and variable, and the number of such values.
    """
    wrong = data.entry_mask & ~is_allowed
    if not bool(wrong.any()):
        return
    series, step, *entry = wrong.nonzero()[0].tolist()
    time = data.times.expand(len(data), -1)[series, step]
    stamp = f"{float(time):g}" if data.calendar is None else str(data.calendar.dates(time[None])[0])
    value, labels = float(data.values[(series, step, *entry)]), data.labels
    who = series if labels.series is None else repr(labels.series[series])
    name = ", ".join(map(str, entry)) if labels.variables is None else repr(labels.variables[entry[0]])
    raise DataError(
        f"`data.values` must be {expected}. Got {value:g} in series {who} at time {stamp}, variable {name}, one of "
        f"{int(wrong.sum())} such values. {remedy}"
    )
