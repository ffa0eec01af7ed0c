"""Paths with dynamics that depend on them, against dense Gaussians step by step, and against their own draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from pyro_seq.errors import ShapeError
from pyro_seq.nn.mixture import MixedDynamics
from pyro_seq.ops.kalman import LinearGaussianParameters
from tests.dense_gaussian import CODE, STATE, Gaussian, assert_moments, dense_path, normal, of_series, random_dynamics

TIME, SERIES, INPUT = 6, 3, 2
KINDS = pytest.mark.parametrize("kind", ["lstm", "window", "one"])
INPUTS = pytest.mark.parametrize("has_inputs", [False, True], ids=["no inputs", "inputs"])


def prior(kind: str, *, has_inputs: bool = False, num_steps: int = TIME, total: int | None = None, **options):
    dynamics = random_dynamics(kind, input_dim=INPUT * has_inputs)
    inputs = normal(SERIES, total or num_steps, INPUT, seed=9) if has_inputs else None
    options.setdefault("batch_shape", torch.Size([SERIES]))
    return MixedLinearGaussian(dynamics, num_steps, inputs=inputs, **options)


def slow_parameters(dynamics: MixedDynamics, path: Tensor, inputs: Tensor | None) -> LinearGaussianParameters:
    """Matrices of each step of one series: the network reads the whole past anew for each of them."""
    transitions, observations, input_matrices, given = [], [], [], []
    for t in range(len(path)):
        past = torch.cat([dynamics.start[None], path[:t]])
        outputs = path.new_zeros(1) if dynamics.mixture is None else dynamics.mixture(past, None)[0][-1]
        weights = outputs[: dynamics.num_modes].exp() / outputs[: dynamics.num_modes].exp().sum()
        transitions.append(sum(w * matrix for w, matrix in zip(weights, dynamics.transition, strict=True)))
        observations.append(sum(w * matrix for w, matrix in zip(weights, dynamics.observation, strict=True)))
        parts = ([] if inputs is None else [inputs[t]]) + [outputs[dynamics.num_modes :]]
        given.append(torch.cat(parts) if dynamics.mixture is not None else parts[0])
        if dynamics.input_matrix is not None:
            modes = dynamics.input_matrix
            input_matrices.append(sum(w * matrix for w, matrix in zip(weights, modes, strict=True)))
    q, r, first = (
        log.exp().diag()
        for log in (dynamics.log_transition_variance, dynamics.log_observation_variance, dynamics.log_initial_variance)
    )
    return LinearGaussianParameters(
        torch.stack(transitions), q.expand(len(path), -1, -1), torch.stack(observations), r.expand(len(path), -1, -1),
        dynamics.initial_mean, first,
        torch.stack(input_matrices) if input_matrices else None, torch.stack(given) if input_matrices else None,
    )  # fmt: skip


def slow_log_prob(dynamics: MixedDynamics, path: Tensor, inputs: Tensor | None, steps: range) -> Tensor:
    """Product of one-step predictive densities, each conditioned from the dense joint of all before."""
    total = torch.zeros((), dtype=torch.float64)
    for t in steps:
        dense = dense_path(slow_parameters(dynamics, path[: t + 1], inputs), t + 1)
        before = dense.codes(*range(t)) if t else torch.zeros(0, dtype=torch.long)
        ahead = dense.joint.given(dense.codes(t), before, path[:t].flatten())
        total = total + ahead.log_prob(path[t])
    return total


# ---------------------------------------------------------------- density


@KINDS
@INPUTS
@pytest.mark.parametrize("num_learned", [0, 2])
def test_log_prob_is_the_product_of_slow_one_step_predictions(kind, has_inputs, num_learned):
    dynamics = random_dynamics(kind, input_dim=INPUT * has_inputs, num_learned_inputs=num_learned * (kind != "one"))
    inputs = normal(SERIES, TIME, INPUT, seed=9) if has_inputs else None
    paths = MixedLinearGaussian(dynamics, TIME, inputs=inputs, batch_shape=torch.Size([SERIES]))
    values = normal(2, SERIES, TIME, CODE, seed=3)
    got = paths.log_prob(values)
    assert got.shape == (2, SERIES)
    for draw in range(2):
        for series in range(SERIES):
            given = None if inputs is None else inputs[series]
            slow = slow_log_prob(dynamics, values[draw, series], given, range(TIME))
            torch.testing.assert_close(got[draw, series], slow, rtol=0, atol=1e-9)


@INPUTS
def test_one_mode_is_a_linear_gaussian_and_a_dense_one(has_inputs):
    paths, values = prior("one", has_inputs=has_inputs), normal(SERIES, TIME, CODE)
    parameters = paths.parameters(values)
    assert parameters.transition.ndim == 2
    linear = LinearGaussian(parameters, TIME, batch_shape=paths.batch_shape)
    torch.testing.assert_close(paths.log_prob(values), linear.log_prob(values), rtol=0, atol=1e-9)
    for series in range(SERIES):
        dense = dense_path(of_series(parameters, series), TIME)
        exact = dense.joint.marginal(dense.codes()).log_prob(values[series].flatten())
        torch.testing.assert_close(paths.log_prob(values)[series], exact, rtol=0, atol=1e-9)


@KINDS
def test_gradients_are_those_of_the_slow_product(kind):
    paths, values = prior(kind), normal(1, TIME, CODE).requires_grad_()
    parameters = [p for p in paths.dynamics.parameters() if p.requires_grad]
    slow = slow_log_prob(paths.dynamics, values[0], None, range(TIME))
    expected = torch.autograd.grad(slow, [values, *parameters])
    fast = paths.log_prob(values.expand(SERIES, -1, -1))[0]
    got = torch.autograd.grad(fast, [values, *parameters])
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@KINDS
def test_steps_that_do_not_exist_do_not_count(kind):
    lengths = torch.tensor([TIME, 4, 0])
    valid = torch.arange(TIME) < lengths[:, None]
    paths, values = prior(kind, valid=valid), normal(SERIES, TIME, CODE)
    for series, length in enumerate(lengths.tolist()):
        slow = slow_log_prob(paths.dynamics, values[series], None, range(length))
        torch.testing.assert_close(paths.log_prob(values)[series], slow, rtol=0, atol=1e-9)
    spoiled = torch.where(valid[..., None], values, 1e3)
    assert torch.equal(paths.log_prob(values), paths.log_prob(spoiled))


def test_a_site_that_is_not_counted_has_density_one_and_the_same_draws():
    counted, silent = prior("lstm"), prior("lstm", is_counted=False)
    torch.manual_seed(1)
    drawn = counted.rsample(torch.Size([4]))
    torch.manual_seed(1)
    assert torch.equal(silent.rsample(torch.Size([4])), drawn)
    assert torch.equal(silent.log_prob(drawn), torch.zeros(4, SERIES).double())
    ahead = silent.future(drawn, 2)
    assert torch.equal(ahead.log_prob(ahead.sample()), torch.zeros(4, SERIES).double())
    assert not silent.expand(torch.Size([4, SERIES])).is_counted


@KINDS
def test_expansion_keeps_everything(kind):
    valid = torch.arange(TIME) < torch.tensor([TIME, 4, 1])[:, None]
    paths = prior(kind, has_inputs=True, valid=valid)
    values = normal(5, SERIES, TIME, CODE)
    wide = paths.expand(torch.Size([5, SERIES]))
    assert wide.batch_shape == (5, SERIES) and paths.expand(paths.batch_shape) is paths
    assert torch.equal(wide.log_prob(values), paths.log_prob(values))
    assert wide.sample().shape == (5, SERIES, TIME, CODE)
    assert wide.sample((2,)).shape == (2, 5, SERIES, TIME, CODE)


# ---------------------------------------------------------------- draws


@KINDS
@INPUTS
def test_draws_are_uniform_under_the_one_step_distributions(kind, has_inputs):
    """Rosenblatt's transform: given the path before, each step whitened by its predictive law is standard normal."""
    paths, num_draws = prior(kind, has_inputs=has_inputs), 2500
    with torch.no_grad():
        draws = paths.rsample(torch.Size([num_draws]))
        filtered = paths.given(draws).filter(draws)
        observation = paths.parameters(draws).observation
        noise = paths.parameters(draws).observation_cov
        residual = draws[..., None] - observation @ filtered.predicted_means[..., None]
        cov = observation @ filtered.predicted_covs @ observation.mT + noise
        white = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), residual, upper=False).flatten(-3)
    bound = 4.5 / math.sqrt(num_draws)
    assert float(white.mean(0).abs().max()) < bound
    products = torch.einsum("nsi,nsj->sij", white, white) / num_draws
    eye = torch.eye(TIME * CODE, dtype=torch.float64)
    errors = (products - eye) / (1 + eye).sqrt()  # a square has variance 2, a product variance 1
    assert float(errors.abs().max()) < bound
    levels = (0.5 * (1 + torch.erf(white / math.sqrt(2)))).flatten().sort().values
    ranks = torch.arange(1, len(levels) + 1, dtype=torch.float64) / len(levels)
    assert float((levels - ranks).abs().max()) * math.sqrt(len(levels)) < 2.0  # Kolmogorov: exceeded once in 1500


