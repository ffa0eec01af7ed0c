"""The benchmark of structural time series: its data, its baselines, and what the models reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pyro_seq as ps
from benchmarks._structural_cases import CASES
from benchmarks._structural_nile import Plan, apart, row_of
from benchmarks.structural import Forecast, by_last, by_season, by_statsmodels, by_structure, scores


@pytest.mark.slow
@pytest.mark.parametrize(("series", "most"), [("co2", 0.5), ("passengers", 0.06)])
def test_two_years_ahead(series, most):
    """Errors are a fraction of those of the same season, and intervals hold what comes."""
    case = CASES[series]
    data = case.data()
    found = by_structure(case, data, ps.Mode(has_prior=False, num_starts=1), 200)
    error, share = scores(case, found)
    assert error < most < 0.4 * scores(case, by_season(case, data))[0] and share >= 0.9
    assert found.log_likelihood > by_statsmodels(case, data).log_likelihood - 1e-3


def test_data_and_baselines():
    co2, passengers = CASES["co2"].data(), CASES["passengers"].data()
    assert int((~co2.mask).sum()) == 59 and co2.num_steps == 2284
    assert passengers.num_steps == 144 and float(passengers.values.exp().sum()) == pytest.approx(40363)
    case = CASES["passengers"]
    assert torch.equal(by_season(case, passengers).mean[:12], by_season(case, passengers).mean[12:])
    assert torch.equal(by_season(case, passengers).mean[:12], passengers.values[0, -36:-24, 0])
    assert scores(case, by_last(case, passengers))[0] == pytest.approx(0.3231, abs=1e-4)
    truth = passengers.values[0, -24:, 0]
    assert scores(case, Forecast(truth, truth - 1, truth + 1)) == (0.0, 1.0)


def test_rows_of_chains_tell_one_posterior_from_another():
    generator = np.random.default_rng(0)
    plan, draws = Plan(10, 200, 4), generator.normal(size=(2, 4, 200, 2))
    one, same = (row_of("chains", some, 2.0, plan, 0) for some in draws)
    assert one["rhat"] < 1.02 and 600 < one["ess_bulk"] < 1100
    assert one["ess_per_second"] == pytest.approx(one["ess_bulk"] / 2)
    assert apart(one, same) < 4 < apart(one, row_of("chains", draws[1] + 0.3, 2.0, plan, 0))
