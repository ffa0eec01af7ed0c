"""Tables of one's own: names that are kept, and what is easily got wrong."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from pyro_seq.data import Labels, Sequences, one_hot
from pyro_seq.errors import DataError, ShapeError


def frame(**columns) -> pd.DataFrame:
    """Two shops on two days each."""
    return pd.DataFrame(
        {
            "shop": ["a", "a", "b", "b"],
            "day": [0.0, 1.0, 0.0, 1.0],
            "sold": [1.0, 2.0, 3.0, 4.0],
            "price": [5.0, 6.0, 7.0, 8.0],
            "area": [10.0, 10.0, 20.0, 20.0],
            **columns,
        }
    )


def read(table: pd.DataFrame, **options) -> Sequences:
    return Sequences.from_dataframe(table, **{"series": "shop", "time": "day", "values": ["sold"], **options})


def test_names_of_columns_and_series_are_kept():
    data = read(frame(), inputs=["price"], static=["area"])
    assert data.labels == Labels(variables=["sold"], inputs=["price"], static=["area"], series=["a", "b"])
    assert data.static.tolist() == [[10.0], [20.0]]


@pytest.mark.parametrize(
    ("shops", "labels"),
    [
        ([3, 3, 1, 1], (3, 1)),
        (pd.array([3, 3, 1, 1], dtype="Int64"), (3, 1)),
        (pd.Categorical(["z", "z", "y", "y"], categories=["x", "y", "z"]), ("z", "y")),
        ([1.5, 1.5, 0.5, 0.5], ("1.5", "0.5")),
        (pd.to_datetime(["2024-01-02"] * 2 + ["2024-01-01"] * 2), ("2024-01-02 00:00:00", "2024-01-01 00:00:00")),
    ],
)
def test_labels_are_whole_numbers_or_texts(shops, labels):
    assert read(frame(shop=shops)).labels.series == labels


def test_booleans_count_as_0_and_1_and_columns_may_have_numbers_for_names():
    table = frame(sold=[True, False, True, True]).rename(columns={"sold": 7})
    data = read(table, values=[7])
    assert data.values[..., 0].tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert data.labels.variables == ("7",)


def test_a_covariate_that_is_known_once_is_known():
    assert read(frame(area=[None, 10.0, 20.0, None]), static=["area"]).static.tolist() == [[10.0], [20.0]]


def test_messages_name_dates():
    days = pd.to_datetime(["2024-01-01", "2024-01-02"] * 2)
    with pytest.warns(UserWarning, match="the first in series 'one' at time 2024-01-01 00:00:00: they are averaged"):
        read(frame(shop="one", day=days))
    with pytest.raises(DataError, match="Got NaN at time 2024-01-02 00:00:00"):
        read(frame(day=days, price=[1.0, None, 2.0, 3.0]), inputs=["price"])


def test_rows_that_repeat_are_one_and_rows_that_differ_are_averaged_with_a_warning():
    table = pd.concat([frame(), frame()])
    assert torch.equal(read(table).values, read(frame()).values)
    with pytest.warns(UserWarning, match="2 of 2 steps have several rows that differ, the first in series 'one' at"):
        data = read(frame(shop="one"))
    assert data.values.flatten().tolist() == [2.0, 3.0]


def test_categories_are_entries_in_their_order_and_missing_with_all_of_them():
    kinds = pd.Categorical(["low", None, "high", "low"], categories=["low", "mid", "high"])
    areas = pd.Categorical([1, 1, 2, 2])
    data = read(frame(sold=kinds, area=areas), values=["price", "sold"], static=["area"])
    assert data.labels.variables == ("price", "sold=low", "sold=mid", "sold=high")
    assert data.labels.static == ("area=1", "area=2") and data.static.tolist() == [[1, 0], [0, 1]]
    assert data.values[..., 1:].tolist() == [[[1, 0, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0]]]
    assert data.entry_mask[0, 1].tolist() == [True, False, False, False]
    codes = torch.tensor([[[0.0], [torch.nan]], [[2.0], [0.0]]])
    assert torch.equal(data.values[..., 1:], one_hot(codes, 3).nan_to_num())
    names = {"values": list(data.labels.variables), "static": list(data.labels.static)}
    again = Sequences.from_dataframe(data.to_dataframe(), series="series", time="time", **names)
    assert torch.equal(again.values, data.values) and again.labels == data.labels


MISTAKES = [
    (
        "a column of texts",
        lambda: read(frame(sold=["1", "2", "3", "4"])),
        r"Column 'sold' must be numeric or of categories\. Got .*first '1'.*`pandas.to_numeric`.*`pandas.Categorical\(",
    ),
    (
        "a column of one category",
        lambda: read(frame(sold=pd.Categorical(["low"] * 4))),
        r"Column 'sold' must have at least two categories. Got \['low'\].*categories=\[...\]",
    ),
    (
        "a column with the name of an entry",
        lambda: read(frame(sold=pd.Categorical(list("abab")), **{"sold=b": [1.0] * 4})),
        "must have no column 'sold=b', the name of an entry of the categories of 'sold'",
    ),
    (
        "an input of categories with a gap",
        lambda: read(frame(price=pd.Categorical(["low", None, "high", "low"])), inputs=["price"]),
        r"Column 'price=high' \(`inputs`\) must be known at every step. Got NaN at time 1",
    ),
    (
        "inputs of the future are missing",
        lambda: read(frame(), inputs=["price"]).extend(horizon=2),
        "`inputs` over the horizon is missing, and these data have inputs. Pass `inputs=`",
    ),
    (
        "inputs with a gap",
        lambda: read(frame(price=[1.0, None, 2.0, 3.0]), inputs=["price"]),
        r"Column 'price' \(`inputs`\) must be known at every step. Got NaN at time 1.*`frame\['price'\].isna\(\)`",
    ),
    (
        "dates with and without a time zone",
        lambda: read(frame(day=[pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02", tz="UTC")] * 2)),
        "`day` must be dates that all have a time zone, or all have none. Got both",
    ),
    (
        "future dates in another kind of time",
        lambda: read(frame(day=pd.to_datetime(["2024-01-01", "2024-01-02"] * 2))).extend(
            times=pd.to_datetime(["2024-01-03"]).tz_localize("UTC")
        ),
        "`times` must be dates without a time zone, as the others are. Got dates in the time zone UTC",
    ),
    (
        "times out of order",
        lambda: Sequences(torch.zeros(1, 3, 1), times=[0.0, 2.0, 1.0]),
        "`times` must increase from step to step. Got 2.0 followed by 1.0.*Sort the steps; `Sequences.from_dataframe`",
    ),
    (
        "a covariate that varies",
        lambda: read(frame(), static=["price"]),
        r"Column 'price' \(`static`\) must have one number in each series. Got 5 and 6 in series 'a'.*among `inputs`",
    ),
    (
        "a covariate that is unknown",
        lambda: read(frame(area=[None, None, 1.0, 1.0]), static=["area"]),
        r"Column 'area' \(`static`\) must have one number in each series. Got NaN alone in series 'a'. Fill it",
    ),
    (
        "a variable named twice",
        lambda: read(frame(), values=["sold", "price", "sold"]),
        "`values` must name each column once. Got 'sold' 2 times",
    ),
    (
        "two columns of one name",
        lambda: read(pd.concat([frame(), frame()["sold"]], axis=1)),
        r"must each name one column of `frame`. Got \['sold'\]",
    ),
    (
        "a column that is not there",
        lambda: read(frame(), static=["aera"]),
        r"must each name one column of `frame`. Got \['aera'\], and the columns are \['shop', 'day', 'sold'",
    ),
    (
        "a table of one series without its name",
        lambda: read(frame().iloc[:2].drop(columns="shop")),
        r"Got \['shop'\].*A table of one series needs a column for its name, too: `frame.assign\(series='one'\)`",
    ),
    (
        "a table as an array",
        lambda: Sequences(frame()),
        "`values` must be an array .*Got the table DataFrame of 4. Read it by `Sequences.from_dataframe`",
    ),
    (
        "too few names",
        lambda: Sequences(torch.zeros(1, 3, 2), labels=Labels(variables=["sold"])),
        "`labels.variables` must name each of 2. Got 1: sold",
    ),
    (
        "series that look alike as texts",
        lambda: read(frame(shop=[1, 1, "1", "1"])),
        "`series` must be unique. Got '1' 2 times",
    ),
    (
        "dates in letters",
        lambda: read(frame(day=["2024-01-01", "2024-01-02"] * 2)),
        "Column 'day' must be numeric or of categories. Got .*`pandas.to_datetime`",
    ),
]


@pytest.mark.parametrize(("call", "text"), [(call, text) for _, call, text in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistakes_are_named(call, text):
    with pytest.raises((DataError, ShapeError), match=text):
        call()
