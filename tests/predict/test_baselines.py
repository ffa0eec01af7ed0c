"""`evaluate_baselines` on data with gaps, of unequal length, or with entries that are never seen."""

from __future__ import annotations

import math

import pytest
import torch

import pyro_seq as ps

FORECAST = ["training mean", "last frame", "nearest training series"]
IMPUTE = ["training mean", "last frame", "linear interpolation", "nearest training series"]


def sines(num_series: int = 32, num_steps: int = 12) -> torch.Tensor:
    phase = 6.28 * torch.rand(num_series, 1, generator=torch.Generator().manual_seed(0))
    time = 0.3 * torch.arange(num_steps)
    return torch.stack([torch.sin(time + phase), torch.cos(time + phase)], -1)


def scored(train: ps.Sequences, test: ps.Sequences, task) -> dict[str, float]:
    rows = ps.evaluate_baselines(train, test, task)
    assert all(row.note == "" and bool(row.mse.isfinite().all()) for row in rows)
    return {row.name: row.means()["mse"] for row in rows}


@pytest.mark.parametrize("kind", ["gaps", "single entries", "ragged", "late"])
def test_gaps_in_training_or_test_data_leave_every_baseline(kind):
    values, generator = sines(), torch.Generator().manual_seed(1)
    train, test = ps.Sequences(values[:24]), ps.Sequences(values[24:])
    complete = scored(train, test, ps.Forecasting(5))
    if kind == "gaps":
        train = train.hide(torch.rand(24, 12, generator=generator) < 0.2)
    elif kind == "single entries":
        train = train.hide(torch.rand(24, 12, 2, generator=generator) < 0.4)
    elif kind == "ragged":
        train = ps.Sequences.from_list([values[k, : 12 - k % 4] for k in range(24)])
    else:
        test = test.hide((torch.arange(12) < 6) & (torch.arange(8)[:, None] == 0))
    found = scored(train, test, ps.Forecasting(5))
    assert list(found) == FORECAST
    assert found["nearest training series"] < 0.3 * found["training mean"]  # as a search among 24 phases must be
    assert found["nearest training series"] > complete["nearest training series"]
    assert list(scored(train, ps.Sequences(values[24:]), ps.Imputation(0.3))) == IMPUTE


def test_interpolation_is_the_best_of_the_baselines_for_gaps_in_smooth_series():
    values = sines()
    found = scored(ps.Sequences(values[:24]), ps.Sequences(values[24:]), ps.Imputation(0.3))
    assert found["linear interpolation"] < 0.5 * min(found["last frame"], found["training mean"])


def test_an_entry_that_training_never_shows_is_named():
    values = sines()
    train = ps.Sequences(torch.where(torch.tensor([True, False]), values[:24], math.nan))
    test = ps.Sequences(values[24:])
    rows = ps.evaluate_baselines(train, test, ps.Forecasting(5))
    assert [row.name for row in rows] == FORECAST
    assert all("no series of `train` shows the entries [(1,)]" in row.note for row in rows)
    by_name = {row.name: row.mse for row in rows}
    assert bool(by_name["training mean"].isnan().all()) and bool(by_name["last frame"].isfinite().all())
    hidden = test.hide(torch.tensor([False, True]).expand(8, 12, 2))  # nor is it scored
    assert list(scored(train, hidden, ps.Forecasting(5))) == FORECAST


def test_a_training_set_that_is_too_short_has_a_row_that_says_so():
    values = sines()
    rows = ps.evaluate_baselines(ps.Sequences(values[:24, :8]), ps.Sequences(values[24:]), ps.Forecasting(5))
    assert [row.name for row in rows] == FORECAST
    assert "needs training series of 12 steps" in rows[-1].note and bool(rows[-1].mse.isnan().all())
    assert all(row.note == "" for row in rows[:-1])


@pytest.mark.data
def test_physionet_has_baselines():
    train, _, test = ps.datasets.physionet_2012(num_series=200)
    rows = {row.name: row for row in ps.evaluate_baselines(train, test, ps.Imputation(0.3))}
    assert list(rows) == IMPUTE
    by_name = {name: row.means()["mse"] for name, row in rows.items()}
    assert 0 < by_name["linear interpolation"] < by_name["last frame"] < by_name["training mean"]
