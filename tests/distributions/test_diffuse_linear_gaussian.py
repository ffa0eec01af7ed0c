"""Paths with a diffuse start, and second observations of a hidden path."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.states_given_path import StatesGivenPath
from pyro_seq.errors import NumericalError, ShapeError, UnsupportedError
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter

STARTS = pytest.mark.parametrize("diffuse", [None, torch.tensor([True, True])], ids=["known start", "diffuse start"])


def parameters(diffuse: torch.Tensor | None = torch.tensor([True, True])) -> LinearGaussianParameters:
    transition = torch.tensor([[1.0, 1.0], [0.0, 0.9]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    return LinearGaussianParameters(transition, 0.3 * eye, eye[:1], 0.5 * eye[:1, :1], 0 * eye[0], eye, diffuse=diffuse)


def observed() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 10, 1, dtype=torch.float64, generator=generator).cumsum(1)
    mask = torch.ones(3, 10, 1, dtype=torch.bool)
    mask[0, 4:7] = mask[1, 0] = mask[2, 8:] = False
    return values.masked_fill(~mask, 0.0), mask


def test_log_prob_is_the_diffuse_likelihood():
    values, mask = observed()
    path = LinearGaussian(parameters(), 10, mask=mask)
    assert path.batch_shape == (3,) and path.event_shape == (10, 1)
    torch.testing.assert_close(path.log_prob(values), kalman_filter(values, parameters(), mask).log_likelihood)
    wider = path.expand((4, 3))
    assert wider.batch_shape == (4, 3)
    torch.testing.assert_close(wider.log_prob(values), path.log_prob(values).expand(4, 3))
    known = LinearGaussian(parameters(torch.tensor([False, False])), 10, mask=mask)
    torch.testing.assert_close(known.log_prob(values), LinearGaussian(parameters(None), 10, mask=mask).log_prob(values))


def test_future_continues_the_likelihood():
    """The density of the continuation is the ratio of those of the longer and of the shorter path."""
    values, mask = observed()
    whole = LinearGaussian(parameters(), 10, mask=mask)
    past = LinearGaussian(parameters(), 6, mask=mask[:, :6])
    future = past.future(values[:, :6], 4)
    assert isinstance(future, LinearGaussian) and future.parameters.diffuse is None
    seen = torch.tensor([False, True, False])  # the series whose last steps are all observed
    ratio = whole.log_prob(values) - past.log_prob(values[:, :6])
    torch.testing.assert_close(future.log_prob(values[:, 6:])[seen], ratio[seen], rtol=1e-9, atol=1e-9)


def test_future_with_parameters_that_change():
    values, _ = observed()
    changing = parameters()._replace(
        transition_cov=torch.linspace(0.1, 1.0, 10, dtype=torch.float64)[:, None, None] * torch.eye(2).double()
    )
    past = LinearGaussian(changing, 6)
    ratio = LinearGaussian(changing, 10).log_prob(values) - past.log_prob(values[:, :6])
    torch.testing.assert_close(past.future(values[:, :6], 4).log_prob(values[:, 6:]), ratio, rtol=1e-9, atol=1e-9)
    with pytest.raises(ShapeError, match="`horizon`"):
        past.future(values[:, :6], 5)


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


def test_what_does_not_exist_is_refused():
    values, mask = observed()
    path = LinearGaussian(parameters(), 10, mask=mask)
    with pytest.raises(UnsupportedError, match="diffuse start"):
        path.sample()
    with pytest.raises(UnsupportedError, match="diffuse start"):
        path.rsample()
    with pytest.raises(NumericalError, match="determine the diffuse states"):
        _ = path.mean
    with pytest.raises(UnsupportedError, match="known start"):
        StatesGivenPath(path, values)
    with pytest.raises(UnsupportedError, match="no density"):
        path.replicate(values).log_prob(values)
    with pytest.raises(ShapeError, match="A path must be"):
        path.log_prob(values[:, 1:])
    with pytest.raises(ShapeError, match="`num_steps`"):
        LinearGaussian(parameters())
