"""Data and predictions as tables and arrays, and back again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq.data import Labels, Sequences
from pyro_seq.data._frames import labelled, long_table
from pyro_seq.errors import DataError

DATES = pd.to_datetime(["2024-01-31", "2024-03-31", "2024-04-01"])
NAMES = Labels(variables=["pulse", "pressure"], inputs=["dose"], static=["age"], series=["a", "b"])


def read(frame: pd.DataFrame, **options) -> Sequences:
    names = {"values": ["pulse", "pressure"], "inputs": ["dose"], "static": ["age"]}
    return Sequences.from_dataframe(frame, series="series", time="time", **names, **options)


@pytest.mark.parametrize(
    "times",
    [
        torch.tensor([0.0, 0.5, 3.0]),
        torch.tensor([[0.0, 0.5, 3.0], [1.0, 2.0, 3.0]]),
        DATES,
        DATES.tz_localize("Europe/Berlin"),
        np.array([DATES, DATES + pd.Timedelta(hours=7)]),
    ],
)
def test_a_table_gives_the_same_data_again(times):
    values = torch.arange(12.0).reshape(2, 3, 2)
    values[0, 1] = values[1, 2, 0] = torch.nan
    data = Sequences(values, times=times, inputs=values[..., :1].nan_to_num(), static=[[30.0], [50.0]], labels=NAMES)
    again = read(data.to_dataframe())
    for field in ("values", "mask", "times", "inputs", "static"):
        assert torch.equal(getattr(again, field), getattr(data, field)), field
    assert again.labels == data.labels
    assert again.calendar == data.calendar


def test_steps_of_a_calendar_come_back_as_dates():
    months = pd.to_datetime(["2024-01-01", "2024-02-01", "2024-04-01"])
    frame = pd.DataFrame({"series": 5, "time": months, "pulse": 1.0, "pressure": 2.0, "dose": 0.0, "age": 30})
    data = Sequences.from_dataframe(frame, series="series", time="time", values=["pulse", "pressure"], freq="MS")
    table = data.extend(horizon=1).to_dataframe()
    assert table["time"].tolist() == pd.date_range("2024-01-01", periods=5, freq="MS").tolist()
    assert table["series"].tolist() == [5] * 5
    assert table["pulse"].isna().tolist() == [False, False, True, False, True]


def test_images_have_a_column_for_each_pixel():
    table = Sequences(torch.arange(8.0).reshape(1, 2, 2, 2)).to_dataframe()
    assert list(table) == ["series", "time", "x_0_0", "x_0_1", "x_1_0", "x_1_1"]
    assert table["x_1_0"].tolist() == [2.0, 6.0]


def test_columns_of_one_name_are_refused():
    data = Sequences(torch.zeros(1, 2, 1), inputs=torch.zeros(1, 2, 1), labels=Labels(variables=["x"], inputs=["x"]))
    with pytest.raises(DataError, match="`labels` must give every column another name.*Got 'x' 2 times"):
        data.to_dataframe()
    assert "<tr" not in data._repr_html_()
    with pytest.raises(DataError, match="Got 'time' 2 times"):
        dataclasses.replace(data, labels=Labels(variables=["time"])).to_dataframe()


@pytest.mark.parametrize("times", [torch.tensor([3.0, 4.0]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])])
def test_a_long_table_has_every_entry_beside_its_keys(times):
    numbers = torch.arange(8.0).reshape(2, 2, 2)
    table = long_table({"mean": numbers}, times, NAMES, None)
    assert list(table) == ["series", "time", "variable", "mean"]
    for row in table.itertuples():
        series, variable = NAMES.series.index(row.series), NAMES.variables.index(row.variable)
        step = times.expand(2, 2)[series].tolist().index(row.time)
        assert row.mean == numbers[series, step, variable]
    assert table["mean"].tolist() == list(range(8))  # series first, then time, then variable


def test_series_without_times_have_no_dates():
    calendar = Sequences(torch.zeros(1, 3, 1), times=DATES).calendar
    times = torch.tensor([[torch.nan] * 2, [0.0, 86400.0]], dtype=torch.float64)
    table = long_table({"mean": torch.zeros(2, 2, 1)}, times, Labels(), calendar)
    assert table["time"].isna().tolist() == [True, True, False, False]
    assert table["time"].iloc[3] == pd.Timestamp("1970-01-02")


def test_arrays_are_labelled():
    draws = torch.arange(24.0).reshape(2, 2, 3, 2)
    times = Sequences(torch.zeros(2, 3, 1), times=DATES)
    array = labelled({"samples": draws}, times.times, NAMES, times.calendar)["samples"]
    assert array.dims == ("sample", "series", "time", "variable")
    assert array.sel(series="b", time="2024-03-31", variable="pressure").values.tolist() == [9.0, 21.0]


def test_times_of_each_series_are_a_second_coordinate():
    local = DATES.tz_localize("Europe/Berlin")
    data = Sequences(torch.zeros(1, 3, 1), times=local)
    times = torch.stack([data.times, data.times + 60])
    dataset = labelled({"samples": torch.zeros(4, 2, 3, 1)}, times, Labels(), data.calendar)
    assert dataset["time_stamp"].dims == ("series", "time")
    assert dataset.attrs == {"time_zone": "Europe/Berlin"}
    stamps = pd.DatetimeIndex(dataset["time_stamp"].values[1]).tz_localize("UTC").tz_convert("Europe/Berlin")
    assert (stamps == local + pd.Timedelta(minutes=1)).all()


def test_axes_of_images_have_names():
    dataset = labelled({"samples": torch.zeros(4, 1, 2, 3, 5, 6)}, torch.arange(2.0), Labels(), None)
    assert dataset["samples"].dims == ("sample", "series", "time", "channel", "row", "column")


def test_arrays_and_tables_give_the_same_data():
    values = torch.arange(12.0).reshape(2, 3, 2)
    data = Sequences(values, times=DATES, inputs=values[..., :1], static=[[30.0], [50.0]], labels=NAMES)
    dataset = data.to_dataframe().set_index(["series", "time"]).to_xarray()
    dataset["age"] = dataset["age"].isel(time=0, drop=True)  # (series,)
    again = Sequences.from_xarray(
        dataset, series="series", time="time", values=["pulse", "pressure"], inputs=["dose"], static=["age"]
    )
    for field in ("values", "mask", "times", "inputs", "static"):
        assert torch.equal(getattr(again, field), getattr(data, field)), field
    assert again.labels == data.labels


def test_a_prediction_is_data_for_the_next_step():
    draws = torch.arange(24.0).reshape(2, 2, 3, 2)
    arrays = labelled({"samples": draws}, torch.arange(3.0), NAMES, None)
    dataset = arrays["samples"].mean("sample").to_dataset(dim="variable")
    data = Sequences.from_xarray(dataset, series="series", time="time", values=["pulse", "pressure"])
    assert torch.equal(data.values, draws.mean(0))


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (lambda dataset: dataset["x"], {}, "`dataset` must be an xarray.Dataset. Got DataArray. Make one of an array"),
        (lambda dataset: dataset, {"values": ["y"]}, r"must hold each array named. Got none for \['y'\], only \['x'\]"),
        (lambda dataset: dataset.isel(site=0), {}, "must have the dimensions `series` = 'site' and `time` = 'day'"),
        (lambda dataset: dataset.expand_dims(depth=2), {}, "and no other. Got {'depth': 2, 'site': 1, 'day': 2}"),
        (lambda dataset: dataset, {"values": "x"}, "`values` must be a list of column names"),
    ],
)
def test_wrong_arrays_are_refused(change, arguments, text):
    import xarray as xr

    dataset = xr.Dataset({"x": (("site", "day"), [[0.1, 0.2]])})
    with pytest.raises(DataError, match=text):
        Sequences.from_xarray(change(dataset), **{"series": "site", "time": "day", "values": ["x"], **arguments})


def test_notebooks_show_the_first_rows():
    data = Sequences(torch.zeros(50, 100, 1), labels=Labels(variables=["<pulse>"]))
    page = data._repr_html_()
    assert page.count("<tr") == 1 + 5
    assert "<pulse>" not in page
    assert "&lt;pulse&gt;" in page
    assert Sequences(torch.zeros(1, 0, 1))._repr_html_().count("<tr") == 1
    assert "<tr" not in Sequences(torch.zeros(1, 2, 3, 3))._repr_html_()  # images: the sizes alone