@INPUTS
def test_draws_of_one_mode_have_the_dense_moments(has_inputs):
    paths, num_draws = prior("one", has_inputs=has_inputs), 4000
    with torch.no_grad():
        draws = paths.rsample(torch.Size([num_draws])).flatten(-2)
        for series in range(SERIES):
            dense = dense_path(of_series(paths.parameters(normal(SERIES, TIME, CODE)), series), TIME)
            exact = dense.joint.marginal(dense.codes())
            assert_moments(draws[:, series], exact)


def test_mean_score_of_draws_is_zero():
    paths, num_draws = prior("lstm"), 1500
    with torch.no_grad():
        draws = paths.rsample(torch.Size([num_draws]))[:, 0]
    for seed, parameter in enumerate(p for p in paths.dynamics.parameters() if p.requires_grad):
        direction, start, scores = normal(*parameter.shape, seed=seed), parameter.detach().clone(), []
        for sign in (1, -1):
            parameter.data.copy_(start + sign * 1e-5 * direction)
            scores.append(MixedLinearGaussian(paths.dynamics, TIME).log_prob(draws).detach())
        parameter.data.copy_(start)
        score = (scores[0] - scores[1]) / 2e-5
        assert abs(float(score.mean())) < 4.5 * float(score.std()) / math.sqrt(num_draws)


