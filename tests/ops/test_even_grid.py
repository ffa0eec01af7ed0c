"""Even steps with cubics between them: rates, closed forms, independence of what else is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.errors import DataError
from pyro_seq.ops.odeint import RK4, Dopri5, Euler, Midpoint, odeint

F64 = torch.float64
SHARED = pytest.mark.parametrize("per_series", [False, True], ids=["shared", "per series"])
MATRIX = torch.tensor([[-0.3, 1.1], [-1.4, 0.1]], dtype=F64)


def linear(t: Tensor, state: Tensor) -> Tensor:
    return state @ MATRIX.mT


def exact(initial: Tensor, times: Tensor) -> Tensor:
    """Path (series, time, 2)."""
    flow = torch.linalg.matrix_exp((times - times[..., :1])[..., None, None] * MATRIX)
    return (flow @ initial[:, None, :, None])[..., 0]


def crowded(per_series: bool, series: int = 3, steps: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    times = (1e-3 + torch.rand(series, steps, dtype=F64, generator=generator)).cumsum(-1) / 10
    return times if per_series else times[0]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(1))


@SHARED
@pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Midpoint, 2), (RK4, 4)])
def test_order_is_that_of_the_solver(solver, order, per_series) -> None:
    initial, times = normal(3, 2), crowded(per_series)
    errors = [
        (odeint(linear, initial, times, solver(h, is_dense=True)).path - exact(initial, times)).abs().max()
        for h in (0.1, 0.05, 0.025)
    ]
    rates = torch.stack(errors).log2().diff()
    assert ((rates + order).abs() < 0.35).all(), rates


@SHARED
def test_cubic_paths_are_exact(per_series) -> None:
    """Runge-Kutta integrates a parabola exactly, and a cubic is what it reads off."""
    times, initial = crowded(per_series), normal(3, 1)
    path = odeint(lambda t, y: 3 * t**2 + 0 * y, initial, times, RK4(0.3, is_dense=True)).path
    start = times[..., :1]
    torch.testing.assert_close(path[..., 0], initial + times**3 - start**3, rtol=1e-12, atol=1e-12)


def test_at_ends_of_steps_it_is_the_plain_solver() -> None:
    times, initial = 2.0 + 0.25 * torch.arange(9, dtype=F64), normal(3, 2)
    dense, plain = (odeint(linear, initial, times, RK4(0.25, is_dense=is_dense)).path for is_dense in (True, False))
    torch.testing.assert_close(dense, plain, rtol=1e-14, atol=1e-14)


@SHARED
def test_later_times_leave_the_path_bit_equal(per_series) -> None:
    times, initial = crowded(per_series), normal(3, 2)
    ahead = torch.cat([times, times[..., -1:] + torch.tensor([0.01, 0.5, 3.0], dtype=F64)], -1)
    even = times[..., :1] + 0.1 * torch.arange(10, dtype=F64)  # times at ends of steps
    for shorter, longer in ((times, ahead), (even[..., :6], even)):
        short, long = (odeint(linear, initial, grid, RK4(0.1, is_dense=True)).path for grid in (shorter, longer))
        assert torch.equal(long[..., : short.shape[-2], :], short)


def test_series_get_the_numbers_they_get_alone() -> None:
    times, initial = crowded(True) * torch.tensor([[1.0], [3.0], [0.2]], dtype=F64), normal(3, 2)
    together = odeint(lambda t, y: torch.sin(t) * y, initial, times, RK4(0.2, is_dense=True)).path
    for i in range(3):
        alone = odeint(lambda t, y: torch.sin(t) * y, initial[i : i + 1], times[i : i + 1], RK4(0.2, is_dense=True))
        assert torch.equal(alone.path[0], together[i])


def test_a_series_at_its_end_waits() -> None:
    """One that would blow up soon after its last time is not integrated up to there."""
    times = torch.tensor([[0.0, 0.1, 0.2], [0.0, 1.0, 5.0]], dtype=F64)
    initial = torch.tensor([[4.0], [-1.0]], dtype=F64).requires_grad_()
    path = odeint(lambda t, y: y**2, initial, times, RK4(0.05, is_dense=True)).path
    assert path.isfinite().all()
    path.sum().backward()
    assert initial.grad.isfinite().all()


@SHARED
def test_integral_is_one_more_state_component(per_series) -> None:
    times, initial = crowded(per_series), normal(3, 2)
    solver = RK4(0.2, is_dense=True)
    path, integral = odeint(linear, initial, times, solver, integrand=lambda t, y: (t.sin() * y[..., :1])[..., 0])
    joint = odeint(
        lambda t, y: torch.cat([linear(t, y[..., :2]), t.sin() * y[..., :1]], -1),
        torch.cat([initial, torch.zeros(3, 1, dtype=F64)], -1),
        times,
        solver,
    ).path
    torch.testing.assert_close(torch.cat([path, integral[..., None]], -1), joint, rtol=1e-12, atol=1e-12)


@SHARED
def test_samples_in_front(per_series) -> None:
    times, initial = crowded(per_series), normal(4, 3, 2)
    together = odeint(linear, initial, times, RK4(0.2, is_dense=True)).path
    for sample in range(4):
        alone = odeint(linear, initial[sample], times, RK4(0.2, is_dense=True)).path
        torch.testing.assert_close(together[sample], alone, rtol=1e-13, atol=1e-13)


def test_cost_does_not_depend_on_the_number_of_times() -> None:
    calls = []

    def counted(t: Tensor, state: Tensor) -> Tensor:
        calls.append(len(state) if state.ndim == 3 else 1)
        return linear(t, state)

    for steps in (10, 500):
        calls.clear()
        odeint(counted, normal(3, 2), torch.linspace(0, 1, steps, dtype=F64), RK4(0.1, is_dense=True))
        assert calls == [1] * 40 + [11]  # four stages a step, then the slopes at all ends at once


@SHARED
def test_gradients(per_series) -> None:
    times = crowded(per_series, steps=6)
    matrix = MATRIX.clone().requires_grad_()

    def solve(initial: Tensor, matrix: Tensor) -> Tensor:
        return odeint(lambda t, y: torch.tanh(y @ matrix.mT), initial, times, RK4(0.2, is_dense=True)).path

    assert torch.autograd.gradcheck(solve, (normal(3, 2).requires_grad_(), matrix))


@SHARED
def test_single_time_and_single_precision(per_series) -> None:
    times, initial = crowded(per_series).float(), normal(3, 2).float()
    alone = odeint(linear, initial.double(), times[..., :1], RK4(0.2, is_dense=True)).path
    assert torch.equal(alone[:, 0], initial.double())
    path = odeint(lambda t, y: y @ MATRIX.float().mT, initial, times, RK4(0.05, is_dense=True)).path
    assert path.dtype == torch.float32
    torch.testing.assert_close(path.double(), exact(initial.double(), times.double()), rtol=1e-4, atol=1e-5)


def test_needs_a_step_size() -> None:
    with pytest.raises(DataError, match="step_size"):
        RK4(is_dense=True)


# ---------------------------------------------------------------- jumps


@SHARED
@pytest.mark.parametrize("step_size", [None, 0.02])
def test_impulses_add_up(step_size, per_series) -> None:
    times, initial, kicks = crowded(per_series, steps=6), normal(3, 2), normal(6, 2)
    path = odeint(linear, initial, times, RK4(step_size), jump=lambda k, state: state + kicks[k]).path
    wanted = exact(initial, times)
    for k, kick in enumerate(kicks):
        wanted[:, k:] = wanted[:, k:] + exact(kick.expand(3, 2), times[..., k:])
    torch.testing.assert_close(path, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", [Dopri5(), RK4(0.1, is_dense=True)], ids=["adaptive", "dense"])
def test_solvers_that_do_not_stop_at_times_refuse_jumps(solver) -> None:
    with pytest.raises(NotImplementedError, match="jump"):
        odeint(linear, normal(3, 2), crowded(False), solver, jump=lambda k, state: state)
