"""`Replicate` under noise that is correlated between sensors, against one dense Gaussian of states and observations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.replicate import Replicate
from pyro_seq.ops.kalman import LinearGaussianParameters
from pyro_seq.posterior import GuidePosterior
from tests.dense_gaussian import Gaussian, assert_moments, dense_path, normal
from tests.distributions import trend

STEPS, OBS, STATE = 6, 3, 2


def parameters(kind: str) -> LinearGaussianParameters:
    """Two states, three sensors; noise that changes over time, is of rank one, or is independent between sensors."""
    noise = normal(STEPS, OBS, OBS, seed=3)
    noise = noise @ noise.mT + 0.1 * torch.eye(OBS).double()
    if kind == "constant":
        noise = noise[0]
    elif kind == "rank one":
        noise = normal(OBS, 1, seed=4) @ normal(OBS, 1, seed=4).T
    elif kind == "independent":
        noise = noise.diagonal(dim1=-2, dim2=-1).diag_embed()
    root = normal(STATE, STATE, seed=5)
    eye = torch.eye(STATE).double()
    return LinearGaussianParameters(0.8 * eye, root @ root.T + 0.1 * eye, normal(OBS, STATE), noise, normal(STATE), eye)


def holes() -> Tensor:
    """Single entries, pairs of them, a whole step and a full one."""
    mask = torch.ones(STEPS, OBS, dtype=torch.bool)
    mask[0, 1] = mask[1, :2] = mask[2] = mask[4, 2] = False
    return mask


def hidden_given_seen(kind: str, values: Tensor) -> Gaussian:
    """The missing entries given the seen ones, out of the dense joint."""
    dense = dense_path(parameters(kind), STEPS)
    observed = torch.arange(STEPS * STATE, STEPS * (STATE + OBS))
    mask = holes().flatten()
    return dense.joint.given(observed[~mask], observed[mask], values.flatten()[mask])


def replicate(kind: str) -> tuple[Replicate, Tensor]:
    values = normal(STEPS, OBS, seed=6).masked_fill(~holes(), 0.0)
    return LinearGaussian(parameters(kind), STEPS, mask=holes()).replicate(values), values


@pytest.mark.parametrize("kind", ["changing", "constant", "independent"])
def test_hidden_entries_have_the_moments_of_the_dense_conditional(kind):
    found, values = replicate(kind)
    exact = hidden_given_seen(kind, values)
    torch.testing.assert_close(found.mean[~holes()], exact.mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.variance[~holes()], exact.cov.diagonal(), rtol=0, atol=1e-9)
    torch.manual_seed(0)
    assert_moments(found.sample((20_000,))[:, ~holes()], exact)


def test_noise_that_one_sensor_reveals_is_known_in_the_others():
    """Noise of rank one: a hidden sensor beside a seen one shows the state through their difference."""
    found, values = replicate("rank one")
    noise, see = parameters("rank one").observation_cov, parameters("rank one").observation
    smoothed = found.path.smooth(values)
    gain = noise[1, 0] / noise[0, 0]
    step, row = 0, see[1] - gain * see[0]  # sensors 0 and 2 are seen, and either reveals the noise
    torch.testing.assert_close(
        found.mean[step, 1], row @ smoothed.smoothed_means[step] + gain * values[step, 0], rtol=0, atol=1e-9
    )
    torch.testing.assert_close(found.variance[step, 1], row @ smoothed.smoothed_covs[step] @ row, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["changing", "constant"])
def test_seen_entries_are_replicates_with_noise_of_their_own(kind):
    found, values = replicate(kind)
    smoothed, given = found.path.smooth(values), parameters(kind)
    covs = given.observation @ smoothed.smoothed_covs @ given.observation.mT + given.observation_cov
    mean = (given.observation @ smoothed.smoothed_means[..., None]).squeeze(-1)
    torch.testing.assert_close(found.mean[holes()], mean[holes()], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.variance[holes()], covs.diagonal(dim1=-2, dim2=-1)[holes()], rtol=0, atol=1e-9)
    torch.manual_seed(1)
    full = 3  # a step at which all sensors are seen
    assert_moments(found.sample((20_000,))[:, full], Gaussian(mean[full], covs[full]))


def test_series_and_draws_have_gains_of_their_own():
    mask = torch.stack([holes(), holes().roll(1, 0), torch.ones_like(holes())])
    values = normal(3, STEPS, OBS, seed=7).masked_fill(~mask, 0.0)
    noise = torch.stack([parameters("constant").observation_cov, parameters("changing").observation_cov[1]])
    several = parameters("constant")._replace(observation_cov=noise[:, None, None])
    found = LinearGaussian(several, STEPS, mask=mask).replicate(values)
    assert found.mean.shape == found.rsample().shape == (2, 3, STEPS, OBS)
    for draw in range(2):
        for series in range(3):
            one = several._replace(observation_cov=noise[draw])
            alone = LinearGaussian(one, STEPS, mask=mask[series]).replicate(values[series])
            torch.testing.assert_close(found.mean[draw, series], alone.mean, rtol=0, atol=1e-9)
            torch.testing.assert_close(found.variance[draw, series], alone.variance, rtol=0, atol=1e-9)


def test_gradients_reach_the_noise():
    given = parameters("constant")
    noise = given.observation_cov.clone().requires_grad_()
    path = LinearGaussian(given._replace(observation_cov=noise), STEPS, mask=holes())
    path.replicate(normal(STEPS, OBS, seed=6).masked_fill(~holes(), 0.0)).mean[~holes()].sum().backward()
    assert bool(noise.grad.isfinite().all()) and bool((noise.grad != 0).any())


def test_a_verb_imputes_a_hidden_sensor_from_the_one_beside_it():
    """A slow walk seen by two sensors whose noise is nearly the same; one of them is out for ten steps."""
    import pyro

    one, cov = torch.ones(1, 1).double(), torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    walk = LinearGaussianParameters(one, 0.01 * one, torch.ones(2, 1).double(), cov, torch.zeros(1).double(), one)
    mask = torch.ones(15, 2, dtype=torch.bool)
    mask[4:14, 1] = False
    values = normal(15, 2, seed=8)

    class Sensors(ps.SequenceModel):
        is_conditional = True

        def __init__(self) -> None:
            super().__init__()
            self.obs_shape = (2,)

        def model(self, data: ps.Sequences) -> None:
            with self.series(data):
                pyro.sample("x", LinearGaussian(walk, data.num_steps, mask=data.entry_mask), obs=data.values)

        def guide(self, data: ps.Sequences) -> None:
            return

    data = ps.Sequences(values[None], mask=mask[None])
    found = ps.impute(GuidePosterior(Sensors()), data, num_samples=20_000)
    observed = torch.arange(15, 45)
    dense = dense_path(walk, 15).joint
    hidden = ~mask.flatten()
    exact = dense.given(observed[hidden], observed[~hidden], values.flatten()[~hidden])
    torch.testing.assert_close(found.emission_means[0, 0, 4:14, 1], exact.mean, rtol=0, atol=1e-9)
    assert_moments(found.samples[:, 0, 4:14, 1], exact)


# ---------------------------------------------------------------- one sensor, known and diffuse starts

STARTS = pytest.mark.parametrize("diffuse", [None, torch.tensor([True, True])], ids=["known start", "diffuse start"])


@STARTS
def test_replicate_moments(diffuse):
    """Means, variances and neighbours' covariances of drawn replicates against the smoother."""
    values, mask = trend.observed()
    path = LinearGaussian(trend.parameters(diffuse), 10, mask=mask)
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
    values, mask = trend.observed()
    replicate = LinearGaussian(trend.parameters(diffuse), 10, mask=mask).replicate(values)
    revealed = mask.clone()
    revealed[0, 5] = True
    guesses = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    filled = values[0].repeat(3, 1, 1)
    filled[:, 5, 0] = guesses
    likelihood = LinearGaussian(trend.parameters(diffuse), 10, mask=revealed[0]).log_prob(filled)
    known = torch.distributions.Normal(replicate.mean[0, 5, 0], replicate.variance[0, 5, 0].sqrt()).log_prob(guesses)
    torch.testing.assert_close(likelihood.diff(), known.diff(), rtol=1e-9, atol=1e-9)


def test_replicate_over_draws_of_parameters():
    values, mask = trend.observed()
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None, None, None]
    several = trend.parameters()._replace(observation_cov=scale * trend.parameters().observation_cov)
    path = LinearGaussian(several, 10, mask=mask)
    assert path.batch_shape == (2, 3)
    torch.manual_seed(0)
    replicate = path.replicate(values).expand((2, 3))
    assert replicate.rsample().shape == (2, 3, 10, 1)
    for place in range(2):
        one = trend.parameters()._replace(observation_cov=scale[place, 0, 0] * trend.parameters().observation_cov)
        alone = LinearGaussian(one, 10, mask=mask).replicate(values)
        torch.testing.assert_close(replicate.mean[place], alone.mean)
        torch.testing.assert_close(replicate.variance[place], alone.variance)
