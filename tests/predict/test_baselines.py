"""`evaluate_baselines` on data with gaps, of unequal length, or with entries that are never seen."""

from __future__ import annotations

import math

import pytest
import torch

import pyro_seq as ps

FORECAST = ["training mean", "last frame", "drift", "exponential smoothing", "nearest training series"]
IMPUTE = ["training mean", "last frame", "linear interpolation", "nearest training series"]


def sines(num_series: int = 32, num_steps: int = 12) -> torch.Tensor:
    phase = 6.28 * torch.rand(num_series, 1, generator=torch.Generator().manual_seed(0))
    time = 0.3 * torch.arange(num_steps)
    return torch.stack([torch.sin(time + phase), torch.cos(time + phase)], -1)


def scored(train: ps.Sequences, test: ps.Sequences, task, skipped: tuple[str, ...] = ()) -> dict[str, float]:
    rows = [row for row in ps.evaluate_baselines(train, test, task) if row.name not in skipped]
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
    # the first series of `late` is forecast from nothing, which a training set can do and a series alone cannot
    skipped = ("drift", "exponential smoothing") if kind == "late" else ()
    found = scored(train, test, ps.Forecasting(5), skipped)
    assert list(found) == [name for name in FORECAST if name not in skipped]
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
    from_training = [row for row in rows if row.name not in ("drift", "exponential smoothing")]
    assert all("no series of `train` shows the entries [(1,)]" in row.note for row in from_training)
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


def test_forecasts_of_vectors_have_classical_rivals_with_intervals():
    """Scores of random walks: the naive interval holds 90 %, and its score is that of the true distribution."""
    values = torch.randn(400, 60, 1, generator=torch.Generator().manual_seed(2)).cumsum(1)
    data, task = ps.Sequences(values), ps.Forecasting(52)
    rows = {row.name: row for row in ps.evaluate_baselines(data.first(52), data, task, period=4)}
    assert list(rows) == [*FORECAST[:4], "seasonal naive", FORECAST[4]]
    naive = rows["last frame"].means()
    # errors of a series hang together; a share of one walk has a deviation of at most .5
    assert abs(naive["coverage_90"] - 0.9) < 4 * 0.5 / 400**0.5
    steps = torch.arange(1, 9).sqrt()
    assert naive["crps"] == pytest.approx(float(steps.mean()) * (2 / math.pi) ** 0.5 / 2**0.5, rel=0.15)
    assert naive["crps"] < rows["seasonal naive"].means()["crps"] < rows["training mean"].means()["crps"]
    assert naive["mse"] == pytest.approx(float((values[:, 52:] - values[:, 51:52]).square().mean()), rel=1e-5)


def test_a_rival_without_enough_to_go_by_says_what_it_needs():
    values = sines()
    test = ps.Sequences(values[24:]).hide((torch.arange(12) < 4) & (torch.arange(8)[:, None] < 3))
    rows = {row.name: row for row in ps.evaluate_baselines(test, test, ps.Forecasting(5), period=3)}
    assert rows["drift"].note == "needs two seen values of each entry; 3 of 8 series show less"
    assert rows["seasonal naive"].note == "needs a seen value of each entry in each season; 3 of 8 series show less"
    assert rows["drift"].mse.isnan().tolist() == [True] * 3 + [False] * 5
    assert rows["exponential smoothing"].note == "" and bool(rows["last frame"].mse.isfinite().all())
    assert rows["last frame"].coverage_90.isnan().tolist() == [True] * 3 + [False] * 5


def test_a_few_series_at_a_time_give_what_all_give(monkeypatch):
    test = ps.Sequences(sines(7)).hide(torch.rand(7, 12, generator=torch.Generator().manual_seed(3)) < 0.2)
    whole = ps.evaluate_baselines(test, test, ps.Forecasting(8), period=3)
    monkeypatch.setattr("pyro_seq.predict.baselines._ENTRIES", 3 * 8 * 2)
    for row, other in zip(whole, ps.evaluate_baselines(test, test, ps.Forecasting(8), period=3), strict=True):
        assert row.name == other.name and row.note == other.note
        for score, same in zip(row[1:-3], other[1:-3], strict=True):
            torch.testing.assert_close(score, same, rtol=1e-6, atol=0, equal_nan=True)


def test_no_classical_rival_of_images_and_gaps():
    images = ps.Sequences(torch.rand(4, 6, 1, 3, 3))
    names = [row.name for row in ps.evaluate_baselines(images, images, ps.Forecasting(3))]
    assert names == ["training mean", "last frame", "nearest training series"]
    for data, task in ((images, ps.Forecasting(3)), (ps.Sequences(sines()), ps.Imputation())):
        with pytest.raises(ps.DataError, match="`period` is for forecasts of vectors"):
            ps.evaluate_baselines(data, data, task, period=2)


@pytest.mark.data
def test_physionet_has_baselines():
    train, _, test = ps.datasets.physionet_2012(num_series=200)
    rows = {row.name: row for row in ps.evaluate_baselines(train, test, ps.Imputation(0.3))}
    assert list(rows) == IMPUTE
    by_name = {name: row.means()["mse"] for name, row in rows.items()}
    assert 0 < by_name["linear interpolation"] < by_name["last frame"] < by_name["training mean"]
