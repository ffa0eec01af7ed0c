"""Guides with correlations: the closed divergence against torch's for two full covariances, and expansion."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_seq.distributions.correlated_normal import CorrelatedNormal


def posterior() -> CorrelatedNormal:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(5, 3, 3, generator=generator, dtype=torch.float64).tril(-1)
    scale = torch.rand(5, 3, generator=generator, dtype=torch.float64) + 0.1
    return CorrelatedNormal(
        torch.randn(5, 3, generator=generator, dtype=torch.float64), factor + torch.diag_embed(scale)
    )


def test_the_divergence_is_that_of_two_full_covariances():
    mine = posterior()
    loc, scale = torch.tensor([0.5, -1.0, 2.0]).double(), torch.tensor([0.3, 1.0, 4.0]).double()
    full = MultivariateNormal(loc, scale_tril=torch.diag_embed(scale))
    expected = kl_divergence(MultivariateNormal(mine.loc, scale_tril=mine.scale_tril), full)
    found = kl_divergence(mine, dist.Normal(loc, scale).to_event(1))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_without_correlations_it_is_the_independent_normal():
    scale = torch.tensor([[0.3, 1.0]])
    mine, plain = CorrelatedNormal(torch.ones(1, 2), torch.diag_embed(scale)), dist.Normal(1.0, scale).to_event(1)
    value, prior = torch.randn(7, 1, 2), dist.Normal(torch.zeros(2), 1.0).to_event(1)
    torch.testing.assert_close(mine.log_prob(value), plain.log_prob(value))
    torch.testing.assert_close(kl_divergence(mine, prior), kl_divergence(plain, prior))


def test_other_priors_have_no_closed_form():
    with pytest.raises(NotImplementedError):
        kl_divergence(posterior(), dist.Laplace(torch.zeros(3).double(), 1.0).to_event(1))


def test_expansion_keeps_class_and_density():
    mine, value = posterior(), torch.randn(4, 5, 3, dtype=torch.float64)
    larger = mine.expand(torch.Size([4, 5]))
    assert isinstance(larger, CorrelatedNormal) and larger.rsample().shape == (4, 5, 3)
    torch.testing.assert_close(larger.log_prob(value), mine.log_prob(value))