@KINDS
def test_draws_are_differentiable_in_every_parameter(kind):
    paths = prior(kind, has_inputs=True)
    loss = paths.rsample().square().sum()
    for name, parameter in paths.dynamics.named_parameters():
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        assert bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0, name


# ---------------------------------------------------------------- future


@KINDS
@INPUTS
@pytest.mark.parametrize("start", [1, 4])
def test_past_and_future_factorise(kind, has_inputs, start):
    whole = prior(kind, has_inputs=has_inputs)
    values = normal(2, SERIES, TIME, CODE)
    past = MixedLinearGaussian(whole.dynamics, start, inputs=whole.inputs, batch_shape=whole.batch_shape)
    ahead = past.future(values[..., :start, :], TIME - start)
    assert ahead.batch_shape == (2, SERIES) and ahead.event_shape == (TIME - start, CODE)
    parts = past.log_prob(values[..., :start, :]) + ahead.log_prob(values[..., start:, :])
    torch.testing.assert_close(parts, whole.log_prob(values), rtol=0, atol=1e-9)


@KINDS
def test_futures_of_futures_factorise(kind):
    whole, values = prior(kind, has_inputs=True), normal(2, SERIES, TIME, CODE)
    past = MixedLinearGaussian(whole.dynamics, 1, inputs=whole.inputs)
    ahead, middle = past.future(values[..., :1, :], 5), past.future(values[..., :1, :], 3)
    rest = middle.future(values[..., 1:4, :], 2)
    parts = middle.log_prob(values[..., 1:4, :]) + rest.log_prob(values[..., 4:, :])
    torch.testing.assert_close(parts, ahead.log_prob(values[..., 1:, :]), rtol=0, atol=1e-9)


