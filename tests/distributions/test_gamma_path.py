"""Paths of gamma variables against torch's own, and their divergence."""

from __future__ import annotations

import torch
from torch.distributions import Gamma, kl_divergence

from pyro_seq.distributions.gamma_path import GammaPath


def path(seed: int, valid: torch.Tensor | None = None) -> GammaPath:
    source = torch.Generator().manual_seed(seed)
    numbers = 0.5 + 3 * torch.rand(2, 3, 5, 1, generator=source).double()
    return GammaPath(numbers[0], numbers[1], 5, valid=valid)


def test_density_and_divergence_are_sums_over_the_valid_steps():
    valid = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])
    one, other = path(0), path(1, valid)
    value = one.steps().sample()
    each, apart = (Gamma(law.concentration, law.rate) for law in (one, other))
    expected = torch.where(valid[..., None], apart.log_prob(value), 0.0).sum((1, 2))
    torch.testing.assert_close(other.log_prob(value), expected)
    expected = torch.where(valid[..., None], kl_divergence(each, apart), 0.0).sum((1, 2))
    torch.testing.assert_close(kl_divergence(one, other), expected)


def test_moments_of_draws_and_what_follows():
    torch.manual_seed(0)
    law = path(2)
    draws = law.rsample((20_000,))
    assert draws.shape == (20_000, 3, 5, 1)
    error = 5 * law.steps().stddev / 20_000**0.5
    assert bool(((draws.mean(0) - law.mean).abs() < error).all())
    half = torch.tensor([[2.0]])
    prior = GammaPath(half, half, 4, batch_shape=torch.Size((3,)))
    after = prior.future(prior.rsample(), 2)
    assert after.batch_shape == (3,) and after.event_shape == (2, 1) and float(after.mean[0, 0]) == 1.0


def test_tiny_shapes_draw_positive_numbers():
    law = GammaPath(torch.full((1, 1), 1e-3), torch.ones(1, 1), 500)
    torch.manual_seed(0)
    assert bool((law.rsample() > 0).all()) and bool(law.log_prob(law.rsample()).isfinite())


def test_gradients_reach_the_parameters():
    half = torch.tensor([[2.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(GammaPath(half, 2 * half, 100).rsample().mean(), half)
    assert bool(slope.isfinite().all()) and float(slope.abs()) > 0
