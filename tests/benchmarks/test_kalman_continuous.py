"""What the study of irregular times gives to its models, and that it runs."""

from __future__ import annotations

import argparse
import math

import pytest
import torch

import pyro_seq as ps
from benchmarks import kalman_continuous


def test_training_has_the_seen_points_at_their_times_and_no_other():
    complete, _, _ = ps.datasets.irregular_sinusoids(num_train=5, num_test=1, num_steps=20)
    given = ps.datasets.observe_share(complete, 0.3)
    seen = kalman_continuous.only_seen(given)
    assert seen.values.shape == (5, 6, 1) and bool(seen.mask.all())
    for series in range(5):
        steps = given.step_mask[series]
        assert torch.equal(seen.times[series], given.times[steps])
        assert torch.equal(seen.values[series], complete.values[series, steps])


def test_oscillators_begin_with_their_periods():
    dynamics = kalman_continuous.oscillators(50.0, 1)
    speeds = torch.linalg.eigvals(dynamics.drift[0].detach()).imag
    periods = (2 * math.pi / speeds[speeds > 1e-6]).sort().values
    torch.testing.assert_close(periods[[0, -1]], torch.tensor([5.0, 60.0]), rtol=1e-4, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("form", kalman_continuous.FORMS)
def test_the_pendulum_runs(form):
    options = argparse.Namespace(quick=True, steps=8)
    row = kalman_continuous.pendulum(form, 0, options)
    assert row.startswith(f"| {form} | 0 | 0.0") and "nan" not in row


@pytest.mark.slow
def test_the_sinusoids_run():
    row = kalman_continuous.sinusoids(0.1, 3, 0, argparse.Namespace(quick=True, steps=30))
    assert row.startswith("| 0.1 | 3 | 0 | 0.") and "nan" not in row
