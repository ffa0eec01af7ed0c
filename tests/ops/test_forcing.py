"""Signals that drive an equation, against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops.forcing import Forcing
from pyro_seq.ops.odeint import RK4, Dopri5, Euler, Midpoint, odeint

RATE, GAIN = 0.8, 1.7
SOLVERS = [RK4(step_size=0.02), Midpoint(step_size=0.002), Dopri5(rtol=1e-9, atol=1e-10)]


def signal(num_series: int = 3, num_times: int = 7, num_inputs: int = 2) -> Tensor:
    return torch.randn(num_series, num_times, num_inputs, generator=torch.Generator().manual_seed(1)).double()


def uneven(num_series: int = 3, num_times: int = 7) -> Tensor:
    gaps = 0.1 + torch.rand(num_series, num_times, generator=torch.Generator().manual_seed(2)).double()
    return gaps.cumsum(1)


def field(_: Tensor, state: Tensor, inputs: Tensor) -> Tensor:
    return GAIN * inputs.sum(-1, keepdim=True) - RATE * state


def exact(initial: Tensor, times: Tensor, values: Tensor, is_linear: bool) -> Tensor:
    """s' = -a s + b (u + m t) over each interval, in closed form."""
    drive, state = values.sum(-1), initial[..., 0]
    states = [state]
    for k in range(times.shape[-1] - 1):
        t = times[..., k + 1] - times[..., k]
        slope = (drive[:, k + 1] - drive[:, k]) / t if is_linear else 0.0
        fading = (-RATE * t).exp()
        moved = GAIN * drive[:, k] * (1 - fading) / RATE + GAIN * slope * (t / RATE - (1 - fading) / RATE**2)
        state = fading * state + moved
        states.append(state)
    return torch.stack(states, -1)[..., None]


@pytest.mark.parametrize("is_linear", [False, True], ids=["held", "linear"])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("is_shared", [False, True], ids=["own times", "shared times"])
def test_every_solver_meets_the_closed_form(solver, is_linear, is_shared):
    times, values, initial = uneven(), signal(), torch.ones(3, 1).double()
    times = times[0] if is_shared else times
    path, integral = odeint(
        field,
        initial,
        times,
        solver,
        integrand=lambda t, state, inputs: (0 * state + inputs[..., :1])[..., 0],
        forcing=Forcing(values, is_linear),
    )
    torch.testing.assert_close(path, exact(initial, times.expand(3, -1), values, is_linear), rtol=0, atol=5e-6)
    gaps, first = times.diff(dim=-1), values[..., 0]
    mean = (first[:, 1:] + first[:, :-1]) / 2 if is_linear else first[:, :-1]
    area = torch.cat([torch.zeros(3, 1).double(), (gaps * mean).cumsum(1)], 1)
    torch.testing.assert_close(integral, area, rtol=0, atol=1e-9)


@pytest.mark.parametrize("is_linear", [False, True], ids=["held", "linear"])
@pytest.mark.parametrize("solver", [RK4(), Midpoint(), Euler()], ids=lambda solver: type(solver).__name__)
def test_jumps_at_the_times_do_not_cost_the_order(solver, is_linear):
    times, values, initial = uneven(), signal(), torch.ones(3, 1).double()
    errors = []
    for size in (0.04, 0.02):
        fine = type(solver)(step_size=size)
        path = odeint(field, initial, times, fine, forcing=Forcing(values, is_linear)).path
        errors.append(float((path - exact(initial, times, values, is_linear)).abs().max()))
    order = {"Euler": 1, "Midpoint": 2, "RK4": 4}[type(solver).__name__]
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.4


@pytest.mark.parametrize("solver", [RK4(step_size=0.3), Dopri5()], ids=lambda solver: type(solver).__name__)
def test_the_path_before_a_time_does_not_depend_on_what_comes_after(solver):
    times, values, initial = uneven()[:1], signal()[:1], torch.ones(4, 1, 1).double()
    changed = values.clone()
    changed[:, 4:] += 3.0
    path, other = (odeint(field, initial, times, solver, forcing=Forcing(u)).path for u in (values, changed))
    assert torch.equal(path[..., :5, :], other[..., :5, :]) and not torch.equal(path[..., 5, :], other[..., 5, :])
    short = odeint(field, initial, times[:, :5], solver, forcing=Forcing(values[:, :5])).path
    assert torch.equal(short, path[..., :5, :])


def test_a_time_more_where_a_held_signal_stays_changes_nothing():
    times, values, initial = uneven()[:1], signal()[:1], torch.ones(1, 1).double()
    middle = (times[:, 2:3] + times[:, 3:4]) / 2
    more = torch.cat([times[:, :3], middle, times[:, 3:]], 1)
    told = torch.cat([values[:, :3], values[:, 2:3], values[:, 3:]], 1)
    path, finer = (
        odeint(field, initial, t, RK4(step_size=0.02), forcing=Forcing(u)).path
        for t, u in ((times, values), (more, told))
    )
    torch.testing.assert_close(finer[:, [0, 1, 2, 4, 5, 6, 7]], path, rtol=0, atol=1e-9)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(DataError, match=r"`values` must be a floating-point tensor \(series, time, input\)"):
        Forcing(torch.zeros(3, 4, 1, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"`forcing` must have one value for each of `times`, \(3, 7\). Got \(3, 6\)"):
        odeint(field, torch.ones(3, 1).double(), uneven(), RK4(), forcing=Forcing(signal(num_times=6)))
    with pytest.raises(UnsupportedError, match="a step would see inputs of later times"):
        odeint(field, torch.ones(3, 1).double(), uneven(), RK4(0.1, is_dense=True), forcing=Forcing(signal()))
