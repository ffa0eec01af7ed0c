"""``Calendar``: conversion between dates and the numbers in `times`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError

if TYPE_CHECKING:
    import pandas as pd

_COARSE = 1e-3  # seconds since 1970 are rounded to 2.4e-7 in double precision


@dataclass(frozen=True)
class Calendar:
    """Counts time from a date: in seconds, or in calendar steps, which may differ in length.

    Attributes:
        origin: Date that counts as 0, as text; in UTC if there is a time zone.
        tz: Time zone of the dates; None for dates without a time zone.
        freq: Calendar step, such as ``"MS"`` for months or ``"B"`` for business days, as in `pandas.date_range`; None
            for seconds.

    Example:
        >>> import pandas as pd
        >>> months = Calendar("2024-01-01", freq="MS")
        >>> months.count(pd.to_datetime(["2024-01-01", "2024-04-01"])).tolist()
        [0.0, 3.0]
    """

    origin: str = "1970-01-01"
    tz: str | None = None
    freq: str | None = None

    @classmethod
    def of(cls, dates: pd.DatetimeIndex, freq: str | None = None) -> Calendar:
        """The calendar for these dates: seconds since 1970, or since the first if some lie within a millisecond.

        With `freq`, steps count from the first date.
        """
        import pandas as pd

        known = dates.dropna()
        gaps = np.diff(known.unique().sort_values()) / pd.Timedelta(seconds=1)
        tz = None if dates.tz is None else str(dates.tz)
        if len(known) and (freq is not None or (gaps.size and float(gaps.min()) < _COARSE)):
            first = known.min()
            return cls((first if tz is None else first.tz_convert("UTC").tz_localize(None)).isoformat(), tz, freq)
        return cls(tz=tz)

    def count(self, dates: pd.DatetimeIndex, name: str = "times") -> np.ndarray:
        """Seconds or steps from the origin to each date, in double precision.

        Raises:
            DataError: When only one of dates and calendar has a time zone, or a date is not one of the steps.
        """
        if (dates.tz is None) != (self.tz is None):
            kinds = ("without a time zone", f"in the time zone {dates.tz if self.tz is None else self.tz}")
            came, wanted = kinds if dates.tz is None else kinds[::-1]
            raise DataError(
                f"`{name}` must be dates {wanted}, as the others are. Got dates {came}. Use "
                "`pandas.DatetimeIndex.tz_localize` to add a time zone, or to take it off (`tz_localize(None)`)."
            )
        if self.freq is None:
            return (dates - self._start).total_seconds().to_numpy()
        steps = self._steps(until=dates.max()).get_indexer(dates)
        if (steps < 0).any():
            raise DataError(
                f"`{name}` must be dates that `freq` = {self.freq!r} reaches in steps from {self._start}. Got "
                f"{dates[steps < 0][0]}. Choose another `freq`, or round the dates first."
            )
        return steps.astype(np.float64)

    def dates(self, times: Tensor) -> pd.DatetimeIndex:
        """The dates of time stamps (time,), as exact as double precision allows.

        Raises:
            ShapeError: When `times` has other axes.
            DataError: When there is a `freq` and times are not whole steps.
        """
        import pandas as pd

        if times.ndim != 1:
            raise ShapeError(
                f"`times` must be (time,). Got {tuple(times.shape)}. Pass those of one series, `times[0]`."
            )
        numbers = times.double().cpu().numpy()
        if self.freq is None:
            unit = "us" if np.abs(numbers).max(initial=0.0) > 1e6 else "ns"
            return (self._start + pd.to_timedelta(numbers, unit="s")).round(unit)
        if (numbers != numbers.round()).any() or (numbers < 0).any():
            raise DataError(
                f"`times` must be whole steps of {self.freq!r} from {self._start}. Got {times}. Dates between steps "
                "have no name."
            )
        return self._steps(count=int(numbers.max(initial=0.0)) + 1)[numbers.astype(np.int64)]

    @property
    def _start(self) -> pd.Timestamp:
        import pandas as pd

        start = pd.Timestamp(self.origin)
        return start if self.tz is None else start.tz_localize("UTC").tz_convert(self.tz)

    def _steps(self, until: pd.Timestamp | None = None, count: int | None = None) -> pd.DatetimeIndex:
        import pandas as pd

        return pd.date_range(self._start, until, periods=count, freq=self.freq)


# ---------------------------------------------------------------------- reading


def as_dates(times: Any, name: str) -> pd.DatetimeIndex | pd.TimedeltaIndex | None:
    """Dates or durations, flattened; None if `times` should be numbers.

    Accepted are `datetime`, `date` and `timedelta` objects, NumPy's ``datetime64`` and ``timedelta64``, and pandas'
    time stamps, durations and periods (by their start).

    Raises:
        DataError: When dates with and without a time zone are mixed, or dates are mixed with other values.
    """
    if isinstance(times, Tensor):
        return None
    try:
        array = np.asarray(times)
    except (TypeError, ValueError, RuntimeError):  # such as rows of different length
        return None
    if array.dtype.kind not in "MmO":
        return None
    import pandas as pd

    index = pd.Index(array.ravel())
    if index.inferred_type in ("date", "datetime"):  # Python's own dates, or more than one time zone
        zones = {getattr(date, "tzinfo", None) is None for date in index.dropna()}
        if len(zones) > 1:
            raise DataError(
                f"`{name}` must be dates that all have a time zone, or all have none. Got both. Give the others one by "
                "`pandas.Timestamp.tz_localize`."
            )
        index = pd.to_datetime(index, utc=zones == {False})
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    return index if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None


def common(parts: Sequence[Any], name: str) -> Calendar | None:
    """The common calendar of series with dates; None if none has dates.

    Raises:
        DataError: When only some series have dates, or only some dates have a time zone.
    """
    read = [as_dates(part, f"{name}[{i}]") for i, part in enumerate(parts)]
    dates = [part for part in read if part is not None and hasattr(part, "tz") and len(part)]
    if not dates:
        return None
    if len(dates) < sum(np.size(part) > 0 for part in parts) or len({part.tz is None for part in dates}) > 1:
        raise DataError(
            f"`{name}` must be dates in every series or in none, and all with a time zone or all without. Got both. "
            "Convert them alike: `pandas.to_datetime`, and `tz_localize` for the time zone."
        )
    first, *others = dates
    return Calendar.of(first.append([other if first.tz is None else other.tz_convert(first.tz) for other in others]))


def counted(dates: pd.DatetimeIndex | pd.TimedeltaIndex, calendar: Calendar | None, name: str) -> Tensor:
    """Dates or durations as numbers, in the unit of `calendar`.

    Raises:
        DataError: When dates have no calendar, or durations have a calendar that does not count in seconds.
    """
    import pandas as pd

    if isinstance(dates, pd.TimedeltaIndex):
        if calendar is not None and calendar.freq is not None:
            raise DataError(f"`{name}` must be dates or whole steps of {calendar.freq!r}. Got durations. Pass dates.")
        return torch.from_numpy(np.array(dates.total_seconds(), dtype=np.float64))
    if calendar is None:
        raise DataError(
            f"`{name}` must be numbers, as the time stamps of these data are. Got dates, first {dates[0]}. Make the "
            "data with dates, or pass numbers in their unit."
        )
    return torch.from_numpy(np.array(calendar.count(dates, name), dtype=np.float64))
