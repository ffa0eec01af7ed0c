"""Time stamps at every door: no digit is lost, dates are taken in any form, and come back."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import DataError, ShapeError

START = 1_700_000_000.0
BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86400.0


def series(times, num_steps=4) -> Sequences:
    return Sequences(torch.zeros(1, num_steps, 1), times=times)


def frame(dates, **columns) -> pd.DataFrame:
    return pd.DataFrame({"who": "a", "when": dates, "x": np.arange(len(dates), dtype=float), **columns})


def read(table: pd.DataFrame, **arguments) -> Sequences:
    return Sequences.from_dataframe(table, series="who", time="when", values=["x"], **arguments)


# ---------------------------------------------------------------------- digits


def gaps(step: float) -> list[float]:
    return [START + step * i for i in range(4)]


@pytest.mark.parametrize("step", [600.0, 60.0, 1.0, 0.25])
def test_lists_of_numbers_keep_their_digits_at_every_door(step: float) -> None:
    times, values = gaps(step), torch.zeros(1, 4, 1)
    doors = {
        "constructor": Sequences(values, times=times),
        "rows": Sequences(values, times=[times]),
        "tuples": Sequences(values, times=tuple(times)),
        "numpy": Sequences.from_numpy(values.numpy(), times=times),
        "list": Sequences.from_list([values[0]], times=[times]),
        "frame": read(frame(times)),
        "extend": Sequences(values[:, :1], times=times[:1]).extend(times=times[1:]),
        "rows of extend": Sequences(values[:, :1], times=times[:1]).extend(times=[times[1:]]),
    }
    for door, data in doors.items():
        assert data.times.flatten().tolist() == times, door


def test_whole_numbers_keep_their_digits() -> None:
    for counts in ([16777217, 16777219], [2**53 - 1, -(2**53)]):
        assert Sequences(np.array(counts).reshape(1, 2, 1)).values.flatten().tolist() == counts
        assert Sequences([[[count] for count in counts]]).values.flatten().tolist() == counts
    assert Sequences(np.array([[[2**24], [-7]]])).dtype == torch.float32
    inputs = Sequences(torch.zeros(1, 2, 1, dtype=torch.float64), inputs=[[[16777217], [16777219]]]).inputs
    assert inputs.flatten().tolist() == [16777217, 16777219]
    with pytest.raises(DataError, match=r"at most 2\^53.*Subtract an offset"):
        Sequences(np.array([[[2**60 + 1]]]))


@pytest.mark.parametrize("tz", [None, "UTC", "Europe/Berlin"])
def test_dates_closer_than_seconds_since_1970_resolve_stay_apart(tz: str | None) -> None:
    """Such stamps are rounded to 2.4e-7 s in double precision."""
    dates = pd.to_datetime(1_700_000_000_000_000_000 + 100 * np.arange(4)).tz_localize("UTC").tz_convert(tz)
    data = read(frame(dates))
    assert data.values.flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_allclose(data.times.numpy(), 1e-7 * np.arange(4), rtol=1e-12)
    assert (data.calendar.dates(data.times) == dates).all()
    other = Sequences(torch.zeros(1, 4, 1), times=dates)
    assert torch.equal(other.times, data.times) and other.calendar == data.calendar


# ---------------------------------------------------------------------- dates at every door


FORMS = {
    "DatetimeIndex": pd.date_range("2024-03-30", periods=4),
    "Series": pd.Series(pd.date_range("2024-03-30", periods=4)),
    "datetime64": np.arange("2024-03-30", "2024-04-03", dtype="datetime64[D]"),
    "datetime": [dt.datetime(2024, 3, 30) + dt.timedelta(days=i) for i in range(4)],
    "date": [dt.date(2024, 3, 30) + dt.timedelta(days=i) for i in range(4)],
    "Timestamp": list(pd.date_range("2024-03-30", periods=4)),
    "PeriodIndex": pd.period_range("2024-03-30", periods=4, freq="D"),
    "rows": np.arange("2024-03-30", "2024-04-03", dtype="datetime64[D]")[None],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_dates_counts_in_seconds_since_1970(form: str) -> None:
    dates, values = FORMS[form], torch.zeros(1, 4, 1)
    expected = [dt.datetime(2024, 3, 30, tzinfo=dt.UTC).timestamp() + DAY * i for i in range(4)]
    seen = dates[:, :1] if form == "rows" else dates[:1]
    later = dates[:, 1:] if form == "rows" else dates[1:]
    doors = [Sequences(values, times=dates), Sequences.from_numpy(values.numpy(), times=dates)]
    doors.append(Sequences(values[:, :1], times=seen).extend(times=later))
    if form != "rows":
        doors += [Sequences.from_list([values[0]], times=[dates]), read(frame(dates))]
    for data in doors:
        assert data.times.flatten().tolist() == expected
        assert data.calendar.dates(data.times.flatten()).tolist() == FORMS["Timestamp"]


@pytest.mark.parametrize(
    "dates",
    [
        pd.date_range("2024-03-30", periods=4, tz="Europe/Berlin"),
        [dt.datetime(2024, 3, 30, tzinfo=BERLIN) + dt.timedelta(days=i) for i in range(4)],
        list(pd.date_range("2024-03-30", periods=4, tz="Europe/Berlin")),
    ],
)
def test_a_time_zone_counts_what_passed_and_comes_back(dates) -> None:
    """Clocks go forward on the 31st, so that day has 23 hours."""
    data = series(dates)
    assert data.times.diff().tolist() == [DAY, DAY - 3600, DAY]
    assert float(data.times[0]) == dt.datetime(2024, 3, 30, tzinfo=BERLIN).timestamp()
    back = data.calendar.dates(data.times)
    assert back.tolist() == list(dates) and str(back.tz) == "Europe/Berlin"


def test_several_time_zones_are_one_clock() -> None:
    dates = [pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-01 12:00", tz="Asia/Tokyo")]
    assert series(dates, 2).times.diff().tolist() == [3 * 3600.0]


def test_durations_count_in_seconds() -> None:
    for durations in (
        pd.timedelta_range("0s", periods=4, freq="90s"),
        [dt.timedelta(seconds=90 * i) for i in range(4)],
        np.arange(4) * np.timedelta64(90, "s"),
    ):
        data = series(durations)
        assert data.times.tolist() == [0.0, 90.0, 180.0, 270.0] and data.calendar is None


AWARE, NAIVE = pd.date_range("2024", periods=4, tz="UTC"), pd.date_range("2024", periods=4)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: series([AWARE[0], *NAIVE[1:]]), "`times` must be dates that all have a time zone, or all have none"),
        (lambda: series(AWARE).extend(times=NAIVE + pd.Timedelta(days=9)), "in the time zone UTC.*without a time zone"),
        (lambda: series(NAIVE).extend(times=AWARE + pd.Timedelta(days=9)), "without a time zone.*in the time zone UTC"),
        (lambda: series(np.arange(4)).extend(times=NAIVE), "`times` must be numbers.*Got dates, first 2024-01-01"),
        (lambda: Sequences.from_list([np.zeros((4, 1))] * 2, times=[AWARE, NAIVE]), "`times` must be dates in every"),
        (
            lambda: Sequences.from_list([np.zeros((4, 1))] * 2, times=[NAIVE, range(4)]),
            "`times` must be dates in every",
        ),
        (lambda: series(["2024-01-01"] * 4), "pandas.to_datetime"),
        (lambda: read(frame(["2024-01-01", "2024-01-02"])), "pandas.to_datetime"),
        (lambda: read(frame([AWARE[0], NAIVE[1]])), "`when` must be dates that all have a time zone"),
        (lambda: series([NAIVE[0], pd.NaT, NAIVE[2], NAIVE[3]]), "`times` must be finite"),
        (lambda: series(NAIVE[::-1]), "`times` must increase"),
        (lambda: Sequences(torch.zeros(1, 4, 1), calendar="2024"), "`calendar` must be a `Calendar`"),
    ],
)
def test_dates_that_do_not_fit_are_refused_by_name(make, text: str) -> None:
    with pytest.raises(DataError, match=text):
        make()


def test_ragged_dates_share_a_calendar_and_empty_series_take_part() -> None:
    data = Sequences.from_list([np.zeros((n, 1)) for n in (2, 0, 1)], times=[NAIVE[:2], [], NAIVE[3:]])
    assert data.calendar.dates(data.times[0]).tolist() == NAIVE[:2].tolist()
    assert data.calendar.dates(data.times[2, :1]).tolist() == NAIVE[3:].tolist()


def test_the_calendar_stays_with_the_data(tmp_path) -> None:
    data = Sequences(torch.zeros(3, 4, 1), times=AWARE.tz_convert("Europe/Berlin"))
    data.to_npz(tmp_path / "data.npz")
    later = data.extend(horizon=2)
    for copy in (data[:2], data.first(2), data.windows(2), later, later.seen(), data.to(dtype=torch.float64)):
        assert copy.calendar == data.calendar
    assert Sequences.from_npz(tmp_path / "data.npz").calendar == data.calendar
    assert later.calendar.dates(later.times)[-1] == AWARE[-1] + pd.Timedelta(days=2)
    with pytest.raises(ShapeError, match=r"`times` must be \(time,\)"):
        data.calendar.dates(data.times[None])


# ---------------------------------------------------------------------- even steps of a calendar


CALENDARS = {
    "MS": pd.date_range("2020-01-01", periods=24, freq="MS"),
    "ME": pd.date_range("2020-01-31", periods=24, freq="ME"),
    "QS-OCT": pd.date_range("2020-01-01", periods=24, freq="QS-OCT"),
    "B": pd.bdate_range("2024-01-01", periods=24),
    "D": pd.date_range("2024-03-20", periods=24, tz="Europe/Berlin"),
    "h": pd.date_range("2024-10-26 12:00", periods=24, freq="h", tz="Europe/Berlin"),
}


@pytest.mark.parametrize("freq", CALENDARS)
def test_steps_of_a_calendar_are_even_and_absent_ones_missing(freq: str) -> None:
    dates = CALENDARS[freq]
    data = read(frame(dates).drop(index=[3, 4, 9]).sample(frac=1.0, random_state=0), freq=freq)
    assert data.times.tolist() == list(range(24))
    assert (~data.mask[0]).nonzero().flatten().tolist() == [3, 4, 9]
    assert data.values[0, data.mask[0], 0].tolist() == [i for i in range(24) if i not in (3, 4, 9)]
    assert data.calendar.dates(data.times).tolist() == dates.tolist()
    ahead = data.extend(times=pd.date_range(dates[-1], periods=4, freq=freq)[1:])
    assert ahead.times[-3:].tolist() == [24.0, 25.0, 26.0]
    assert torch.equal(data.extend(horizon=3).times, ahead.times)


def test_series_begin_and_end_where_they_do_and_periods_have_steps() -> None:
    months = pd.period_range("2020-01", periods=6, freq="M")
    table = pd.DataFrame({"who": list("aaabb"), "when": months[[0, 1, 3, 2, 5]], "x": 1.0})
    data = read(table, freq="MS")
    assert data.times.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert data.mask.tolist() == [[True, True, False, True], [True, False, False, True]]


@pytest.mark.parametrize(
    ("table", "freq", "text"),
    [
        (frame(pd.to_datetime(["2024-01-01", "2024-02-15"])), "MS", "'MS' reaches.*Got 2024-02-15"),
        (frame(pd.to_datetime(["2024-01-06", "2024-01-08"])), "B", "'B' reaches.*Got 2024-01-06"),
        (frame([0.0, 1.0]), "D", "`freq` is a step of dates. Column 'when' has float64"),
        (frame(NAIVE), "fortnight", "`freq` must be a step that pandas knows"),
    ],
)
def test_dates_off_the_calendar_are_refused(table: pd.DataFrame, freq: str, text: str) -> None:
    with pytest.raises(DataError, match=text):
        read(table, freq=freq)


def test_inputs_must_be_known_at_steps_without_a_row() -> None:
    table = frame(CALENDARS["MS"], load=1.0).drop(index=[3])
    with pytest.raises(DataError, match="'load' .* must be known at every step"):
        read(table, freq="MS", inputs=["load"])


def test_what_lies_between_steps_has_no_date() -> None:
    with pytest.raises(DataError, match="whole steps of 'MS'"):
        Calendar("2020-01-01", freq="MS").dates(torch.tensor([0.5]))
    with pytest.raises(DataError, match="dates or whole steps of 'MS'"):
        read(frame(CALENDARS["MS"]), freq="MS").extend(times=pd.to_timedelta([9], unit="D"))
