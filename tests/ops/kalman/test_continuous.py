"""Exact discretisation: closed forms, Van Loan's exponential, the semigroup, long and short gaps, gradients, errors."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.kalman import discretise
from tests.ops.kalman.cases import random_cov

EPS = torch.finfo(torch.float64).eps
GAPS = torch.tensor([0.0, 1e-6, 1e-3, 0.1, 1.0, 4.0], dtype=torch.float64)


def random_system(size: int = 4, *batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drift = torch.randn(*batch, size, size, dtype=torch.float64, generator=generator)
    return drift - torch.eye(size), random_cov(generator, *batch, size)


def assert_near(got: Tensor, expected: Tensor, tolerance: Tensor | float) -> None:
    """Each matrix within a share of its largest entry."""
    largest = expected.abs().amax((-2, -1))
    assert bool(((got - expected).abs().amax((-2, -1)) <= tolerance * largest).all())


@pytest.mark.parametrize("rate", [1e-9, 0.3, 1e8])
def test_one_state_of_any_speed_has_its_closed_form_entry_by_entry(rate):
    gaps = torch.logspace(-12, 4, 33, dtype=torch.float64)
    matrix = torch.tensor([[1.0]], dtype=torch.float64)
    transition, cov = discretise(-rate * matrix, 2 * rate * matrix, gaps)
    expected = torch.exp(-rate * gaps)
    # squaring doubles a relative error each time: that of the exponential grows with the length of the gap
    torch.testing.assert_close(transition[:, 0, 0], expected, rtol=0, atol=100 * EPS)
    torch.testing.assert_close(cov[:, 0, 0], -torch.expm1(-2 * rate * gaps), rtol=100 * EPS, atol=0)


def test_an_integrated_process_keeps_the_digits_of_short_gaps_in_every_entry():
    """White noise integrated three times, which has no stationary covariance."""
    drift = torch.diag(torch.ones(2, dtype=torch.float64), 1)
    diffusion = torch.diag(torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64))
    gaps = torch.tensor([1e-8, 1e-3, 1.0, 1e6], dtype=torch.float64)
    transition, cov = discretise(drift, diffusion, gaps)
    powers = torch.stack([gaps**k for k in range(6)])
    zero, one = torch.zeros_like(gaps), torch.ones_like(gaps)
    exact = [[one, gaps, powers[2] / 2], [zero, one, gaps], [zero, zero, one]]
    torch.testing.assert_close(transition, stacked(exact), rtol=10 * EPS, atol=0)
    exact = [
        [powers[5] / 20, powers[4] / 8, powers[3] / 6],
        [powers[4] / 8, powers[3] / 3, powers[2] / 2],
        [powers[3] / 6, powers[2] / 2, gaps],
    ]
    torch.testing.assert_close(cov, 0.7 * stacked(exact), rtol=100 * EPS, atol=0)


def stacked(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def test_any_system_agrees_with_van_loans_exponential_where_that_has_digits():
    drift, diffusion = random_system()
    transition, cov = discretise(drift, diffusion, GAPS)
    block = torch.cat([torch.cat([drift, diffusion], 1), torch.cat([torch.zeros_like(drift), -drift.mT], 1)])
    for gap, got, got_cov in zip(GAPS, transition, cov, strict=True):
        both = torch.from_numpy(scipy.linalg.expm((gap * block).numpy()))
        # e^{-F^T gap} in the block has entries that large, and their rounding is in Q
        rounding = 100 * EPS * float(both.abs().max()) ** 2
        assert_near(got, both[:4, :4], rounding)
        assert_near(got_cov, both[:4, 4:] @ both[:4, :4].mT, rounding) if gap else None
        assert torch.equal(got_cov, got_cov.mT)
    assert torch.equal(transition[0], torch.eye(4, dtype=torch.float64)) and not bool(cov[0].any())


@pytest.mark.parametrize("seed", range(3))
def test_a_stable_system_forgets_its_stationary_covariance(seed):
    drift, diffusion = random_system(seed=seed)
    drift = drift - 3 * torch.eye(4)
    stationary = torch.from_numpy(scipy.linalg.solve_continuous_lyapunov(drift.numpy(), -diffusion.numpy()))
    transition, cov = discretise(drift, diffusion, torch.tensor([0.1, 1.0, 1e3, 1e9], dtype=torch.float64))
    assert_near(cov, stationary - transition @ stationary @ transition.mT, 1e-12)
    assert_near(cov[-1], stationary, 1e-12)


def test_stiff_drifts_stay_exact_over_long_gaps():
    """Rates from 1e-6 to 1e6 in one state, coupled: beyond Van Loan's exponential in any precision."""
    rates = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)
    turn = torch.linalg.qr(random_system(3)[0]).Q
    gaps = torch.tensor([1e-3, 1.0, 1e3, 1e6], dtype=torch.float64)
    transition, cov = discretise(-(turn * rates) @ turn.mT, torch.eye(3, dtype=torch.float64), gaps)
    decay = torch.exp(-gaps[:, None] * rates)
    variance = -torch.expm1(-2 * gaps[:, None] * rates) / (2 * rates)
    # the drift is stored to a share of its largest entry, and so is the slow rate, which then acts over the gap
    rounding = 10 * EPS * 1e6 * gaps.clamp(min=1.0)
    assert_near(transition, (turn * decay[:, None]) @ turn.mT, rounding)
    assert_near(cov, (turn * variance[:, None]) @ turn.mT, rounding)
    both = torch.block_diag(-rates.diag(), rates.diag()) * 1e3
    assert not bool(torch.linalg.matrix_exp(both).isfinite().all()), "the reason for another way"


