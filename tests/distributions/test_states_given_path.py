"""States given the path that they emit, against the dense conditional Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from pyro_seq.distributions.states_given_path import StatesGivenPath
from tests.dense_gaussian import CODE, STATE, Gaussian, assert_moments, dense_path, normal, of_series, random_dynamics

TIME, SERIES = 5, 3
KINDS = pytest.mark.parametrize("kind", ["lstm", "one"])
INPUTS = pytest.mark.parametrize("has_inputs", [False, True], ids=["no inputs", "inputs"])
LENGTHS = (TIME, 3, 1)


def prior(kind: str, has_inputs: bool = False, valid: Tensor | None = None) -> MixedLinearGaussian:
    inputs = normal(SERIES, TIME, 2, seed=9) if has_inputs else None
    dynamics = random_dynamics(kind, input_dim=2 * has_inputs)
    return MixedLinearGaussian(dynamics, TIME, inputs=inputs, valid=valid, batch_shape=torch.Size([SERIES]))


def ragged() -> Tensor:
    return torch.arange(TIME) < torch.tensor(LENGTHS)[:, None]


def exact(linear: LinearGaussian, path: Tensor, series: int) -> Gaussian:
    """The dense conditional of all states given all codes."""
    dense = dense_path(of_series(linear.parameters, series), TIME)
    found = dense.joint.given(dense.states(), dense.codes(), path[series].flatten())
    return Gaussian(found.mean.detach(), found.cov.detach())


@KINDS
@INPUTS
def test_log_prob_is_the_dense_conditional(kind, has_inputs):
    paths, codes, states = prior(kind, has_inputs), normal(SERIES, TIME, CODE), normal(2, SERIES, TIME, STATE, seed=1)
    linear = paths.given(codes)
    got = StatesGivenPath(linear, codes).log_prob(states)
    assert got.shape == (2, SERIES)
    for series in range(SERIES):
        expected = exact(linear, codes, series).log_prob(states[:, series].flatten(-2))
        torch.testing.assert_close(got[:, series], expected, rtol=0, atol=1e-9)


@KINDS
@INPUTS
def test_joint_density_is_the_dense_joint_and_exceeds_the_conditional_by_that_of_the_path(kind, has_inputs):
    paths, codes, states = prior(kind, has_inputs), normal(SERIES, TIME, CODE), normal(SERIES, TIME, STATE, seed=1)
    linear = paths.given(codes)
    both = StatesGivenPath(linear, codes, is_joint=True).log_prob(states)
    conditional = StatesGivenPath(linear, codes).log_prob(states)
    torch.testing.assert_close(both - conditional, paths.log_prob(codes), rtol=0, atol=1e-9)
    for series in range(SERIES):
        dense = dense_path(of_series(linear.parameters, series), TIME)
        value = torch.cat([states[series].flatten(), codes[series].flatten()])
        torch.testing.assert_close(both[series], dense.joint.log_prob(value), rtol=0, atol=1e-9)


@KINDS
@INPUTS
def test_draws_have_the_moments_of_the_dense_conditional_between_steps_too(kind, has_inputs):
    paths, codes = prior(kind, has_inputs), normal(SERIES, TIME, CODE)
    linear = paths.given(codes)
    with torch.no_grad():
        draws = StatesGivenPath(linear, codes).rsample(torch.Size([4000])).flatten(-2)
    for series in range(SERIES):
        assert_moments(draws[:, series], exact(linear, codes, series))


def test_draws_step_by_step_from_the_marginals_would_be_noticed():
    """As the public code drew: means and variances are right, covariances between steps are zero."""
    paths, codes = prior("one"), normal(SERIES, TIME, CODE)
    linear = paths.given(codes)
    smooth = linear.smooth(codes)
    factor = torch.linalg.cholesky(smooth.smoothed_covs)
    noise = normal(6000, SERIES, TIME, STATE, 1)
    independent = (smooth.smoothed_means[..., None] + factor @ noise).squeeze(-1).flatten(-2).detach()
    for series in range(SERIES):
        joint = exact(linear, codes, series)
        steps = torch.arange(TIME).repeat_interleave(STATE)
        same_step = (steps[:, None] == steps).double()
        assert_moments(independent[:, series], Gaussian(joint.mean, joint.cov * same_step))
        with pytest.raises(AssertionError):
            assert_moments(independent[:, series], joint)


@KINDS
def test_padding_does_not_count(kind):
    valid = ragged()
    paths, codes, states = prior(kind, valid=valid), normal(SERIES, TIME, CODE), normal(SERIES, TIME, STATE, seed=1)
    linear = paths.given(codes)
    for is_joint in (False, True):
        given = StatesGivenPath(linear, codes, valid=valid, is_joint=is_joint)
        got = given.log_prob(states)
        spoiled = torch.where(valid[..., None], states, 1e3)
        assert torch.equal(given.log_prob(spoiled), got)
        for series, length in enumerate(LENGTHS):
            dense = dense_path(of_series(linear.parameters, series), TIME)
            short, seen = dense.states(*range(length)), dense.codes(*range(length))
            value, known = states[series, :length].flatten(), codes[series, :length].flatten()
            expected = dense.joint.given(short, seen, known).log_prob(value)
            if is_joint:
                expected = expected + dense.joint.marginal(seen).log_prob(known)
            torch.testing.assert_close(got[series], expected, rtol=0, atol=1e-9)


def test_draws_fit_the_codes_of_padding_which_were_drawn_too():
    paths, codes = prior("one"), normal(SERIES, TIME, CODE)
    linear = paths.given(codes)
    draws = StatesGivenPath(linear, codes, valid=ragged()).rsample(torch.Size([4000])).detach().flatten(-2)
    for series in range(SERIES):
        assert_moments(draws[:, series], exact(linear, codes, series))


@KINDS
def test_density_and_draws_follow_leading_axes(kind):
    paths = prior(kind)
    codes, states = normal(4, SERIES, TIME, CODE), normal(4, SERIES, TIME, STATE, seed=1)
    together = StatesGivenPath(paths.given(codes), codes)
    assert together.batch_shape == (4, SERIES) and together.event_shape == (TIME, STATE)
    assert together.rsample().shape == (4, SERIES, TIME, STATE)
    assert together.rsample(torch.Size([2])).shape == (2, 4, SERIES, TIME, STATE)
    for draw in range(4):
        alone = StatesGivenPath(paths.given(codes[draw]), codes[draw]).log_prob(states[draw])
        torch.testing.assert_close(together.log_prob(states)[draw], alone, rtol=1e-12, atol=1e-12)
    single = StatesGivenPath(paths.given(codes[0]), codes[0])
    wide = single.expand(torch.Size([4, SERIES]))
    assert wide.batch_shape == (4, SERIES) and single.expand(single.batch_shape) is single
    torch.testing.assert_close(wide.log_prob(states), single.log_prob(states), rtol=1e-12, atol=1e-12)
    assert wide.rsample().shape == (4, SERIES, TIME, STATE)


@KINDS
def test_the_conditional_cancels_in_the_bound_at_any_states_and_so_do_its_gradients(kind):
    """log p(z, a) - log p(z | a) is log p(a) whatever z is: the sampled bound is as quiet as the closed form."""
    paths, codes = prior(kind), normal(SERIES, TIME, CODE).requires_grad_()
    states = normal(SERIES, TIME, STATE, seed=1).requires_grad_()
    linear = paths.given(codes)
    terms = [StatesGivenPath(linear, codes, is_joint=is_joint).log_prob(states) for is_joint in (True, False)]
    (to_states,) = torch.autograd.grad((terms[0] - terms[1]).sum(), states, retain_graph=True)
    torch.testing.assert_close(to_states, torch.zeros_like(states), rtol=0, atol=1e-10)
    (sampled,) = torch.autograd.grad((terms[0] - terms[1]).sum(), codes)
    (closed,) = torch.autograd.grad(paths.log_prob(codes).sum(), codes)
    torch.testing.assert_close(sampled, closed, rtol=1e-9, atol=1e-9)


def test_draws_are_differentiable_in_the_path_and_in_the_parameters():
    paths, codes = prior("lstm", has_inputs=True), normal(SERIES, TIME, CODE).requires_grad_()
    draws = StatesGivenPath(paths.given(codes), codes).rsample()
    for target in (codes, paths.dynamics.transition, paths.dynamics.observation, paths.dynamics.input_matrix):
        (gradient,) = torch.autograd.grad(draws.square().sum(), target, retain_graph=True)
        assert bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0


def test_one_step_one_series_one_dimension():
    dynamics = random_dynamics("one", code_dim=1, state_dim=1)
    paths, codes = MixedLinearGaussian(dynamics, 1, batch_shape=torch.Size([1])), normal(1, 1, 1)
    given = StatesGivenPath(paths.given(codes), codes)
    draws = given.rsample(torch.Size([3]))
    assert draws.shape == (3, 1, 1, 1) and given.log_prob(draws).shape == (3, 1)
    single = dense_path(of_series(paths.parameters(codes), 0), 1)
    expected = single.joint.given(single.states(), single.codes(), codes.flatten()).log_prob(draws.flatten(1))
    torch.testing.assert_close(given.log_prob(draws)[:, 0], expected, rtol=0, atol=1e-9)
