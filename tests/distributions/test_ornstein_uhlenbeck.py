"""Processes that fade: density and draws against the dense Gaussian of all steps, at any times."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from pyro_seq.distributions.ornstein_uhlenbeck import OrnsteinUhlenbeck
from pyro_seq.errors import ShapeError

TIMES = torch.tensor([0.0, 0.3, 1.7, 1.8, 5.0], dtype=torch.float64)
TIMESCALES = torch.tensor([0.5, 4.0], dtype=torch.float64)


def correlation(times: torch.Tensor = TIMES) -> torch.Tensor:
    gaps = times.diff(prepend=times[:1])
    return torch.exp(-gaps[:, None] / TIMESCALES)


def dense(times: torch.Tensor = TIMES) -> list[MultivariateNormal]:
    """The law of each process at all times: covariance exp(-|t - s| / timescale)."""
    apart = (times[:, None] - times).abs()
    return [MultivariateNormal(torch.zeros_like(times), torch.exp(-apart / scale)) for scale in TIMESCALES]


def test_the_density_is_that_of_the_dense_gaussian():
    value = torch.randn(7, 5, 2, dtype=torch.float64)
    exact = sum(law.log_prob(value[..., i]) for i, law in enumerate(dense()))
    torch.testing.assert_close(OrnsteinUhlenbeck(correlation(), 5).log_prob(value), exact, rtol=1e-12, atol=1e-12)


def test_draws_have_its_covariance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = OrnsteinUhlenbeck(correlation(), 5).rsample(torch.Size([40_000]))
    for i, law in enumerate(dense()):
        found = torch.cov(draws[..., i].T)
        # a covariance of unit normals has the standard error sqrt((1 + rho^2) / n), at most .007
        torch.testing.assert_close(found, law.covariance_matrix, rtol=0, atol=5 * 0.0071)


def test_what_follows_is_the_conditional_law():
    value, horizon = torch.randn(3, 3, 2, dtype=torch.float64), torch.randn(3, 2, 2, dtype=torch.float64)
    whole, part = OrnsteinUhlenbeck(correlation(), 5), OrnsteinUhlenbeck(correlation(), 3)
    together = whole.log_prob(torch.cat([value, horizon], 1))
    torch.testing.assert_close(part.future(value, 2).log_prob(horizon), together - part.log_prob(value))
    ahead = part.future(value, 2).mean
    torch.testing.assert_close(ahead[:, 1], value[:, -1] * torch.exp(-(TIMES[4] - TIMES[2]) / TIMESCALES))


def test_steps_after_the_end_do_not_count():
    value, valid = torch.randn(2, 5, 2, dtype=torch.float64), torch.arange(5) < torch.tensor([[3], [5]])
    found = OrnsteinUhlenbeck(correlation(), 5, valid=valid).log_prob(value)
    short = OrnsteinUhlenbeck(correlation(), 3).log_prob(value[0, :3])
    torch.testing.assert_close(found[0], short)
    torch.testing.assert_close(found[1], OrnsteinUhlenbeck(correlation(), 5).log_prob(value[1]))


def test_expansion_and_single_steps():
    law = OrnsteinUhlenbeck(correlation(), 1).expand(torch.Size([4, 3]))
    assert law.rsample().shape == (4, 3, 1, 2) and law.log_prob(torch.zeros(1, 2).double()).shape == (4, 3)
    assert law.expand(torch.Size([2, 4, 3])).rsample().shape == (2, 4, 3, 1, 2)


def test_a_horizon_must_be_within_the_correlations():
    with pytest.raises(ShapeError, match="`horizon` must be at least 1 and within `correlation`. Got 3 after 3 of 5"):
        OrnsteinUhlenbeck(correlation(), 3).future(torch.zeros(3, 2).double(), 3)
