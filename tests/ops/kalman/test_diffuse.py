"""The exact diffuse start against statsmodels, its own limit, and generalised least squares on dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.datasets import nile
from pyro_seq.errors import DataError, NumericalError, ShapeError, UnsupportedError
from pyro_seq.ops.kalman import (
    LinearGaussianParameters,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
    simulate,
    step,
)

HIDDEN = {"whole": [], "gaps": [0, 1, 3, *range(40, 60), 99]}
VARIANCES = {"level": (15098.5, 1469.2), "trend": (15000.0, 1200.0, 3.0)}


def trend(variances, *, start=1.0) -> LinearGaussianParameters:
    """Local level or local linear trend, by the number of variances."""
    irregular, *rest = torch.as_tensor(variances, dtype=torch.float64).unbind(-1)
    order = len(rest)
    eye = torch.eye(order, dtype=torch.float64)
    return LinearGaussianParameters(
        eye + torch.diag(eye.new_ones(order - 1), 1),
        torch.diag_embed(torch.stack(rest, -1)),
        eye[:1],
        irregular[..., None, None],
        eye.new_zeros(order),
        start * irregular[..., None, None] * eye,
        diffuse=torch.ones(order, dtype=torch.bool),
    )


def flows(gaps: str) -> tuple[torch.Tensor, torch.Tensor]:
    values = nile().values[0].clone()
    values[HIDDEN[gaps]] = torch.nan
    return values, ~values[:, 0].isnan()


def random_parameters(generator: torch.Generator, batch=(), time=12, state=3, obs=2) -> LinearGaussianParameters:
    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def cov(*shape):
        root = normal(*shape, shape[-1])
        return root @ root.mT + 0.1 * torch.eye(shape[-1], dtype=torch.float64)

    return LinearGaussianParameters(
        0.6 * normal(*batch, time, state, state),
        cov(*batch, time, state),
        normal(*batch, time, obs, state),
        cov(*batch, time, obs),
        normal(*batch, state),
        cov(*batch, state),
        normal(*batch, time, state, 2),
        normal(*batch, time, 2),
    )


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("gaps", HIDDEN)
@pytest.mark.parametrize("kind", VARIANCES)
def test_against_statsmodels(kind, gaps, is_parallel):
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    parameters = trend(VARIANCES[kind])
    values, mask = flows(gaps)
    order = len(parameters.initial_mean)
    reference = KalmanSmoother(k_endog=1, k_states=order, initialization="diffuse")
    matrices = {
        "design": parameters.observation,
        "obs_cov": parameters.observation_cov,
        "transition": parameters.transition,
        "selection": torch.eye(order),
        "state_cov": parameters.transition_cov,
    }
    for name, matrix in matrices.items():
        reference[name] = matrix.numpy()
    reference.bind(values.numpy().copy())
    known = reference.smooth()
    smoothed = kalman_smoother(values, parameters, mask, is_parallel=is_parallel)
    filtered = kalman_filter(values, parameters, mask, is_parallel=is_parallel)
    assert float(filtered.log_likelihood) == pytest.approx(known.llf, abs=1e-9)
    assert float(smoothed.log_likelihood) == float(filtered.log_likelihood)
    # relative to the size of the states and of their covariances
    scale = np.abs(known.smoothed_state).max(1)
    assert (np.abs(smoothed.smoothed_means.numpy().T - known.smoothed_state).max(1) / scale).max() < 1e-9
    known_covs = known.smoothed_state_cov
    size = np.sqrt(np.einsum("iit,jjt->ijt", known_covs, known_covs))
    assert (np.abs(smoothed.smoothed_covs.permute(1, 2, 0).numpy() - known_covs) / size).max() < 1e-9
    crosses = smoothed.cross_covs.mT.permute(1, 2, 0).numpy()
    error = crosses - known.smoothed_state_autocov[..., :-1]  # which statsmodels leaves at 0 in the diffuse phase
    assert np.abs(error[..., known.nobs_diffuse :]).max() < 1e-9 * known_covs.max()
    is_known = ~filtered.filtered_means[:, 0].isnan().numpy()
    assert is_known.sum() == 100 - (known.nobs_diffuse - 1)
    error = filtered.filtered_means.numpy().T - known.filtered_state
    assert (np.abs(error[:, is_known]).max(1) / scale).max() < 1e-9
    is_known = ~filtered.predicted_means[:, 0].isnan().numpy()
    assert is_known.sum() == 100 - known.nobs_diffuse
    error = filtered.predicted_covs.permute(1, 2, 0).numpy() - known.predicted_state_cov[..., :-1]
    assert np.abs(error[..., is_known]).max() < 1e-9 * np.abs(known.predicted_state_cov[..., 10:]).max()


def test_is_the_limit_of_a_large_initial_variance():
    generator = torch.Generator().manual_seed(0)
    parameters = random_parameters(generator, batch=(4,))
    values = torch.randn(4, 12, 2, dtype=torch.float64, generator=generator)
    mask = torch.rand(4, 12, 2, generator=generator) < 0.7
    diffuse = torch.tensor([True, False, True])
    exact = kalman_smoother(values, parameters._replace(diffuse=diffuse), mask)
    errors = []
    for size in (1e4, 1e6):
        wide = parameters.initial_cov + size * torch.diag(diffuse.double())
        near = kalman_smoother(values, parameters._replace(initial_cov=wide), mask)
        likelihood = near.log_likelihood + diffuse.sum() / 2 * torch.tensor(size).log()
        pairs = [(likelihood, exact.log_likelihood), *zip(near[:3], exact[:3], strict=True)]
        errors.append([float((one - other).abs().max()) for one, other in pairs])
    rates = torch.tensor(errors[0]) / torch.tensor(errors[1])
    assert rates.min() > 80, rates  # an error of order 1 / size


def test_dense_least_squares():
    """The likelihood against its definition with the joint covariance of all observations."""
    generator = torch.Generator().manual_seed(1)
    parameters = random_parameters(generator, time=6)
    values = torch.randn(6, 2, dtype=torch.float64, generator=generator)
    diffuse = torch.tensor([False, True, True])
    zeros = torch.zeros(6, 2, dtype=torch.float64)

    def response(data, **changes):
        mean = kalman_filter(zeros, parameters._replace(**changes), torch.zeros(6, dtype=torch.bool)).predicted_means
        return (data - (parameters.observation @ mean[..., None]).squeeze(-1)).flatten()

    rest = response(values)
    units = torch.eye(3, dtype=torch.float64)[diffuse]
    silent = torch.zeros_like(parameters.inputs)
    design = torch.stack([-response(zeros, initial_mean=unit, inputs=silent) for unit in units], -1)
    basis = torch.eye(12, dtype=torch.float64).reshape(12, 6, 2)
    proper = kalman_filter(
        torch.cat([zeros[None], basis]), parameters._replace(inputs=silent, initial_mean=units[0] * 0)
    )
    inner = proper.log_likelihood[0] - proper.log_likelihood[1:]  # half the diagonal of the precision
    pairs = kalman_filter(
        (basis[:, None] + basis[None]).flatten(0, 1), parameters._replace(inputs=silent, initial_mean=units[0] * 0)
    ).log_likelihood.unflatten(0, (12, 12))
    precision = proper.log_likelihood[0] - pairs - inner[:, None] - inner
    information = design.mT @ precision @ design
    start = torch.linalg.solve(information, design.mT @ precision @ rest)
    residual = rest - design @ start
    constant = 12 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    known = -0.5 * (constant - precision.logdet() + information.logdet() + residual @ precision @ residual)
    found = kalman_filter(values, parameters._replace(diffuse=diffuse)).log_likelihood
    assert float(found) == pytest.approx(float(known), abs=1e-9)


def test_initial_moments_of_diffuse_states_do_not_matter():
    values, mask = flows("gaps")
    parameters = trend(VARIANCES["trend"])
    other = trend(VARIANCES["trend"], start=7.0)._replace(initial_mean=torch.tensor([900.0, 5.0]).double())
    one, two = (kalman_smoother(values, each, mask) for each in (parameters, other))
    for first, second in zip(one, two, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


def test_no_diffuse_state_is_the_ordinary_filter():
    generator = torch.Generator().manual_seed(2)
    parameters = random_parameters(generator)
    values = torch.randn(12, 2, dtype=torch.float64, generator=generator)
    none = parameters._replace(diffuse=torch.zeros(3, dtype=torch.bool))
    for form in (kalman_filter, kalman_smoother):
        for one, two in zip(form(values, none), form(values, parameters), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_gradients():
    values, mask = flows("gaps")
    log_variances = torch.tensor(VARIANCES["trend"], dtype=torch.float64).log().requires_grad_()

    def likelihood(log_variances):
        return kalman_filter(values[:30], trend(log_variances.exp()), mask[:30], is_parallel=True).log_likelihood

    assert torch.autograd.gradcheck(likelihood, log_variances, rtol=1e-5)
    filtered = kalman_filter(values[:30], trend(log_variances.exp()), mask[:30])
    (slope,) = torch.autograd.grad(filtered.filtered_means[-1, 0], log_variances)
    assert slope.isfinite().all() and slope.abs().max() > 0, "NaN moments of the first steps do not reach gradients"


def test_batches_of_parameters_are_independent():
    values, mask = flows("gaps")
    variances = torch.tensor([VARIANCES["trend"], (10000.0, 3000.0, 30.0)], dtype=torch.float64)
    parameters = trend(variances)
    parameters = parameters._replace(
        transition_cov=parameters.transition_cov[:, None], observation_cov=parameters.observation_cov[:, None]
    )
    together = kalman_smoother(values.expand(2, -1, -1), parameters, mask.expand(2, -1))
    for place, each in enumerate(variances):
        alone = kalman_smoother(values, trend(each), mask)
        for one, two in zip(together, alone, strict=True):
            torch.testing.assert_close(one[place], two, rtol=1e-10, atol=1e-10)


def test_posterior_draws_have_the_smoothed_moments():
    values, mask = flows("gaps")
    parameters = trend(VARIANCES["trend"])
    count = 4000
    generator = torch.Generator().manual_seed(3)
    draws = sample_posterior(values, parameters, mask, num_samples=count, generator=generator)
    known = kalman_smoother(values, parameters, mask)
    assert draws.shape == (count, 100, 2)
    scale = known.smoothed_covs.diagonal(dim1=-2, dim2=-1).sqrt()
    error = (draws.mean(0) - known.smoothed_means) / scale
    assert error.abs().max() < 5 / count**0.5
    white = (draws - known.smoothed_means) / scale
    expected = known.cross_covs / (scale[:-1, :, None] * scale[1:, None, :])
    cross = torch.einsum("nti,ntj->tij", white[:, :-1], white[:, 1:]) / count
    assert (cross - expected).abs().max() < 5 * (2 / count) ** 0.5
    variance = white.square().mean(0)
    assert (variance - 1).abs().max() < 5 * (2 / count) ** 0.5


def test_noiseless_level_with_a_proper_covariance_for_the_start():
    values, _ = flows("whole")
    parameters = trend((0.0, 1469.2))._replace(initial_cov=torch.full((1, 1), 1e4, dtype=torch.float64))
    steps = values.diff(dim=0).squeeze(-1)
    scale = torch.tensor(1469.2**0.5, dtype=torch.float64)
    known = torch.distributions.Normal(0.0, scale).log_prob(steps).sum()
    constant = torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64)) / 2
    assert float(kalman_filter(values, parameters).log_likelihood) == pytest.approx(float(known - constant), abs=1e-8)


def test_float32_error():
    values, mask = flows("gaps")
    parameters = trend(VARIANCES["level"])
    single = LinearGaussianParameters(*(part.float() for part in parameters[:6]), diffuse=parameters.diffuse)
    exact = kalman_smoother(values, parameters, mask)
    rough = kalman_smoother(values.float(), single, mask)
    assert float((rough.log_likelihood - exact.log_likelihood).abs()) < 1e-5 * abs(float(exact.log_likelihood))
    torch.testing.assert_close(rough.smoothed_means.double(), exact.smoothed_means, rtol=1e-5, atol=0)
    torch.testing.assert_close(rough.smoothed_covs.double(), exact.smoothed_covs, rtol=1e-4, atol=0)


def test_refuses_what_does_not_determine_the_start():
    values, _ = flows("whole")
    parameters = trend(VARIANCES["trend"])
    one = torch.arange(100) == 7
    with pytest.raises(NumericalError, match="must determine the diffuse states"):
        kalman_filter(values, parameters, one)
    with pytest.raises(NumericalError, match=r"in series \[1\]"):
        kalman_smoother(values.expand(2, -1, -1), parameters, torch.stack([one >= 0, one]))
    assert kalman_filter(values, parameters, one | (torch.arange(100) == 8)).log_likelihood.isfinite()


def test_errors_name_the_argument():
    values, _ = flows("whole")
    parameters = trend(VARIANCES["trend"])
    with pytest.raises(ShapeError, match="`diffuse`"):
        kalman_filter(values, parameters._replace(diffuse=torch.tensor([True])))
    with pytest.raises(DataError, match="`num_samples`"):
        sample_posterior(values, parameters, num_samples=-1)
    with pytest.raises(ShapeError, match="`mask`"):
        kalman_filter(values, parameters, torch.ones(99, dtype=torch.bool))


def test_what_needs_a_start_says_so():
    values, _ = flows("whole")
    parameters = trend(VARIANCES["trend"])
    with pytest.raises(UnsupportedError, match=r"cannot be drawn .* `diffuse`"):
        simulate(parameters, 5)
    with pytest.raises(UnsupportedError, match=r"first step needs a known start.* `diffuse`"):
        step(values[0], parameters)
    filtered = kalman_filter(values, parameters)
    before, after = (type(filtered)(*(part[place] for part in filtered[:4]), filtered[4]) for place in (8, 9))
    for one, two in zip(step(values[9], parameters, before)[:4], after[:4], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_maximum_likelihood_of_the_nile():
    """The published variances, 15098.5 and 1469.2 (Durbin and Koopman; statsmodels)."""
    values, _ = flows("whole")
    log_variances = torch.tensor([9.0, 8.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_variances], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -kalman_filter(values, trend(log_variances.exp()), is_parallel=True).log_likelihood
        value.backward()
        return value

    optimizer.step(loss)
    assert log_variances.exp().tolist() == pytest.approx([15098.5, 1469.2], rel=1e-4)
    assert float(loss().detach()) == pytest.approx(633.4646, abs=1e-4)