@INPUTS
def test_future_of_one_mode_has_the_exact_moments(has_inputs):
    start, horizon = 3, 3
    past, values = prior("one", has_inputs=has_inputs, num_steps=start, total=TIME), normal(SERIES, start, CODE)
    ahead = past.future(values, horizon)
    linear = ahead.given(values.new_zeros(SERIES, horizon, CODE))
    with torch.no_grad():
        draws = ahead.rsample(torch.Size([4000])).flatten(-2)
    whole = MixedLinearGaussian(past.dynamics, TIME, inputs=past.inputs, batch_shape=past.batch_shape)
    for series in range(SERIES):
        dense = dense_path(of_series(whole.parameters(normal(SERIES, TIME, CODE)), series), TIME)
        exact = dense.joint.given(dense.codes(3, 4, 5), dense.codes(0, 1, 2), values[series].flatten())
        torch.testing.assert_close(linear.mean[series].flatten(), exact.mean, rtol=0, atol=1e-9)
        torch.testing.assert_close(linear.variance[series].flatten(), exact.cov.diagonal(), rtol=0, atol=1e-9)
        assert_moments(draws[:, series], Gaussian(exact.mean.detach(), exact.cov.detach()))


@KINDS
@INPUTS
def test_future_from_a_known_state_starts_there(kind, has_inputs):
    start, horizon = 3, 3
    past = prior(kind, has_inputs=has_inputs, num_steps=start, total=TIME)
    values, state = normal(SERIES, TIME, CODE), normal(SERIES, STATE, seed=5)
    ahead = past.future(values[:, :start], horizon, state=state)
    got = ahead.log_prob(values[:, start:])
    for series in range(SERIES):
        inputs = None if past.inputs is None else past.inputs[series]
        slow = slow_parameters(past.dynamics, values[series], inputs)
        dense = dense_path(slow, TIME)
        exact = dense.joint.given(dense.codes(3, 4, 5), dense.states(start - 1), state[series])
        torch.testing.assert_close(got[series], exact.log_prob(values[series, start:].flatten()), rtol=0, atol=1e-9)


@KINDS
def test_future_reads_codes_of_padding_because_they_were_drawn(kind):
    valid = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    values = normal(SERIES, TIME, CODE)
    ragged, whole = prior(kind, num_steps=4, valid=valid), prior(kind, num_steps=4)
    expected = whole.future(values[:, :4], 2).log_prob(values[:, 4:])
    assert torch.equal(ragged.future(values[:, :4], 2).log_prob(values[:, 4:]), expected)


# ---------------------------------------------------------------- inputs


