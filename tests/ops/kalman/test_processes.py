"""Processes in closed form against dense Gaussian processes with their kernels, and against `discretise`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import scipy.special
import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.kalman import (
    LinearGaussianParameters,
    discretise,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
    simulate,
)
from pyro_seq.ops.kalman.processes import Process, add_processes, damped_oscillator, matern, periodic

TIME, SERIES = 9, 3
NOISE = torch.tensor(0.05, dtype=torch.float64)
LENGTH, VARIANCE, PERIOD = (torch.tensor(value, dtype=torch.float64) for value in (0.8, 1.7, 2.3))
Kernel = Callable[[Tensor], Tensor]


def matern_kernel(lags: Tensor, num_derivatives: int) -> Tensor:
    x = math.sqrt(2 * num_derivatives + 1) * lags / LENGTH
    return VARIANCE * (torch.ones_like(x), 1 + x, 1 + x + x**2 / 3)[num_derivatives] * torch.exp(-x)


def oscillator_kernel(lags: Tensor, lifetime: float) -> Tensor:
    return VARIANCE * torch.exp(-lags / lifetime) * torch.cos(2 * math.pi * lags / PERIOD)


def periodic_kernel(lags: Tensor) -> Tensor:
    return VARIANCE * torch.exp(-2 * torch.sin(math.pi * lags / PERIOD) ** 2 / LENGTH**2)


CASES: dict[str, tuple[Callable[[Tensor], Process], Kernel]] = {
    "matern 1/2": (lambda gaps: matern(gaps, LENGTH, VARIANCE, num_derivatives=0), lambda lags: matern_kernel(lags, 0)),
    "matern 3/2": (lambda gaps: matern(gaps, LENGTH, VARIANCE), lambda lags: matern_kernel(lags, 1)),
    "matern 5/2": (lambda gaps: matern(gaps, LENGTH, VARIANCE, num_derivatives=2), lambda lags: matern_kernel(lags, 2)),
    "damped": (
        lambda gaps: damped_oscillator(gaps, PERIOD, 3 * LENGTH, VARIANCE),
        lambda lags: oscillator_kernel(lags, float(3 * LENGTH)),
    ),
    "undamped": (
        lambda gaps: damped_oscillator(gaps, PERIOD, torch.full_like(PERIOD, torch.inf), VARIANCE),
        lambda lags: oscillator_kernel(lags, math.inf),
    ),
    "periodic": (lambda gaps: periodic(gaps, PERIOD, LENGTH, VARIANCE, num_harmonics=15), periodic_kernel),
    "sum": (
        lambda gaps: add_processes(
            matern(gaps, LENGTH, VARIANCE), periodic(gaps, PERIOD, LENGTH, VARIANCE, num_harmonics=15)
        ),
        lambda lags: matern_kernel(lags, 1) + periodic_kernel(lags),
    ),
}
PROCESSES = pytest.mark.parametrize("name", CASES)


def irregular_times() -> Tensor:
    gaps = torch.rand(SERIES, TIME, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).exp() - 1
    gaps[1, 4] = 1e-7
    return gaps.cumsum(-1)


def gaps_of(times: Tensor) -> Tensor:
    return times.diff(dim=-1, prepend=times[..., :1])


def gram(kernel: Kernel, times: Tensor, others: Tensor | None = None) -> Tensor:
    others = times if others is None else others
    return kernel((times[:, None] - others).abs())


class Dense:
    """A Gaussian process with a kernel, given noisy values at the seen times of one series."""

    def __init__(self, kernel: Kernel, times: Tensor, values: Tensor, seen: Tensor) -> None:
        self.kernel, self.times, self.seen_times, self.values = kernel, times, times[seen], values[seen]
        self.cov = gram(kernel, self.seen_times) + NOISE * torch.eye(len(self.values), dtype=torch.float64)

    def log_likelihood(self) -> Tensor:
        square = self.values @ torch.linalg.solve(self.cov, self.values)
        return -0.5 * (square + torch.logdet(self.cov) + len(self.values) * math.log(2 * math.pi))

    def posterior(self) -> tuple[Tensor, Tensor]:
        cross = gram(self.kernel, self.times, self.seen_times)
        gain = torch.linalg.solve(self.cov, cross.mT).mT
        return gain @ self.values, gram(self.kernel, self.times) - gain @ cross.mT


def data() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(SERIES, TIME, 1, dtype=torch.float64, generator=generator)
    mask = torch.rand(SERIES, TIME, generator=generator) < 0.7
    return irregular_times(), values, mask


def read_out(process: Process, means: Tensor, covs: Tensor) -> tuple[Tensor, Tensor]:
    row = process.observation
    return means @ row, torch.einsum("i,...ij,j->...", row, covs, row)


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@PROCESSES
@pytest.mark.parametrize("is_parallel", [False, True], ids=["step by step", "parallel"])
def test_filter_and_smoother_are_those_of_the_dense_process(name, is_parallel):
    make, kernel = CASES[name]
    times, values, mask = data()
    process = make(gaps_of(times))
    parameters = process.seen_with(NOISE)
    filtered = kalman_filter(values, parameters, mask, is_parallel=is_parallel)
    smoothed = kalman_smoother(values, parameters, mask, is_parallel=is_parallel)
    means, variances = read_out(process, smoothed.smoothed_means, smoothed.smoothed_covs)
    means_before, variances_before = read_out(process, filtered.filtered_means, filtered.filtered_covs)
    for series in range(SERIES):
        dense = Dense(kernel, times[series], values[series, :, 0], mask[series])
        mean, cov = dense.posterior()
        assert_close(filtered.log_likelihood[series], dense.log_likelihood())
        assert_close(means[series], mean)
        assert_close(variances[series], cov.diagonal())
        for step in range(TIME):
            past = slice(0, step + 1)
            dense = Dense(kernel, times[series, past], values[series, past, 0], mask[series, past])
            mean, cov = dense.posterior()
            assert_close(means_before[series, step], mean[-1])
            assert_close(variances_before[series, step], cov[-1, -1])


@PROCESSES
def test_draws_have_the_moments_of_the_dense_process(name):
    make, kernel = CASES[name]
    times, values, mask = (tensor[0] for tensor in data())
    process = make(gaps_of(times))
    draws, noise = 4000, NOISE * torch.eye(TIME, dtype=torch.float64)
    torch.manual_seed(0)
    prior = simulate(process.seen_with(NOISE), TIME, sample_shape=(draws,)).values[..., 0]
    mean, cov = Dense(kernel, times, values[:, 0], mask).posterior()
    states = sample_posterior(
        values, process.seen_with(NOISE), mask, num_samples=draws, generator=torch.Generator().manual_seed(1)
    )
    for got, exact_mean, exact in (
        (prior, torch.zeros_like(mean), gram(kernel, times) + noise),
        (states @ process.observation, mean, cov),
    ):
        variance = exact.diagonal()
        assert float(((got.mean(0) - exact_mean) / (variance / draws).sqrt()).abs().max()) < 4.5
        error = ((variance[:, None] * variance + exact**2) / draws).sqrt()
        assert float(((got.T.cov() - exact) / error).abs().max()) < 4.5


@PROCESSES
def test_it_is_the_stationary_solution_of_a_differential_equation(name):
    """The drift is the slope of the transition, and the diffusion what keeps the stationary covariance."""
    make, _ = CASES[name]
    gaps = torch.tensor([0.0, 1e-4, 0.3, 2.0, 1e3], dtype=torch.float64)
    process = make(gaps)
    cov = process.stationary_cov
    drift = torch.autograd.functional.jacobian(lambda gap: make(gap).transition, torch.zeros_like(gaps[:1]))[0, ..., 0]
    diffusion = -(drift @ cov + cov @ drift.mT)
    assert float(torch.linalg.eigvalsh(diffusion).min()) > -1e-13
    transition, transition_cov = discretise(drift, diffusion, gaps)
    # an angle of 4e4, of the fifteenth harmonic after the longest gap, is known to a few 1e-11
    torch.testing.assert_close(process.transition, transition, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(process.transition_cov, transition_cov, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("num_derivatives", [0, 1, 2])
def test_short_gaps_keep_the_digits_of_every_entry(num_derivatives):
    """The noise of the value grows with the gap to the power 2 m + 1: far below the rounding of its variance."""
    size, gap = num_derivatives + 1, torch.tensor([1e-5], dtype=torch.float64)
    cov = matern(gap, LENGTH, VARIANCE, num_derivatives=num_derivatives).transition_cov[0]
    x = float(math.sqrt(2 * num_derivatives + 1) * gap / LENGTH)
    density = {0: 2.0, 1: 4.0, 2: 16 / 3}[num_derivatives] * float(VARIANCE)  # of the noise, in the unit of the state
    for i in range(size):
        for j in range(size):
            left, right = num_derivatives - i, num_derivatives - j
            power = left + right + 1
            leading = density * x**power / (power * math.factorial(left) * math.factorial(right))
            assert math.isclose(float(cov[i, j]), leading, rel_tol=10 * x)


@pytest.mark.parametrize("lengthscale", [0.05, 0.3, 1.0, 10.0])
def test_weights_of_harmonics_are_bessel_functions_however_small(lengthscale):
    number = 12
    exact = [scipy.special.ive(j, lengthscale**-2) * (2 if j else 1) for j in range(number + 1)]
    process = periodic(torch.ones(1, dtype=torch.float64), PERIOD, LENGTH * 0 + lengthscale, VARIANCE, num_harmonics=12)
    got = process.observation.square()[[0, *range(1, 2 * number, 2)]]
    # far below the lengthscales that so few harmonics are for, the continued fraction keeps eight digits
    torch.testing.assert_close(got, torch.tensor(exact), rtol=1e-12 if lengthscale > 0.1 else 1e-7, atol=0)


def test_parameters_may_differ_between_series():
    gaps = gaps_of(irregular_times())
    lengths, variances = torch.linspace(0.5, 2.0, SERIES, dtype=torch.float64), torch.ones(SERIES, dtype=torch.float64)
    for make in (
        lambda gaps, length, variance: matern(gaps, length, variance, num_derivatives=2),
        lambda gaps, length, variance: damped_oscillator(gaps, length, 3 * length, variance),
        lambda gaps, length, variance: periodic(gaps, PERIOD, length, variance, num_harmonics=3),
        lambda gaps, length, variance: add_processes(matern(gaps, length, VARIANCE), matern(gaps, LENGTH, variance)),
    ):
        together = make(gaps, lengths, variances)
        values = torch.randn(SERIES, TIME, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        scores = kalman_filter(values, together.seen_with(NOISE.expand(SERIES))).log_likelihood
        for series in range(SERIES):
            alone = make(gaps[series], lengths[series], variances[series])
            assert_close(together.transition[series], alone.transition)
            score = kalman_filter(values[series], alone.seen_with(NOISE)).log_likelihood
            assert_close(scores[series], score)


@PROCESSES
def test_single_precision_agrees_with_double(name):
    make, _ = CASES[name]
    gaps = gaps_of(irregular_times())
    exact = make(gaps)
    single = make_single(name, gaps.float())
    for got, expected in zip(single, exact, strict=True):
        assert got.dtype == torch.float32
        # the angle of the fifteenth harmonic is up to 70
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def make_single(name: str, gaps: Tensor) -> Process:
    length, variance, period = LENGTH.float(), VARIANCE.float(), PERIOD.float()
    waves = {"damped": 3 * length, "undamped": torch.full_like(length, torch.inf)}
    if name in waves:
        return damped_oscillator(gaps, period, waves[name], variance)
    smooth = {"matern 1/2": 0, "matern 3/2": 1, "matern 5/2": 2, "sum": 1}
    parts = [matern(gaps, length, variance, num_derivatives=smooth[name])] if name in smooth else []
    parts += [periodic(gaps, period, length, variance, num_harmonics=15)] if name in ("periodic", "sum") else []
    return add_processes(*parts)


def test_gradients_of_the_likelihood_reach_all_parameters_and_times():
    times, values, mask = (tensor[0, :5] for tensor in data())

    def score(times: Tensor, length: Tensor, variance: Tensor, period: Tensor, lifetime: Tensor) -> Tensor:
        gaps = gaps_of(times)
        process = add_processes(
            matern(gaps, length, variance, num_derivatives=2),
            damped_oscillator(gaps, period, lifetime, variance),
            periodic(gaps, period, length, variance, num_harmonics=2),
        )
        return kalman_filter(values, process.seen_with(NOISE), mask).log_likelihood

    parameters = (times, LENGTH, VARIANCE, PERIOD, 3 * LENGTH)
    torch.autograd.gradcheck(score, [parameter.clone().requires_grad_() for parameter in parameters])


def test_an_ornstein_uhlenbeck_process_seen_at_random_times_is_recovered():
    """Maximum likelihood finds its three parameters to their standard errors, and the smoother the hidden path."""
    torch.manual_seed(0)
    series, steps = 40, 100
    truth = torch.tensor([2.0, 1.5, 0.1], dtype=torch.float64).log()  # lengthscale, variance, variance of the noise
    times = torch.distributions.Exponential(torch.tensor(2.0).double()).sample((series, steps)).cumsum(-1)
    length, variance, noise = truth.exp()
    cov = variance * torch.exp(-(times[:, :, None] - times[:, None]).abs() / length)
    path = torch.linalg.cholesky(cov) @ torch.randn(series, steps, 1, dtype=torch.float64)
    values = path + noise.sqrt() * torch.randn_like(path)
    mask = torch.arange(steps).expand(series, -1) % 5 > 0

    def model(logs: Tensor) -> LinearGaussianParameters:
        length, variance, noise = logs.exp()
        return matern(gaps_of(times), length, variance, num_derivatives=0).seen_with(noise)

    best = torch.zeros(3, dtype=torch.float64)
    for _ in range(9):  # Newton's method, of at most one unit at a time
        best = best.detach().requires_grad_()
        score = kalman_filter(values, model(best), mask).log_likelihood.sum()
        (slope,) = torch.autograd.grad(score, best, create_graph=True)
        information = -torch.stack([torch.autograd.grad(part, best, retain_graph=True)[0] for part in slope])
        step = torch.linalg.solve(information, slope.detach())
        best = best.detach() + step.clamp(-1, 1)
    assert float(step.abs().max()) < 1e-6
    spread = torch.linalg.inv(information).diagonal().sqrt()
    assert float(spread.max()) < 0.1 and float(((best - truth) / spread).abs().max()) < 3
    smoothed = kalman_smoother(values, model(best), mask)
    off = (smoothed.smoothed_means - path).squeeze(-1) / smoothed.smoothed_covs[..., 0, 0].sqrt()
    hidden = off[~mask]  # five steps apart, nearly independent
    assert abs(float((hidden.abs() < 1.645).double().mean()) - 0.9) < 3 * math.sqrt(0.09 / len(hidden))


def test_errors_name_the_argument():
    gaps = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"`gaps` must be \(\*batch, time\)"):
        matern(gaps[0], LENGTH, VARIANCE)
    with pytest.raises(DataError, match=r"`gaps` must be finite numbers, 0 or more.*smallest one of -1"):
        periodic(-gaps, PERIOD, LENGTH, VARIANCE)
    with pytest.raises(DataError, match=r"`lengthscale` must have the dtype and device of `gaps`.*float32"):
        matern(gaps, LENGTH.float(), VARIANCE)
    with pytest.raises(DataError, match=r"`lifetime` must be positive. Got a smallest one of 0"):
        damped_oscillator(gaps, PERIOD, 0 * LENGTH, VARIANCE)
    with pytest.raises(DataError, match=r"`num_derivatives` must be 0 or more. Got -1"):
        matern(gaps, LENGTH, VARIANCE, num_derivatives=-1)
    with pytest.raises(DataError, match=r"`num_harmonics` must be 0 or more. Got -1"):
        periodic(gaps, PERIOD, LENGTH, VARIANCE, num_harmonics=-1)
    with pytest.raises(ShapeError, match=r"`processes` must be at the same times.*\(3, 2, 2\), \(2, 2, 2\)"):
        add_processes(matern(gaps, LENGTH, VARIANCE), matern(gaps[:2], LENGTH, VARIANCE))
