"""The steps of a solver, against a loop in plain numbers that takes one series and one interval after another."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pyro_seq.ops._time_grid import STEP_TOLERANCE, cut
from pyro_seq.ops.odeint import RK4, Euler, odeint

F64 = torch.float64
STEPS = pytest.mark.parametrize("step_size", [None, 0.7, 0.13])


def random_times(series: int = 4, time: int = 9, seed: int = 0) -> Tensor:
    """Intervals of an exponential law, as between the events of a Poisson process."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(series, time, dtype=F64).exponential_(generator=generator).add_(0.01).cumsum(-1)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def field(time: Tensor, state: Tensor) -> Tensor:
    """Elementwise, so that the size of a batch changes no bit."""
    return torch.cat([state[..., 1:], -1.3 * state[..., :1]], -1) * (1 + 0.1 * time)


def integrand(time: Tensor, state: Tensor) -> Tensor:
    return state[..., 0] * (1 + time)[..., 0]


def lengths_of(times: list[float], step_size: float | None) -> list[tuple[float, float]]:
    """Start and length of each step of one series."""
    found = []
    for start, end in pairwise(times):
        interval = end - start
        count = 1 if step_size is None else max(1, math.ceil(interval / step_size - STEP_TOLERANCE))
        found += [(start + step * (interval / count), interval / count) for step in range(count)]
    return found


def one_by_one(times: Tensor, initial: Tensor, step_size: float | None) -> Tensor:
    """Path by Euler's method, series after series, step after step."""
    path = []
    for stamps, start in zip(times.tolist(), initial, strict=True):
        state, states, reached = start[None], [start[None]], 1
        for begin, length in lengths_of(stamps, step_size):
            slope = field(torch.tensor([[begin]], dtype=F64), state)
            state = torch.addcmul(state, torch.tensor([[length]], dtype=F64), slope)
            if reached < len(stamps) and abs(begin + length - stamps[reached]) < 1e-9:
                states.append(state)
                reached += 1
        path.append(torch.cat(states))
    return torch.stack(path)


@STEPS
def test_states_are_those_of_a_plain_loop_bit_by_bit(step_size: float | None) -> None:
    times, initial = random_times(), normal(4, 2)
    path = odeint(field, initial, times, Euler(step_size)).path
    assert torch.equal(path, one_by_one(times, initial, step_size))


@STEPS
def test_a_series_gets_what_it_gets_alone(step_size: float | None) -> None:
    times, initial = random_times(), normal(5, 4, 2)
    together = odeint(field, initial, times, RK4(step_size), integrand=integrand)
    for i, row in enumerate(times):
        alone = odeint(field, initial[:, i : i + 1], row[None], RK4(step_size), integrand=integrand)
        assert torch.equal(together.path[:, i], alone.path[:, 0])
        torch.testing.assert_close(together.integral[:, i], alone.integral[:, 0], rtol=1e-13, atol=1e-13)


@STEPS
def test_later_times_leave_what_lies_before_bit_equal(step_size: float | None) -> None:
    times, initial = random_times(), normal(4, 2)
    short = odeint(field, initial, times[:, :5], RK4(step_size), integrand=integrand)
    later = odeint(field, initial, times, RK4(step_size), integrand=integrand)
    assert torch.equal(later.path[:, :5], short.path)
    torch.testing.assert_close(later.integral[:, :5], short.integral, rtol=1e-13, atol=1e-13)


@STEPS
def test_a_batch_takes_as_many_steps_as_the_series_that_needs_most(step_size: float | None) -> None:
    times = random_times(16, 40)
    grid = cut(times, step_size, (0.0,), times)
    most = max(len(lengths_of(row, step_size)) for row in times.tolist())
    assert len(grid.lengths) == most and int(grid.ends.max()) == most
    torch.testing.assert_close(grid.lengths.sum(0)[:, 0], times[:, -1] - times[:, 0], rtol=1e-13, atol=0)


def test_steps_of_the_typical_interval_are_about_two_an_interval() -> None:
    # for exponential intervals of mean 1 and h = log 2, E ceil(x / h) = 1 / (1 - exp(-h)) = 2; 64 series wait for the
    # slowest, some three deviations of sqrt(2 / 50) away; and one series in common would make it about seven
    times = random_times(64, 51)
    steps = len(cut(times, math.log(2), (0.0,), times).lengths)
    assert 2.0 < steps / 50 < 2.9


@pytest.mark.parametrize("per_series", [False, True])
def test_series_that_reach_their_times_together_have_ends_in_common(per_series: bool) -> None:
    even = torch.arange(5, dtype=F64)
    times = even + torch.tensor([[0.0], [0.3]], dtype=F64) if per_series else even
    grid = cut(times, 0.5, (0.0,), times)
    assert grid.ends.tolist() == [0, 2, 4, 6, 8] and grid.lengths.ndim == (3 if per_series else 1)


@STEPS
def test_jumps_happen_to_those_who_arrive_only(step_size: float | None) -> None:
    """Each series sees its jumps in order, each once, and its state is the one between them."""
    times, initial, kicks = random_times(), normal(4, 2), normal(4, 9, 2)
    rows = torch.arange(4)

    def jump(k: int | Tensor, state: Tensor) -> Tensor:
        return 0.5 * state + kicks[rows, k]

    path = odeint(field, initial, times, RK4(step_size), jump=jump).path
    for i, row in enumerate(times):
        state = 0.5 * initial[i : i + 1] + kicks[i, 0]
        assert torch.equal(path[i, 0], state[0])
        for k in range(1, 9):
            state = 0.5 * odeint(field, state, row[None, k - 1 : k + 1], RK4(step_size)).path[:, -1] + kicks[i, k]
            torch.testing.assert_close(path[i, k], state[0], rtol=1e-13, atol=1e-13)


def test_gradients_of_series_that_wait() -> None:
    times, matrix = random_times(3, 4), (0.5 * normal(2, 2)).requires_grad_()

    def solve(initial: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        def jump(k: int | Tensor, state: Tensor) -> Tensor:
            return state.sin()

        return odeint(lambda t, y: torch.tanh(y @ matrix), initial, times, RK4(0.6), integrand=integrand, jump=jump)

    assert torch.autograd.gradcheck(solve, (normal(3, 2).requires_grad_(), matrix), atol=1e-5)
