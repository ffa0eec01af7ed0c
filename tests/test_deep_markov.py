"""A model that is not of the library gets every verb by its two methods alone."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.testing import check_model
from tests.deep_markov import DeepMarkovModel

NOISE = 0.1


def swings(num_series: int, seed: int) -> ps.Sequences:
    """Noisy sinusoids of one frequency and any phase, seen in two entries."""
    generator = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(num_series, 1, generator=generator)
    angle = phase + 0.5 * torch.arange(24.0)
    noise = NOISE * torch.randn(num_series, 24, 2, generator=generator)
    return ps.Sequences(3 + torch.stack([angle.cos(), angle.sin()], -1) + noise)


def test_it_keeps_every_rule_without_a_check_or_adapt_of_its_own():
    assert not {"check", "adapt", "coords", "prepare"} & vars(DeepMarkovModel).keys()
    assert not check_model(DeepMarkovModel(2, 3, 8), swings(6, 0)).names("failed")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_it_learns_to_fill_gaps(quiet, seed):
    train, test = swings(100, 2 * seed), swings(20, 2 * seed + 1)
    torch.manual_seed(seed)
    model = DeepMarkovModel(2)
    method = ps.SVI(num_steps=200, batch_size=50, learning_rate=1e-2, clip_norm=5.0, scales={"dreams": 1.0})
    posterior = ps.fit(model, train, method, trainer=quiet)
    task = ps.Imputation(fraction=0.3, seed=1)
    found = ps.evaluate(posterior, test, task, num_samples=50).means()["mse"]
    others = [row.means()["mse"] for row in ps.evaluate_baselines(train, test, task)]
    noise = NOISE**2  # no prediction can do without
    assert found - noise < 0.75 * (min(others) - noise)  # the best, interpolation, is good at what is smooth
