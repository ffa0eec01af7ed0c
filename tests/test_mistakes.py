"""What is easily got wrong with tables: each error says what was expected, what came, where, and what to do.

``python -m tests.test_mistakes`` prints them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import pyro_seq as ps
from pyro_seq.data import one_hot

QUIET = ps.Trainer(progress=False, accelerator="cpu")
TINY = ps.SVI(num_steps=1, learning_rate=1e-12)


def frame(**columns: object) -> pd.DataFrame:
    """Two patients on six days."""
    days = list(pd.date_range("2024-01-01", periods=6))
    numbers = {"pulse": np.arange(12.0) + 60, "calls": np.arange(12.0) % 5, "dose": np.arange(12.0) / 12}
    return pd.DataFrame({"who": np.repeat(["Ann", "Bob"], 6), "day": days * 2, **numbers, **columns})


def read(table: pd.DataFrame, *values: str, **options: object) -> ps.Sequences:
    return ps.Sequences.from_dataframe(table, series="who", time="day", values=list(values or ["pulse"]), **options)


def fitted(data: ps.Sequences, model: ps.SequenceModel | None = None) -> ps.GuidePosterior:
    inputs = 0 if data.inputs is None else data.inputs.shape[-1]
    return ps.fit(model or ps.DynamicFactors(data.obs_shape, 1, input_dim=inputs), data, TINY, trainer=QUIET)


def counting(emission: ps.Emission, size: int = 1) -> ps.SequenceModel:
    return ps.RecurrentVAE((size,), emission=emission)


def dosed() -> ps.Sequences:
    return read(frame(), inputs=["dose"])


def wards(*wards: str) -> ps.Sequences:
    return read(frame(ward=pd.Categorical(wards * (12 // len(wards)))), "pulse", "ward")


def in_utc() -> pd.DatetimeIndex:
    return pd.date_range("2024-01-07", periods=2, tz="UTC")


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a column of texts": (
        lambda: read(frame(pulse=["60"] * 12)),
        r"Column 'pulse' must be numeric or of categories\. Got .*first '60'\. Convert texts by `pandas.to_numeric`",
    ),
    "future inputs are missing": (
        lambda: ps.forecast(fitted(dosed()), dosed(), horizon=3),
        r"`inputs` over the horizon is missing, and these data have inputs\. Pass `inputs=`",
    ),
    "all inputs are missing": (
        lambda: ps.impute(fitted(dosed()), read(frame())),
        r"`data.inputs` must have 1 entries a step, .*Got 0\. Pass them, `inputs=`",
    ),
    "class 7 of 5": (
        lambda: one_hot(np.full((1, 2, 1), 7.0), 5),
        r"`classes` must be whole numbers from 0 to 4, NaN where one is missing\. Got 7 at \(0, 0, 0\)",
    ),
    "classes as numbers": (
        lambda: fitted(read(frame(), "calls"), counting(ps.CategoricalEmission(5))),
        r"`data.values` must have 5 entries for each variable.*Pass `pyro_seq.data.one_hot\(classes, 5\)`",
    ),
    "a negative count": (
        lambda: fitted(read(frame(calls=-np.arange(12.0)), "calls"), counting(ps.PoissonEmission())),
        r"must be whole numbers from 0 on for a `PoissonEmission`\. Got -1 in series 'Ann' at time 2024-01-02 00:00:00,"
        r" variable 'calls', one of 11 such values\. Hide what was not counted",
    ),
    "an exposure of nothing": (
        lambda: fitted(
            read(frame(calls=np.arange(12.0), staff=np.arange(12.0)), "calls", inputs=["staff"]),
            counting(ps.PoissonEmission(exposure="staff")),
        ),
        r"must have positive exposures in column 'staff'\. Got 0 in series 'Ann' at time 2024-01-01 00:00:00",
    ),
    "another kind of time": (
        lambda: ps.forecast(fitted(read(frame())), read(frame()), times=in_utc()),
        r"`times` must be dates without a time zone, as the others are\. Got dates in the time zone UTC.*tz_localize",
    ),
    "time stamps twice": (
        lambda: ps.Sequences(np.zeros((1, 3, 1)), times=[0.0, 1.0, 1.0]),
        r"`times` must increase from step to step\. Got 1.0 followed by 1.0 at \(1,\)\. Sort the steps",
    ),
    "columns in another order": (
        lambda: ps.impute(fitted(read(frame(), "pulse", "calls")), read(frame(), "calls", "pulse")),
        r"Got 'calls' in the place of 'pulse': calls, pulse\. .*`data.select\(variables=\['pulse', 'calls'\]\)`",
    ),
    "a category that is new": (
        lambda: ps.impute(fitted(wards("x", "y")), wards("x", "y", "z")),
        r"Got also ward=z: .*Read data with the categories of training: `pandas.Categorical\(frame\['ward'\], "
        r"categories=\['x', 'y'\]\)`",
    ),
    "nothing but gaps": (
        lambda: fitted(read(frame(pulse=np.nan))),
        r"`data` must show at least one value\. Got none that is observed\. Check `mask`, and NaN",
    ),
    "dates in letters": (
        lambda: read(frame(day=["2024-01-01"] * 12)),
        r"Column 'day' must be numeric .*Got .*first '2024-01-01'\. Convert .*`pandas.to_datetime`",
    ),
    "dates in letters, in a list": (
        lambda: ps.Sequences(np.zeros((1, 2, 1)), times=["2024-01-01", "2024-01-02"]),
        r"`times` must be an array of numbers.*Got list \(texts, first 2024-01-01\)\. .*`pandas.to_datetime`",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_error_says_what_to_do(name):
    call, text = MISTAKES[name]
    with pytest.raises((ps.DataError, ps.ShapeError), match=text):
        call()


def test_rows_that_repeat_and_differ_are_averaged_with_a_warning():
    with pytest.warns(UserWarning, match="12 of 12 steps have several rows that differ, the first in series 'Ann' at"):
        read(pd.concat([frame(), frame(pulse=1.0)]))


def test_a_column_without_any_value_is_warned_of_in_training_and_fine_in_what_is_imputed():
    full, half = read(frame(), "pulse", "calls"), read(frame(calls=np.nan), "pulse", "calls")
    with pytest.warns(UserWarning, match=r"`data` never show calls: .*`data.select\(variables=\['pulse'\]\)`"):
        fitted(half)
    with pytest.warns(UserWarning, match=r"`data` never show x_1: .*`data.values\[..., \[0\]\]`"):
        fitted(ps.Sequences(half.values, mask=half.mask))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ps.impute(fitted(full), half, num_samples=2)


if __name__ == "__main__":
    for name, (call, _) in MISTAKES.items():
        try:
            call()
        except ps.PyroSeqError as error:
            print(f"{name}\n    {type(error).__name__}: {error}\n")
