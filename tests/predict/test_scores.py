"""Scores of predictions by variable and step, and on the scale of a naive forecast."""

from __future__ import annotations

from dataclasses import replace

import pytest
import scipy.stats
import torch

import pyro_seq as ps
from pyro_seq.data import Labels
from pyro_seq.errors import DataError
from pyro_seq.metrics import NormalForecast, mase, naive_error
from pyro_seq.predict.evaluate import score
from pyro_seq.predict.scores import joined, no_scores, score_normal

DATA = ps.Sequences(
    torch.randn(6, 9, 2, generator=torch.Generator().manual_seed(0)),
    mask=torch.rand(6, 9, 2, generator=torch.Generator().manual_seed(1)) < 0.8,
)
TASK = ps.Forecasting(5)
DRAWS = torch.randn(31, 6, 4, 2, generator=torch.Generator().manual_seed(2))
SCORES = score("mine", DRAWS.mean(0), DRAWS, DATA, TASK)
SEEN, TRUTH = TASK.scored(DATA), DATA.values[:, 5:]


@pytest.mark.parametrize("by", ["entry", "step"])
def test_rows_are_averages_over_all_else(by):
    rows, over = SCORES.table(by), (0, 1) if by == "entry" else (0, 2)
    assert rows[by].tolist() == ([0, 1] if by == "entry" else [1, 2, 3, 4])
    assert rows["count"].tolist() == SEEN.sum(over).tolist() and set(rows["predictor"]) == {"mine"}
    absolute = torch.where(SEEN, (DRAWS.median(0).values - TRUTH).abs(), 0.0).sum(over) / SEEN.sum(over)
    square = torch.where(SEEN, (DRAWS.mean(0) - TRUTH).square(), 0.0).sum(over) / SEEN.sum(over)
    assert rows["mae"].tolist() == pytest.approx(absolute.tolist(), rel=1e-5)
    assert rows["rmse"].tolist() == pytest.approx(square.sqrt().tolist(), rel=1e-5)


def test_series_weigh_by_their_entries_in_a_table_and_alike_in_means():
    whole = SCORES.table(())
    weights = SEEN.sum((1, 2))
    assert float(whole["crps"][0]) == pytest.approx(float((SCORES.crps * weights).sum() / weights.sum()), rel=1e-5)
    assert SCORES.means()["crps"] == pytest.approx(float(SCORES.crps.mean()), rel=1e-5)
    with pytest.raises(DataError, match="`by` must be some of"):
        SCORES.table("cutoff")


def test_scaled_errors_are_those_of_the_metric():
    seen = DATA.first(5)
    expected = mase(DRAWS.median(0).values, TRUTH, seen.values, mask=SEEN, past_mask=seen.entry_mask, keep=0)
    torch.testing.assert_close(SCORES.mase, expected)


def test_a_season_of_the_scale_is_that_of_the_call():
    model = ps.RecurrentVAE((2,))
    model.take_units(DATA)
    plain, seasonal = (ps.evaluate(ps.GuidePosterior(model), DATA, TASK, num_samples=5, period=m) for m in (None, 2))
    scales = [naive_error(DATA.values[:, :5], m, mask=DATA.entry_mask[:, :5])[:, 0] for m in (1, 2)]
    only = SEEN[..., 1].sum(1) == 0  # series with entries of one variable only have the ratio of its scales
    assert torch.equal(plain.mae, seasonal.mae) and not torch.equal(plain.mase, seasonal.mase)
    torch.testing.assert_close((plain.mase * scales[0] / scales[1])[only], seasonal.mase[only])


def test_a_normal_forecast_is_scored_by_its_density():
    forecast = NormalForecast(torch.full_like(TRUTH, 0.3), torch.full_like(TRUTH, 1.7))
    scores = score_normal("normal", forecast, TRUTH, SEEN, naive=torch.ones(6, 2))
    density = torch.as_tensor(scipy.stats.norm(0.3, 1.7).logpdf(TRUTH.numpy())).float()
    torch.testing.assert_close(scores.log_score, torch.where(SEEN, density, 0.0).sum((1, 2)) / SEEN.sum((1, 2)))
    torch.testing.assert_close(scores.mase, scores.mae)


def test_parts_join_to_the_whole_and_nothing_has_no_table():
    parts = [score("mine", DRAWS[:, k].mean(0), DRAWS[:, k], DATA[k], TASK) for k in (slice(0, 2), slice(2, 6))]
    whole = joined(parts)
    torch.testing.assert_close(whole.crps, SCORES.crps)
    torch.testing.assert_close(whole.tally.totals, SCORES.tally.totals, rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match="no scores of it: because"):
        no_scores("it", SCORES.mse, "because").table()


def test_standard_errors_take_series_as_units() -> None:
    shares = torch.tensor([0.5, 1.0, torch.nan, 0.0])
    errors = no_scores("some", shares, "")._replace(coverage_90=shares).standard_errors()
    assert errors["coverage_90"] == pytest.approx(0.5 / 3**0.5)  # deviations 0, 1/2 and -1/2 over 2, of 3 series
    assert errors["mse"] != errors["mse"]


def test_rows_have_the_names_of_the_variables():
    named = replace(DATA, labels=Labels(variables=["pulse", "pressure"]))
    for found in (
        score("mine", DRAWS.mean(0), DRAWS, named, TASK),
        joined(
            [
                score("mine", DRAWS[:, half].mean(0), DRAWS[:, half], named[half], TASK)
                for half in (slice(3), slice(3, 6))
            ]
        ),
        ps.evaluate_baselines(named, named, TASK)[0],
    ):
        assert found.table()["entry"].tolist() == ["pulse", "pressure"]
    plain = score("mine", DRAWS.mean(0), DRAWS, named, TASK).table().drop(columns="entry")
    assert plain.equals(SCORES.table().drop(columns="entry"))


def test_scores_are_short_in_print():
    text = repr(SCORES)
    assert text.startswith(f"Scores(mine, series 6: mse {SCORES.means()['mse']:.4g} +- ") and "nan" not in text
    assert "log_score" not in text and len(text) < 300
    assert repr(no_scores("other", SCORES.mse, "too short")) == "Scores(other: too short)"
