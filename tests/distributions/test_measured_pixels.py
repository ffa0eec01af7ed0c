"""Pixels measured in cells of their means: against the distribution that they came from."""

from __future__ import annotations

import torch
from pyro.distributions import Beta

from pyro_seq.distributions.measured_pixels import MeasuredPixels, measure
from pyro_seq.metrics import coverage


def beta(mean: torch.Tensor) -> Beta:
    """Pixels around a mean, skewed towards the middle, more so where the mean is extreme."""
    return Beta(4 * mean, 4 * (1 - mean))


def test_draws_have_the_distribution_of_the_pixels_that_were_measured():
    torch.manual_seed(0)
    means = torch.rand(200_000, dtype=torch.float64)
    quantiles = measure(means, beta(means).sample())
    wanted = torch.tensor([0.02, 0.1, 0.5, 0.83], dtype=torch.float64)
    draws = MeasuredPixels(wanted, quantiles).sample((20_000,))
    uniform = torch.quantile(draws, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).double(), dim=0)
    exact = torch.quantile(beta(wanted).sample((200_000,)), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).double(), dim=0)
    # a cell has some 1500 pixels and a width of a 128th of the logits, and is read at 65 levels
    torch.testing.assert_close(uniform, exact, rtol=0, atol=0.04)
    assert float(draws.min()) >= 0 and float(draws.max()) <= 1


def test_intervals_of_new_pixels_have_their_level():
    torch.manual_seed(0)
    means = torch.sigmoid(2 * torch.randn(100_000))
    quantiles = measure(means, beta(means).sample())
    new = torch.sigmoid(2 * torch.randn(4000))
    truth, draws = beta(new).sample(), MeasuredPixels(new, quantiles).sample((200,))
    for level in (0.5, 0.9):
        spread = (level * (1 - level) / 4000) ** 0.5
        assert abs(float(coverage(draws[:, None], truth[None], level)) - level) < 4 * spread


def test_black_pixels_stay_black():
    means = torch.cat([torch.full((5000,), 1e-4), torch.full((5000,), 0.7)])
    quantiles = measure(means, (means > 0.5).float())
    assert MeasuredPixels(torch.tensor([0.0, 1e-4, 0.7, 1.0]), quantiles).sample((9,)).unique(dim=0).tolist() == [
        [0.0, 0.0, 1.0, 1.0]
    ]


def test_a_cell_with_few_pixels_takes_those_of_the_nearest_means():
    means = torch.tensor([0.2] * 1000 + [0.9])
    quantiles = measure(means, means)
    assert quantiles.isfinite().all()
    draws = MeasuredPixels(torch.tensor([0.2, 0.9]), quantiles).sample((1000,))
    assert float((draws[:, 1] == 0.2).float().mean()) > 0.9


def test_shapes_and_means():
    mean = torch.rand(3, 1, 4)
    pixels = MeasuredPixels(mean, measure(torch.rand(500), torch.rand(500)))
    assert pixels.expand((2, 3, 5, 4)).sample((6,)).shape == (6, 2, 3, 5, 4)
    assert torch.equal(pixels.expand((3, 5, 4)).mean, mean.expand(3, 5, 4))
    assert pixels.to_event(1).sample().shape == (3, 1, 4)


def test_a_mean_that_is_no_number_is_drawn_as_none():
    quantiles = torch.linspace(0, 1, 3).expand(128, 3)
    drawn = MeasuredPixels(torch.tensor([0.5, float("nan"), 1.0, 0.0]), quantiles).sample()
    assert drawn.isnan().tolist() == [False, True, False, False]
