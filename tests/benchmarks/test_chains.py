"""Chains over a field of three weights: importance sampling is right where an exact answer is known; chains agree."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from benchmarks.chains import chain_moments, gap_of, importance_moments


class Line(ps.SequenceModel):
    """Three weights with a normal posterior."""

    def model(self, data: ps.Sequences) -> None:
        weights = pyro.sample("weights", dist.Normal(data.values.new_zeros(3), 1.0).to_event(1))
        with self.series(data):
            self.observe(lambda states: dist.Normal(states, 1.0), weights[..., None, :], data)


def test_importance_sampling_knows_a_normal_posterior() -> None:
    """Two observations of variance 1 and a prior of variance 1."""
    values = torch.tensor([[[3.0, 0.0, -1.0]], [[0.0, 0.0, 4.0]]], dtype=torch.float64)
    found = importance_moments(Line(), ps.Sequences(values), 20_000, seed=0)
    assert bool(((found.mean - values.sum(0)[0] / 3).abs() < 4.5 * found.mean_error).all())
    assert bool(((found.deviation - 3**-0.5).abs() < 4.5 * found.deviation_error).all())
    torch.testing.assert_close(found.mean_error * 20_000**0.5, torch.full((3,), 3**-0.5).double(), rtol=0.25, atol=0)


def test_errors_of_chains_are_those_of_independent_draws() -> None:
    draws = 2 * torch.randn(4, 2_500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = chain_moments(draws)
    torch.testing.assert_close(found.mean_error, torch.full((3,), 0.02).double(), rtol=0.15, atol=0)
    torch.testing.assert_close(found.deviation_error, torch.full((3,), 0.02 / 2**0.5).double(), rtol=0.2, atol=0)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_chains_agree_with_importance_sampling() -> None:
    """Thirty means and thirty deviations of ten data sets: within three errors but for what chance allows."""
    gaps = torch.stack([gap_of(seed, 150, 40_000) for seed in range(10)])
    assert float((gaps < 3).double().mean()) > 0.97 and float(gaps.max()) < 4.5