@KINDS
@pytest.mark.parametrize("step", [1, 3, TIME - 1])
def test_an_impulse_moves_the_path_from_its_step_on(kind, step):
    """The public code moved it one step too late in the filter, and at the right one in the objective."""
    quiet = prior(kind, has_inputs=True)
    inputs = quiet.inputs.clone()
    inputs[:, step, 0] += 1.0
    loud = MixedLinearGaussian(quiet.dynamics, TIME, inputs=inputs)
    paths = []
    for one in (quiet, loud):
        torch.manual_seed(2)
        paths.append(one.rsample())
    assert torch.equal(paths[0][:, :step], paths[1][:, :step])
    # the same noise, so the whole difference at that step is what the input adds: C_t B_t
    parameters = quiet.parameters(paths[0])
    effect = parameters.observation @ parameters.input_matrix
    effect = effect.expand(SERIES, TIME, -1, -1)[:, step, :, 0]
    torch.testing.assert_close(paths[1][:, step] - paths[0][:, step], effect, rtol=0, atol=1e-10)
    given = [one.given(paths[0]).filter(paths[0]).predicted_means for one in (quiet, loud)]
    assert torch.equal(given[0][:, :step], given[1][:, :step])
    moved = parameters.input_matrix.expand(SERIES, TIME, -1, -1)[:, step, :, 0]
    torch.testing.assert_close(given[1][:, step] - given[0][:, step], moved, rtol=0, atol=1e-10)


def test_there_is_no_move_and_so_no_input_into_the_first_step():
    quiet = prior("lstm", has_inputs=True)
    inputs = quiet.inputs.clone()
    inputs[:, 0] += 7.0
    values = normal(SERIES, TIME, CODE)
    loud = MixedLinearGaussian(quiet.dynamics, TIME, inputs=inputs)
    assert torch.equal(quiet.log_prob(values), loud.log_prob(values))


def test_the_first_input_of_a_future_moves_its_first_step():
    past = prior("one", has_inputs=True, num_steps=3, total=TIME)
    values, inputs = normal(SERIES, 3, CODE), past.inputs.clone()
    inputs[:, 3, 0] += 1.0
    loud = MixedLinearGaussian(past.dynamics, 3, inputs=inputs)
    parameters = past.parameters(values)
    effect = (parameters.observation @ parameters.input_matrix)[:, 0]
    means = [one.future(values, 2).given(values[:, :2]).mean for one in (past, loud)]
    torch.testing.assert_close(means[1][:, 0] - means[0][:, 0], effect.expand(SERIES, -1), rtol=0, atol=1e-10)


def test_inputs_must_cover_the_steps():
    with pytest.raises(ShapeError, match="`inputs` must cover all 6 steps. Got 4"):
        prior("one", has_inputs=True, num_steps=6, total=4)
    with pytest.raises(ShapeError, match="`inputs` must cover all 3 steps. Got 2.*over the horizon"):
        prior("one", has_inputs=True, num_steps=3, total=5).future(normal(SERIES, 3, CODE), 3)


# ---------------------------------------------------------------- filling


@KINDS
def test_filling_keeps_what_is_known_and_never_reads_the_rest(kind):
    paths, values = prior(kind, has_inputs=True), normal(SERIES, TIME, CODE)
    known = torch.rand(SERIES, TIME, generator=torch.Generator().manual_seed(1)) < 0.5
    spoiled = torch.where(known[..., None], values, float("nan"))
    for is_mean in (False, True):
        filled = []
        for value in (values, spoiled):
            torch.manual_seed(3)
            filled.append(paths.complete(value, known, is_mean=is_mean))
        assert torch.equal(filled[0], filled[1])
        assert torch.equal(filled[0][known], values[known])


@KINDS
def test_filling_with_means_is_the_dense_prediction_of_each_hidden_step(kind):
    paths, values = prior(kind), normal(SERIES, TIME, CODE)
    known = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]]).bool()
    filled = paths.complete(values, known, is_mean=True)
    for series in range(SERIES):
        dense = dense_path(slow_parameters(paths.dynamics, filled[series], None), TIME)
        for t in range(TIME):
            before = [s for s in range(t) if known[series, s]]
            seen = dense.codes(*before) if before else torch.zeros(0, dtype=torch.long)
            ahead = dense.joint.given(dense.codes(t), seen, values[series, before].flatten())
            expected = values[series, t] if known[series, t] else ahead.mean
            torch.testing.assert_close(filled[series, t], expected, rtol=0, atol=1e-9)
