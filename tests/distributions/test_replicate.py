"""Second observations of a hidden path."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from tests.distributions.trend import observed, parameters

STARTS = pytest.mark.parametrize("diffuse", [None, torch.tensor([True, True])], ids=["known start", "diffuse start"])


@STARTS
def test_replicate_moments(diffuse):
    """Means, variances and neighbours' covariances of drawn replicates against the smoother."""
    values, mask = observed()
    path = LinearGaussian(parameters(diffuse), 10, mask=mask)
    replicate = path.replicate(values)
    assert replicate.batch_shape == (3,) and replicate.event_shape == (10, 1)
    smoothed = path.smooth(values)
    torch.testing.assert_close(replicate.mean, smoothed.smoothed_means[..., :1])
    variance = smoothed.smoothed_covs[..., :1, :1].squeeze(-1) + 0.5
    torch.testing.assert_close(replicate.variance, variance)
    count = 8000
    torch.manual_seed(0)
    draws = replicate.sample((count,))
    white = (draws - replicate.mean) / variance.sqrt()
    assert white.mean(0).abs().max() < 5 / count**0.5
    assert (white.square().mean(0) - 1).abs().max() < 5 * (2 / count) ** 0.5
    expected = smoothed.cross_covs[..., 0, 0] / (variance[:, :-1, 0] * variance[:, 1:, 0]).sqrt()
    cross = (white[:, :, :-1, 0] * white[:, :, 1:, 0]).mean(0)
    assert (cross - expected).abs().max() < 5 * (2 / count) ** 0.5


@STARTS
def test_replicate_of_hidden_steps_is_their_conditional(diffuse):
    """A hidden step's mean and variance against Bayes' rule: how the likelihood grows with its value."""
    values, mask = observed()
    replicate = LinearGaussian(parameters(diffuse), 10, mask=mask).replicate(values)
    revealed = mask.clone()
    revealed[0, 5] = True
    guesses = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    filled = values[0].repeat(3, 1, 1)
    filled[:, 5, 0] = guesses
    likelihood = LinearGaussian(parameters(diffuse), 10, mask=revealed[0]).log_prob(filled)
    known = torch.distributions.Normal(replicate.mean[0, 5, 0], replicate.variance[0, 5, 0].sqrt()).log_prob(guesses)
    torch.testing.assert_close(likelihood.diff(), known.diff(), rtol=1e-9, atol=1e-9)


def test_replicate_over_draws_of_parameters():
    values, mask = observed()
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None, None, None]
    several = parameters()._replace(observation_cov=scale * parameters().observation_cov)
    path = LinearGaussian(several, 10, mask=mask)
    assert path.batch_shape == (2, 3)
    torch.manual_seed(0)
    replicate = path.replicate(values).expand((2, 3))
    assert replicate.rsample().shape == (2, 3, 10, 1)
    for place in range(2):
        one = parameters()._replace(observation_cov=scale[place, 0, 0] * parameters().observation_cov)
        alone = LinearGaussian(one, 10, mask=mask).replicate(values)
        torch.testing.assert_close(replicate.mean[place], alone.mean)
        torch.testing.assert_close(replicate.variance[place], alone.variance)
