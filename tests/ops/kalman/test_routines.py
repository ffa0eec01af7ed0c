"""The Kalman filter and smoother against the dense joint Gaussian, statsmodels, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_seq.errors import DataError, NumericalError, ShapeError
from pyro_seq.ops.kalman import (
    LinearGaussianParameters,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
    step,
)
from tests.ops.kalman.cases import (
    BATCH,
    CASES,
    GOOD,
    OBS,
    STATE,
    ZEROS,
    Case,
    changed,
    dense,
    largest,
    of_series,
    random_case,
)

ROUTES = pytest.mark.parametrize("is_parallel", [False, True], ids=["sequential", "parallel"])


def hidden_from(case: Case, step: int) -> Case:
    mask = torch.ones_like(case.values, dtype=torch.bool) if case.mask is None else case.mask.clone()
    mask[step:] = False  # over steps or entries alike
    return case._replace(mask=mask)


@ROUTES
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
class TestAgainstDenseGaussian:
    def test_smoother(self, case, is_parallel):
        result = kalman_smoother(*case, is_parallel=is_parallel)
        for place in np.ndindex(*BATCH):
            exact = dense(of_series(case, place))
            assert largest(result.smoothed_means[place] - exact.means()) < 1e-9
            assert largest(result.log_likelihood[place] - exact.log_likelihood) < 1e-9
            for t in range(case.values.shape[-2]):
                assert largest(result.smoothed_covs[place][t] - exact.block(t, t)) < 1e-9
            for t, cross in enumerate(result.cross_covs[place]):
                assert largest(cross - exact.block(t, t + 1)) < 1e-9

    def test_filter(self, case, is_parallel):
        result = kalman_filter(*case, is_parallel=is_parallel)
        for place in [(0, 0), (1, 3)]:
            for t in range(case.values.shape[-2]):
                before, with_it = (dense(hidden_from(of_series(case, place), t + i)) for i in (0, 1))
                assert largest(result.predicted_means[place][t] - before.means()[t]) < 1e-9
                assert largest(result.predicted_covs[place][t] - before.block(t, t)) < 1e-9
                assert largest(result.filtered_means[place][t] - with_it.means()[t]) < 1e-9
                assert largest(result.filtered_covs[place][t] - with_it.block(t, t)) < 1e-9


@ROUTES
def test_against_statsmodels(is_parallel):
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    case = random_case(time=40, seed=11)
    ours = kalman_smoother(*case, is_parallel=is_parallel)
    filtered = kalman_filter(*case, is_parallel=is_parallel)
    for place in [(0, 0), (1, 3)]:
        values, parameters, mask = of_series(case, place)
        transition, noise, observation, observation_cov, start, start_cov, input_matrix, inputs = parameters[:8]

        def along_last(moves, t=1):  # there, entry t leads from step t to t + 1
            return np.ascontiguousarray(torch.roll(moves, -t, 0).movedim(0, -1).numpy())

        theirs = KalmanSmoother(k_endog=OBS, k_states=STATE, k_posdef=STATE)
        theirs.bind(torch.where(mask, values, torch.nan).numpy())
        theirs["transition"], theirs["state_cov"] = along_last(transition), along_last(noise)
        theirs["state_intercept"] = along_last((input_matrix @ inputs[..., None]).squeeze(-1))
        theirs["selection"] = np.eye(STATE)
        theirs["design"], theirs["obs_cov"] = along_last(observation, 0), along_last(observation_cov, 0)
        theirs.initialize_known(start.numpy(), start_cov.numpy())
        result = theirs.smooth()

        def their(name, result=result):
            return torch.as_tensor(np.moveaxis(getattr(result, name), -1, 0).copy())

        assert largest(ours.smoothed_means[place] - their("smoothed_state")) < 1e-9
        assert largest(ours.smoothed_covs[place] - their("smoothed_state_cov")) < 1e-9
        assert largest(filtered.filtered_means[place] - their("filtered_state")) < 1e-9
        assert largest(filtered.predicted_covs[place] - their("predicted_state_cov")[:-1]) < 1e-9
        assert abs(float(ours.log_likelihood[place]) - result.llf) < 1e-9


@ROUTES
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_draws_have_the_exact_joint_posterior(case, is_parallel, monkeypatch):
    # a draw is an affine map of its noise: no noise gives the mean, unit vectors the columns of a square root
    time = case.values.shape[-2]
    size = 2 * time * STATE
    noise = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().unflatten(-1, (2, time, STATE)).movedim(1, 0)
    noise = noise[:, :, None, None, :, :, None].expand(-1, -1, *BATCH, -1, -1, -1)
    monkeypatch.setattr(torch, "randn", lambda shape, **_: noise)
    paths = sample_posterior(*case, num_samples=size + 1, is_parallel=is_parallel).flatten(-2)
    for place in np.ndindex(*BATCH):
        exact = dense(of_series(case, place))
        columns = paths[1:, *place] - paths[0, *place]
        assert largest(paths[0, *place] - exact.mean) < 1e-9
        assert largest(columns.T @ columns - exact.cov) < 1e-9


def test_draws_follow_the_generator(assert_rng_untouched):
    case = CASES[3]
    with assert_rng_untouched():
        first, again, other = (
            sample_posterior(*case, num_samples=7, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (7, *case.values.shape[:-1], STATE)
    assert sample_posterior(*case, num_samples=0).shape == (0, *case.values.shape[:-1], STATE)


@ROUTES
@pytest.mark.parametrize("time", [1, 2, 3])
@pytest.mark.parametrize("varying", [False, True])
def test_short_series(time, varying, is_parallel):
    case = random_case(time, varying=varying, seed=time)
    result = kalman_smoother(*case, is_parallel=is_parallel)
    exact = dense(of_series(case, (1, 2)))
    assert largest(result.smoothed_means[1, 2] - exact.means()) < 1e-9
    assert largest(result.log_likelihood[1, 2] - exact.log_likelihood) < 1e-9
    assert result.cross_covs.shape == (*BATCH, time - 1, STATE, STATE)
    assert sample_posterior(*case, num_samples=2, is_parallel=is_parallel).shape == (2, *BATCH, time, STATE)


@ROUTES
def test_nothing_observed_is_the_prior(is_parallel):
    case = random_case(seed=5)
    case = case._replace(mask=torch.zeros((*BATCH, 6), dtype=torch.bool), values=case.values * torch.nan)
    result = kalman_smoother(*case, is_parallel=is_parallel)
    assert torch.equal(result.log_likelihood, torch.zeros(BATCH, dtype=torch.float64))
    assert largest(result.smoothed_means - kalman_filter(*case).predicted_means) < 1e-12


@ROUTES
def test_there_is_no_move_before_the_first_observation(is_parallel):
    case = random_case(seed=8)
    unread = {}
    for name in ("transition", "transition_cov", "input_matrix", "inputs"):
        tensor = getattr(case.parameters, name).clone()
        tensor.select(len(BATCH), 0).fill_(torch.nan)
        unread[name] = tensor
    result = kalman_smoother(*changed(case, **unread), is_parallel=is_parallel)
    expected = kalman_smoother(*case, is_parallel=is_parallel)
    for found, field in zip(result, expected, strict=True):
        assert torch.equal(found, field)


@ROUTES
def test_hidden_entries_change_neither_result_nor_gradient(is_parallel):
    values, parameters, mask = random_case(seed=6)
    found = []
    for fill in (0.0, torch.nan, 1e30):
        filled = torch.where(mask, values, fill).requires_grad_()
        result = kalman_smoother(filled, parameters, mask, is_parallel=is_parallel)
        (gradient,) = torch.autograd.grad(result.log_likelihood.sum() + result.smoothed_means.sum(), filled)
        assert not gradient[~mask].any()
        found.append((result.smoothed_means, gradient))
    for means, gradient in found[1:]:
        assert torch.equal(means, found[0][0]) and torch.equal(gradient, found[0][1])


def moments_of(leaves: tuple[Tensor, ...], mask: Tensor | None, is_parallel: bool) -> tuple[Tensor, ...]:
    """All that the operations compute, from parameters of which the symmetric parts count."""
    values, transition, noise, observation, observation_cov, start, start_cov, *inputs = leaves
    covs = [(cov + cov.mT) / 2 for cov in (noise, observation_cov, start_cov)]
    model = LinearGaussianParameters(transition, covs[0], observation, covs[1], start, covs[2], *inputs)
    filtered = kalman_filter(values, model, mask, is_parallel=is_parallel)
    smoothed = kalman_smoother(values, model, mask, is_parallel=is_parallel)
    generator = torch.Generator().manual_seed(0)
    draws = sample_posterior(values, model, mask, num_samples=1, generator=generator, is_parallel=is_parallel)
    return (*filtered, *smoothed[:3], draws)


@ROUTES
@pytest.mark.parametrize("time", [1, 2, 5])
@pytest.mark.parametrize("varying", [False, True], ids=["shared", "varying"])
def test_gradients(varying, time, is_parallel):
    case = random_case(time=time, varying=varying, seed=7)
    if varying:
        case = of_series(case, (0, 1))
    else:
        # parameters for both rows of the batch, so that gradients are summed over some leading axes only
        first = case.parameters._replace(
            initial_mean=case.parameters.initial_mean[0, 0], inputs=case.parameters.inputs[0, 0]
        )
        case = Case(case.values[0, :2], first, case.mask[0, :2])
    leaves = [leaf.detach().clone().requires_grad_() for leaf in (case.values, *case.parameters[:8])]
    # along random directions: all entries at once
    assert torch.autograd.gradcheck(lambda *flat: moments_of(flat, case.mask, is_parallel), leaves, fast_mode=True)


@ROUTES
def test_gradients_of_gradients(is_parallel):
    case = of_series(random_case(time=3, hide="steps", inputs=False, seed=9), (0, 1))
    leaves = [leaf.detach().clone().requires_grad_() for leaf in (case.values, *case.parameters[:6])]
    assert torch.autograd.gradgradcheck(lambda *flat: moments_of(flat, case.mask, is_parallel), leaves, fast_mode=True)


def tracking(time: int, process: float, noise: float, dtype: torch.dtype = torch.float64) -> Case:
    """Two points of constant velocity under random accelerations, a tenth of the steps hidden."""
    dt = 0.2
    eye = torch.eye(2, dtype=torch.float64)
    move = torch.tensor([[1.0, dt], [0.0, 1.0]], dtype=torch.float64)
    push = torch.tensor([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], dtype=torch.float64)
    parameters = LinearGaussianParameters(
        torch.kron(move, eye),
        process * torch.kron(push, eye),
        torch.kron(torch.tensor([[1.0, 0.0]], dtype=torch.float64), eye),
        noise * eye,
        torch.zeros(4, dtype=torch.float64),
        20 * torch.eye(4, dtype=torch.float64),
    )
    generator = torch.Generator().manual_seed(0)
    roots = [torch.linalg.cholesky(cov) for cov in (parameters.initial_cov, parameters.transition_cov)]
    states = [roots[0] @ torch.randn(4, 8, dtype=torch.float64, generator=generator)]
    for _ in range(time - 1):
        kick = roots[1] @ torch.randn(4, 8, dtype=torch.float64, generator=generator)
        states.append(parameters.transition @ states[-1] + kick)
    values = (parameters.observation @ torch.stack(states)).permute(2, 0, 1)
    values = values + noise**0.5 * torch.randn(values.shape, dtype=torch.float64, generator=generator)
    mask = torch.rand(8, time, generator=generator) < 0.9
    return Case(values.to(dtype), LinearGaussianParameters(*(x.to(dtype) for x in parameters[:6])), mask)


def float32_errors(time: int, process: float, noise: float, is_parallel: bool) -> dict[str, float]:
    """Largest error relative to the largest entry; means also relative to the posterior standard deviation."""
    exact = kalman_smoother(*tracking(time, process, noise))
    found = kalman_smoother(*tracking(time, process, noise, torch.float32), is_parallel=is_parallel)
    errors = {
        name: largest(getattr(found, name) - getattr(exact, name)) / largest(getattr(exact, name))
        for name in exact._fields
    }
    deviation = exact.smoothed_covs.diagonal(dim1=-2, dim2=-1).sqrt()
    errors["means in deviations"] = largest((found.smoothed_means - exact.smoothed_means) / deviation)
    return errors


# Bounds are three times what was measured. With R = 1e-6 the first update shrinks the variance 20 by 2e7, about the
# inverse of float32's epsilon: no covariance filter can keep more than two digits there.
@ROUTES
@pytest.mark.parametrize(("process", "noise", "bound"), [(0.1, 0.03, 1e-4), (1e-6, 0.1, 3e-4), (1e-4, 1e-6, 0.1)])
@pytest.mark.parametrize("time", [20, 200, 2000])
def test_float32(time, process, noise, bound, is_parallel):
    errors = float32_errors(time, process, noise, is_parallel)
    print(f"T={time} Q={process:g} R={noise:g}", {name: f"{error:.1e}" for name, error in errors.items()})
    growth = max(1, time / 200)  # paths drift: far out the spacing of float32 reaches the posterior deviation
    assert errors.pop("means in deviations") < 0.3 * growth
    assert max(errors.values()) < bound * growth


@pytest.mark.parametrize("varying", [False, True])
def test_both_routes_agree_on_long_series(varying):
    case = tracking(500, 0.1, 0.03)
    if varying:
        case = case._replace(
            parameters=case.parameters._replace(transition=case.parameters.transition.expand(8, 500, 4, 4))
        )
    one, other = (kalman_smoother(*case, is_parallel=is_parallel) for is_parallel in (False, True))
    for name, field in one._asdict().items():
        torch.testing.assert_close(getattr(other, name), field, rtol=1e-9, atol=1e-9)


@ROUTES
@pytest.mark.parametrize("size", [1, 12])
def test_states_of_other_sizes(size, is_parallel):
    # above 8 the library's batched routines take over
    generator = torch.Generator().manual_seed(size)
    unit = torch.eye(size, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    parameters = LinearGaussianParameters(
        0.9 * turn, 0.1 * unit, turn.mT, 0.2 * unit, torch.ones(size, dtype=torch.float64), unit
    )
    values = torch.randn(3, 7, size, dtype=torch.float64, generator=generator)
    case = Case(values, parameters, torch.rand(3, 7, generator=generator) < 0.7)
    found = kalman_smoother(*case, is_parallel=is_parallel)
    result = None
    for t in range(7):  # the route of `step` shares no code with the whole filter
        result = step(case.values[:, t], parameters, result, case.mask[:, t])
    assert largest(found.smoothed_means[:, -1] - result.filtered_means) < 1e-12
    assert largest(found.smoothed_covs[:, -1] - result.filtered_covs) < 1e-12
    backward = kalman_smoother(case.values, parameters, case.mask, is_parallel=not is_parallel)
    for name, field in backward._asdict().items():
        torch.testing.assert_close(getattr(found, name), field, rtol=1e-11, atol=1e-11)


@ROUTES
def test_covariances_are_symmetric_and_positive_in_float32(is_parallel):
    values, parameters, mask = tracking(200, 1e-4, 1e-6, torch.float32)
    filtered = kalman_filter(values, parameters, mask, is_parallel=is_parallel)
    smoothed = kalman_smoother(values, parameters, mask, is_parallel=is_parallel)
    for covs in (filtered.filtered_covs, filtered.predicted_covs, smoothed.smoothed_covs):
        assert torch.equal(covs, covs.mT)
        assert (torch.linalg.eigvalsh(covs.double()) > 0).all()


@ROUTES
def test_singular_noise(is_parallel):
    # a straight line: no noise in the state at all, so that the past is as certain as the end
    case = tracking(30, 0.1, 0.03)
    still = case.parameters._replace(transition_cov=torch.zeros(4, 4, dtype=torch.float64))
    result = kalman_smoother(case.values, still, case.mask, is_parallel=is_parallel)
    path = result.smoothed_means
    torch.testing.assert_close(path[:, :-1] @ still.transition.mT, path[:, 1:], rtol=1e-8, atol=1e-8)
    generator = torch.Generator().manual_seed(0)
    draws = sample_posterior(case.values, still, case.mask, num_samples=3, generator=generator, is_parallel=is_parallel)
    # the jitter of the factors is far below the noise of the observations
    torch.testing.assert_close(draws[..., :-1, :] @ still.transition.mT, draws[..., 1:, :], rtol=0, atol=1e-6)


@ROUTES
def test_a_state_kept_twice_is_smoothed_as_once(is_parallel):
    # two copies of one level have a singular predicted covariance, whose factor needs more than the least number
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(9, 1, generator=generator, dtype=torch.float64)
    one, both = torch.ones(1, 1, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    once = LinearGaussianParameters(one, 0.3 * one, one, one, zero, 2 * one)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    twice = LinearGaussianParameters(
        torch.eye(2, dtype=torch.float64), 0.3 * both, first, one, zero.expand(2), 2 * both
    )
    exact = kalman_smoother(values, once, is_parallel=is_parallel)
    found = kalman_smoother(values, twice, is_parallel=is_parallel)
    torch.testing.assert_close(found.smoothed_means, exact.smoothed_means.expand(-1, 2), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.smoothed_covs, exact.smoothed_covs.expand(-1, 2, 2), rtol=1e-10, atol=1e-10)


def test_exact_observations():
    # without observation noise the seen coordinates are known and the filter's covariance is singular
    case = tracking(10, 0.1, 0.03)
    exact = case.parameters._replace(observation_cov=torch.zeros(2, 2, dtype=torch.float64))
    result = kalman_smoother(case.values, exact, case.mask)
    seen = result.smoothed_means[..., :2][case.mask]
    torch.testing.assert_close(seen, case.values[case.mask], rtol=0, atol=1e-9)


@ROUTES
@pytest.mark.parametrize("noise", [0.0, 1e-13, 1e-3])
def test_autoregression_without_observation_noise(noise, is_parallel):
    # once two neighbours are seen the state is known, and so is one direction of its prediction
    transition = torch.tensor([[0.5, 0.3, -0.2], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    parameters = LinearGaussianParameters(
        transition,
        torch.diag(torch.tensor([1.0, 0, 0], dtype=torch.float64)),
        torch.tensor([[1.0, 0, 0], [1, 0, 0]], dtype=torch.float64),
        torch.diag(torch.tensor([noise, 1.0], dtype=torch.float64)),
        torch.zeros(3, dtype=torch.float64),
        torch.eye(3, dtype=torch.float64),
    )
    case = random_case(time=12, seed=12)._replace(parameters=parameters)
    result = kalman_smoother(*case, is_parallel=is_parallel)
    draws = sample_posterior(*case, num_samples=4, generator=torch.Generator().manual_seed(0), is_parallel=is_parallel)
    assert draws.isfinite().all()
    for place in [(0, 0), (1, 3)]:
        exact = dense(of_series(case, place))
        assert largest(result.smoothed_means[place] - exact.means()) < 1e-9
        assert largest(result.log_likelihood[place] - exact.log_likelihood) < 1e-9
        for t in range(12):
            assert largest(result.smoothed_covs[place][t] - exact.block(t, t)) < 1e-9


@pytest.mark.parametrize("is_parallel", [None, False, True])
def test_a_level_without_noise_that_is_seen_exactly(is_parallel):
    # its steps are the slopes, a random walk; C Q C' + R is 0, so that no span of one step exists
    unit = torch.eye(2, dtype=torch.float64)
    transition, noise = unit + torch.diag(unit[0, :1], 1), torch.diag(0.3 * unit[1])
    parameters = LinearGaussianParameters(transition, noise, unit[:1], 0 * unit[:1, :1], unit[0], unit)
    values = torch.randn(3, 30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(1)
    slopes = values.diff(dim=1)
    parts = [(values[:, :1] - 1, 1.0), (slopes[:, :1], 1.0), (slopes.diff(dim=1), 0.3**0.5)]
    known = sum(
        torch.distributions.Normal(torch.zeros_like(part), scale).log_prob(part).sum((1, 2)) for part, scale in parts
    )
    result = kalman_filter(values, parameters, is_parallel=is_parallel)
    torch.testing.assert_close(result.log_likelihood, known, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(result.filtered_means[:, 1:, 1:], slopes, rtol=1e-9, atol=1e-9)


def test_shared_parameters_share_the_covariances():
    case = tracking(5, 0.1, 0.03)
    covs = kalman_filter(case.values, case.parameters).filtered_covs
    assert covs.shape == (8, 5, 4, 4) and covs.stride(0) == 0


def test_more_samples_of_values_than_of_parameters():
    values, parameters, _ = random_case(seed=3)
    samples = torch.stack([values, values + 1, values - 1])
    together = kalman_smoother(samples, parameters).smoothed_means
    alone = kalman_smoother(values - 1, parameters).smoothed_means
    assert together.shape == (3, *BATCH, 6, STATE) and largest(together[2] - alone) < 1e-12


def test_errors_of_the_other_verbs():
    indefinite = changed(GOOD, observation=ZEROS(OBS, STATE), transition_cov=-50 * torch.eye(STATE).double())
    with pytest.raises(NumericalError, match=r"prediction must be positive definite. First at step 1"):
        kalman_smoother(*indefinite)
    with pytest.raises(DataError, match="`num_samples` must be at least 0"):
        sample_posterior(*GOOD, num_samples=-1)
    with pytest.raises(ShapeError, match=r"`value` must be \(\*batch, obs\)"):
        step(ZEROS(()), GOOD.parameters)


@ROUTES
@pytest.mark.parametrize("is_diffuse", [False, True], ids=["known", "diffuse"])
def test_values_that_share_a_mask_share_covariances(is_parallel, is_diffuse):
    """A mask without the axis of the draws, beside one that has it: the same numbers, from one set of covariances."""
    generator = torch.Generator().manual_seed(0)
    one = torch.ones(1, 1, dtype=torch.float64)
    diffuse = torch.tensor([True]) if is_diffuse else None
    walk = LinearGaussianParameters(one, 0.3 * one, one, one, one[0], one, diffuse=diffuse)
    values = torch.randn(5, 2, 7, 1, generator=generator, dtype=torch.float64)
    shared = torch.rand(2, 7, 1, generator=generator) < 0.6
    shared[:, 0] = True
    options = {"is_parallel": is_parallel}
    for routine in (kalman_filter, kalman_smoother):
        found = routine(values, walk, shared, **options)
        expected = routine(values, walk, shared.expand_as(values), **options)
        for part, whole in zip(found, expected, strict=True):
            torch.testing.assert_close(part.expand_as(whole), whole, rtol=1e-12, atol=1e-12, equal_nan=True)
    with pytest.raises(ShapeError, match="mask"):
        kalman_filter(values, walk, torch.ones(3, 7, 1, dtype=torch.bool))