def test_two_gaps_in_a_row_are_one():
    drift, diffusion = random_system(3, 2, 1)
    first, second = torch.rand(2, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (before, cov_before), (after, cov_after) = (discretise(drift, diffusion, gaps) for gaps in (first, second))
    transition, cov = discretise(drift, diffusion, first + second)
    torch.testing.assert_close(transition, after @ before, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(cov, after @ cov_before @ after.mT + cov_after, rtol=1e-12, atol=1e-13)


def test_a_gap_does_not_see_the_others():
    drift, diffusion = random_system()
    together = discretise(drift, diffusion, GAPS)
    for step, gap in enumerate(GAPS):
        for whole, alone in zip(together, discretise(drift, diffusion, gap), strict=True):
            torch.testing.assert_close(whole[step], alone, rtol=1e-13, atol=1e-15)


def test_matrices_may_differ_between_series_and_steps():
    drift, diffusion = random_system(3, 2, 4)
    gaps = torch.rand(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    transition, cov = discretise(drift, diffusion, gaps)
    assert transition.shape == cov.shape == (2, 4, 3, 3)
    one = discretise(drift[1, 2], diffusion[1, 2], gaps[1, 2])
    torch.testing.assert_close((transition[1, 2], cov[1, 2]), one, rtol=1e-12, atol=1e-13)
    assert discretise(drift[:, :1], diffusion[0, 0], gaps[0])[1].shape == (2, 4, 3, 3)


def test_a_constant_input_rides_on_the_drift():
    """B beside F: the response of a decaying state to an input of 1 is (1 - e^{-rate gap}) / rate."""
    drift = torch.tensor([[-0.5, 2.0], [0.0, 0.0]], dtype=torch.float64)
    transition, cov = discretise(drift, torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64)), GAPS)
    torch.testing.assert_close(transition[:, 0, 1], -4 * torch.expm1(-0.5 * GAPS), rtol=1e-13, atol=0)
    torch.testing.assert_close(cov[:, 0, 0], -torch.expm1(-GAPS), rtol=1e-13, atol=0)
    assert not bool(cov[:, 1].any())


def test_single_precision_is_double_precision_rounded():
    drift, diffusion = random_system(3, 20)
    drift = drift - 2 * torch.eye(3)
    gaps = torch.logspace(-4, 3, 20, dtype=torch.float64)
    exact = discretise(drift, diffusion, gaps)
    for got, expected in zip(discretise(drift.float(), diffusion.float(), gaps.float()), exact, strict=True):
        error = (got.double() - expected).abs().amax((-2, -1)) / expected.abs().amax((-2, -1)).clamp(min=1e-6)
        assert got.dtype == torch.float32 and float(error.max()) < 1e-5


def test_gradients_are_right_also_through_doublings_and_at_a_gap_of_zero():
    drift, diffusion = random_system(3)
    root = torch.linalg.cholesky(diffusion)
    gaps = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (drift, root, gaps)]
    torch.autograd.gradcheck(lambda drift, root, gaps: discretise(drift, root @ root.mT, gaps), inputs)
    start = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.functional.jacobian(lambda gap: torch.cat(discretise(drift, root @ root.mT, gap)), start)
    torch.testing.assert_close(slope[..., 0], torch.stack([drift, root @ root.mT]), rtol=1e-12, atol=1e-13)


def test_gradients_stay_finite_where_an_explosion_waits_for_a_fast_decay():
    """Doubled once more than asked for, as its neighbour goes on, it would leave the finite numbers."""
    drift = torch.tensor([[[35.0]], [[-1e6]]], requires_grad=True)
    transition, cov = discretise(drift, torch.eye(1), torch.ones(2))
    (transition + cov).sum().backward()
    assert bool(drift.grad.isfinite().all())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_what_is_not_finite_shows(value):
    """The last overflows over the gap."""
    transition, cov = discretise(torch.tensor([[value]]), torch.eye(1), torch.full((1,), 10.0))
    assert not bool(transition.isfinite().any()) and not bool(cov.isfinite().any())


def test_errors_name_the_argument():
    square, gaps = torch.eye(2), torch.ones(3)
    with pytest.raises(DataError, match=r"`gaps` must have the dtype and device of `drift`.*Got torch.float64"):
        discretise(square, square, gaps.double())
    with pytest.raises(DataError, match=r"`gaps` must be finite and 0 or more. Got gaps\[1\] = -1"):
        discretise(square, square, torch.tensor([1.0, -1.0]))
    with pytest.raises(DataError, match=r"`gaps` must be finite and 0 or more. Got gaps\[0\] = inf"):
        discretise(square, square, torch.tensor([torch.inf]))
    for drift, diffusion in ((torch.ones(2, 3), square), (square, torch.eye(3)), (torch.ones(2), square)):
        with pytest.raises(ShapeError, match=r"`drift` and `diffusion` must be square matrices of one size"):
            discretise(drift, diffusion, gaps)
    with pytest.raises(ShapeError, match=r"must broadcast.*Got \(3,\), \(2,\) for `drift`.*time axis of 1"):
        discretise(square.expand(2, 2, 2), square, gaps)
    for diffusion in (-square, torch.tensor([[1.0, 0.5], [0.0, 1.0]])):
        with pytest.raises(DataError, match=r"`diffusion` must be a covariance per unit of time"):
            discretise(square, diffusion, gaps)
