"""The posterior of factors: a proper density, and draws that have it."""

from __future__ import annotations

import torch
from torch.distributions import MultivariateNormal

from pyro_seq.distributions.factors_given_series import FactorsGivenSeries
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.ornstein_uhlenbeck import OrnsteinUhlenbeck
from pyro_seq.ops.kalman import LinearGaussianParameters

STEPS, FACTORS = 4, 2


def posterior() -> FactorsGivenSeries:
    generator = torch.Generator().manual_seed(0)
    correlation = torch.rand(STEPS, FACTORS, generator=generator, dtype=torch.float64)
    loadings = torch.randn(3, FACTORS, generator=generator, dtype=torch.float64)
    variance = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    linear = LinearGaussianParameters(
        correlation.diag_embed(), (1 - correlation**2).diag_embed(), loadings, variance.diag(),
        torch.zeros(FACTORS, dtype=torch.float64), torch.eye(FACTORS, dtype=torch.float64),
    )  # fmt: skip
    mask = torch.rand(5, STEPS, 3, generator=generator) < 0.6
    values = torch.randn(5, STEPS, 3, generator=generator, dtype=torch.float64) * mask
    return FactorsGivenSeries(LinearGaussian(linear, STEPS, mask=mask), values, OrnsteinUhlenbeck(correlation, STEPS))


def dense(law: FactorsGivenSeries, series: int) -> MultivariateNormal:
    """The same posterior from precisions: that of the prior, by its density's curvature, and that of the noise."""
    size = STEPS * FACTORS
    curvature = torch.autograd.functional.hessian(
        lambda path: law.prior.log_prob(path.view(STEPS, FACTORS)), torch.zeros(size, dtype=torch.float64)
    )
    parameters = law.linear.parameters
    loadings, precision = parameters.observation, 1 / parameters.observation_cov.diagonal()
    weight = law.linear.mask_of_entries[series] * precision
    told = torch.block_diag(*[loadings.T @ torch.diag(row) @ loadings for row in weight])
    cov = torch.linalg.inv(told - curvature)
    return MultivariateNormal(cov @ ((weight * law.values[series]) @ loadings).flatten(), (cov + cov.T) / 2)


def test_density_and_draws_are_those_of_the_dense_posterior():
    law, count = posterior(), 8000
    path = torch.randn(6, 5, STEPS, FACTORS, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = law.rsample(torch.Size([count]))
    assert not draws.requires_grad and draws.shape == (count, 5, STEPS, FACTORS)
    for series in range(5):
        exact = dense(law, series)
        torch.testing.assert_close(law.log_prob(path)[:, series], exact.log_prob(path[:, series].flatten(1)))
        sample = draws[:, series].flatten(1)
        # five standard errors of a mean; of a covariance of entries of at most unit variance
        assert float(((sample.mean(0) - exact.mean) / exact.stddev).abs().max()) < 5 / count**0.5
        torch.testing.assert_close(torch.cov(sample.T), exact.covariance_matrix, rtol=0, atol=5 * (2 / count) ** 0.5)


def test_several_draws_of_all_series_at_once():
    law = posterior().expand(torch.Size([7, 5]))
    assert law.rsample().shape == (7, 5, STEPS, FACTORS) and law.expand(torch.Size([7, 5])) is law
    assert law.log_prob(law.rsample()).shape == (7, 5)
