"""Trends: moves of one step by their equations; longer ones follow, see the tests of all components."""

from __future__ import annotations

import torch

from pyro_seq.nn.components.trend import SmoothTrend, Trend


def test_one_step_of_a_trend():
    values = {"level_scale": torch.tensor([2.0]), "slope_scale": torch.tensor([0.5])}
    block = Trend().block(values, torch.ones(1))
    assert block.transition[0].tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert block.transition_cov[0].tolist() == [[4.0, 0.0], [0.0, 0.25]]


def test_noise_of_a_smooth_trend_is_an_integral():
    r"""Of (s, 1) (s, 1)^T from 0 to the gap, by a fine sum."""
    gap, scale = 1.7, 0.3
    middles = (torch.arange(20_000, dtype=torch.float64) + 0.5) * gap / 20_000
    reach = torch.stack([middles, torch.ones_like(middles)])
    expected = scale**2 * reach @ reach.mT * gap / 20_000
    values = {"slope_scale": torch.tensor([scale], dtype=torch.float64)}
    block = SmoothTrend().block(values, torch.tensor([gap], dtype=torch.float64))
    torch.testing.assert_close(block.transition_cov[0], expected, rtol=1e-8, atol=0)
    assert block.transition[0].tolist() == [[1.0, gap], [0.0, 1.0]]
