"""Fans from several origins and scores by the number of steps ahead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq import DataError, Prediction, Sequences, diagnostics
from pyro_seq.diagnostics.backtest import Backtest
from pyro_seq.predict._tally import SCORES, Tally


def some_result() -> Backtest:
    """Two origins, the second unknown for the second series, and a point prediction beside the model."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, 30, 2, 3, 1, generator=generator)
    draws[1, :, 1] = torch.nan
    predictions = tuple(Prediction(draws[k], draws[k], {}, torch.arange(c, c + 3.0)) for k, c in enumerate((4, 6)))
    totals = torch.rand(len(SCORES), 2, 3, 1, generator=generator, dtype=torch.float64)
    model, point = (Tally(totals, torch.ones_like(totals, dtype=torch.int64)) for _ in range(2))
    point = Tally(totals.clone(), point.counts)
    point.totals[3:] = point.counts[3:] = 0
    data = Sequences(torch.randn(2, 9, 1, generator=generator))
    return Backtest(data, 3, (4, 6), predictions, {"model": model, "training mean": point}, {})


def test_fans_lie_at_their_origins_and_lines_are_the_scores() -> None:
    result = some_result()
    fans, curves = diagnostics.plot_backtest(result, score="mae").axes
    medians = [line for line in fans.lines if line.get_label() == "median"]
    assert [list(line.get_xdata()) for line in medians] == [[4, 5, 6], [6, 7, 8]]
    np.testing.assert_allclose(medians[0].get_ydata(), result.predictions[0].samples[:, 0, :, 0].median(0).values)
    assert [text.get_text() for text in fans.get_legend().texts] == ["median", "50 %", "90 %", "seen"]
    table = result.table()
    assert [line.get_label() for line in curves.lines] == ["model", "training mean"]
    for line in curves.lines:
        np.testing.assert_allclose(line.get_ydata(), table[table["predictor"] == line.get_label()]["mae"])
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])


def test_what_has_no_interval_or_no_forecast_is_not_drawn() -> None:
    fans, curves = diagnostics.plot_backtest(some_result(), score="coverage_90", series=1).axes
    assert len([line for line in fans.lines if line.get_label() == "median"]) == 1
    scored, level = curves.lines
    assert scored.get_label() == "model" and list(level.get_ydata()) == [0.9, 0.9]


@pytest.mark.parametrize("wrong", [{"score": "mse"}, {"series": 2}, {"entry": 1}, {"entry": -1}])
def test_what_does_not_exist_is_refused(wrong: dict) -> None:
    with pytest.raises(DataError, match=f"`{next(iter(wrong))}` must be"):
        diagnostics.plot_backtest(some_result(), **wrong)
