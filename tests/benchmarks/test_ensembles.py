"""Ensembles of seeds: pooled draws, the mean of the means, and nothing where there are too few."""

from __future__ import annotations

import math

import pytest
import torch

import pyro_seq as ps
from benchmarks.studies._ensembles import ensemble_row

DATA = ps.Sequences(torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0)))


class Known:
    """Forecasts two steps by draws that depend on the member alone."""

    def given(self, data: ps.Sequences) -> ps.Sequences:
        return ps.Forecasting(4).given(data)

    def scored(self, data: ps.Sequences) -> torch.Tensor:
        return ps.Forecasting(4).scored(data)

    def predict(self, member: float, given: ps.Sequences, *, num_samples: int, **_: object) -> ps.Prediction:
        noise = torch.randn(num_samples, 3, 2, 2, generator=torch.Generator().manual_seed(int(member)))
        return ps.Prediction(member + noise, member + torch.zeros_like(noise), {}, given.times)


def test_draws_are_pooled_and_means_averaged() -> None:
    row = ensemble_row([0.0, 1.0, 2.0, 3.0], DATA, Known(), size=2, num_samples=40)
    truth = DATA.values[:, 4:]
    errors = [float((truth - mean).square().mean()) for mean in (0.5, 2.5)]
    assert row["mse"] == pytest.approx(sum(errors) / 2, rel=1e-5)
    assert row["mse_by_seed"] == pytest.approx(errors, abs=1e-4)
    pooled = [
        torch.cat([Known().predict(one, DATA, num_samples=20).samples for one in pair]) for pair in ((0, 1), (2, 3))
    ]
    crps = [float(ps.metrics.crps(draws, truth)) for draws in pooled]
    assert row["crps"] == pytest.approx(sum(crps) / 2, rel=1e-5)
    assert row["predictor"] == "ensemble of 2" and math.isfinite(row["mse_sd"]) and len(row["mse_by_series"]) == 3


def test_too_few_seeds_make_no_row() -> None:
    assert ensemble_row([0.0, 1.0], DATA, Known(), size=3) is None
    assert "mse_sd" not in (ensemble_row([0.0, 1.0], DATA, Known(), size=2, num_samples=4) or {"mse_sd": 0})
