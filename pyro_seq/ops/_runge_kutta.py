"""Fixed-step Runge-Kutta solvers, batched over everything but time, with a step length per series."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops._even_grid import EvenGrid
from pyro_seq.ops._time_grid import Arrival, TimeGrid, cut, entries_at
from pyro_seq.ops.forcing import Forcing

Field = Callable[..., Tensor]
Jump = Callable[[int | Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FixedStep:
    r"""What the fixed-step solvers share: stage :math:`i` starts from the slope of stage :math:`i-1` alone.

    .. math::
        y_i = y + c_i h\, k_{i-1}, \qquad k_i = f(t + c_i h,\, y_i), \qquad y_+ = y + h \sum_i b_i k_i

    Args:
        step_size: The longest step, in the unit of the times; each interval between two times is cut into
            ``ceil(interval / step_size)`` equal steps. None takes one step an interval.
        is_dense: Take steps of just `step_size` from each series' first time on, wherever its times lie, and read the
            states at the times off cubics between the steps (Hermite). Cheaper where times crowd or are many.
    """

    nodes: ClassVar[tuple[float, ...]]
    weights: ClassVar[tuple[float, ...]]
    remedy: ClassVar[str] = "Use a smaller `step_size`, Dopri5(), or a field that grows at most linearly."

    step_size: float | None = None
    is_dense: bool = False

    def __post_init__(self) -> None:
        if self.step_size is not None and not 0 < self.step_size < float("inf"):
            raise DataError(
                f"`step_size` must be a positive number or None. Got {self.step_size} in {type(self).__name__}. "
                "Pass the longest step in the unit of `times`, or None for one step an interval."
            )
        if self.is_dense and self.step_size is None:
            raise DataError(
                f"{type(self).__name__}(is_dense=True) needs its `step_size`. Pass the length of all steps."
            )

    def solve(
        self,
        vector_field: Field,
        initial: Tensor,
        times: Tensor,
        integrand: Field | None,
        jump: Jump | None = None,
        forcing: Forcing | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Path and integral for checked arguments; see :func:`pyro_seq.ops.odeint.odeint`."""
        if not self.is_dense or self.step_size is None:
            grid = cut(times, self.step_size, self.nodes, initial)
            return self._along(grid, vector_field, initial, integrand, jump, forcing)
        if jump is not None or forcing is not None:
            what = "it cannot jump there" if forcing is None else "a step would see inputs of later times"
            raise UnsupportedError(f"{self} does not stop at `times`, so {what}. Leave `is_dense` out.")
        even = EvenGrid(times, self.step_size, self.nodes, initial)
        states, integral = self._along(even.steps, vector_field, initial, integrand)
        path = even.read(states, even.slopes(vector_field, states))
        if integrand is None or integral is None:
            return path, None
        rates = even.slopes(integrand, states)
        return path, even.read(integral[..., None], rates[..., None])[..., 0]

    def _along(
        self,
        grid: TimeGrid,
        vector_field: Field,
        initial: Tensor,
        integrand: Field | None,
        jump: Jump | None = None,
        forcing: Forcing | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Path and integral at the ends of a grid."""
        drive = None
        if forcing is not None:
            assert grid.interval is not None and grid.share is not None
            drive = forcing.within(grid.interval, grid.share)
        path, stages = _march(
            vector_field, initial, grid, self, keep_stages=integrand is not None, jump=jump, drive=drive
        )
        if integrand is None:
            return path, None
        if not stages:
            return path, path.new_zeros(path.shape[:-1])
        return path, _quadrature(integrand, torch.stack(stages), grid, self, drive)


@rebuildable
@dataclass(frozen=True)
class Euler(FixedStep):
    """Euler's method: order 1, one evaluation a step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step an interval.
        is_dense: Take steps of just `step_size`, wherever the times lie, and interpolate between them.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0,)
    weights: ClassVar[tuple[float, ...]] = (1.0,)


@rebuildable
@dataclass(frozen=True)
class Midpoint(FixedStep):
    """The explicit midpoint rule: order 2, two evaluations a step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step an interval.
        is_dense: Take steps of just `step_size`, wherever the times lie, and interpolate between them.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0, 0.5)
    weights: ClassVar[tuple[float, ...]] = (0.0, 1.0)


@rebuildable
@dataclass(frozen=True)
class RK4(FixedStep):
    """The classical Runge-Kutta method: order 4, four evaluations a step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step an interval.
        is_dense: Take steps of just `step_size`, wherever the times lie, and interpolate between them.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0, 0.5, 0.5, 1.0)
    weights: ClassVar[tuple[float, ...]] = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


def check_slope(slope: Tensor, state: Tensor) -> None:
    """Refuse a field whose output is not shaped like the state: broadcasting would hide it."""
    if slope.shape != state.shape:
        raise ShapeError(
            f"`vector_field` must return the shape of the state, {tuple(state.shape)}. Got {tuple(slope.shape)}. "
            "If the field carries extra sample axes, expand `initial` to them first."
        )


def check_values(values: Tensor, states: Tensor) -> None:
    """Refuse an integrand that returns anything but one number a state."""
    if values.shape != states.shape[:-1]:
        raise ShapeError(
            f"`integrand` must return one number a state, {tuple(states.shape[:-1])}. Got {tuple(values.shape)}. "
            "Fixed-step solvers put their stages in front of the states as one more axis: reduce only the last axis."
        )


def _advance(state: Tensor, length: float | Tensor, slope: Tensor) -> Tensor:
    if isinstance(length, float):
        return torch.add(state, slope, alpha=length)
    return torch.addcmul(state, length, slope)


def _march(
    vector_field: Field,
    initial: Tensor,
    grid: TimeGrid,
    solver: FixedStep,
    *,
    keep_stages: bool,
    jump: Jump | None = None,
    drive: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Step through the grid. Returns the path and, if wanted, the states at which the field was evaluated."""
    clock, arrivals = iter(grid.clock.unbind(0)), grid.arrivals(initial.device)
    driven = itertools.repeat(()) if drive is None else ((value,) for value in drive.unbind(0))
    offsets = [grid.multiples(node, initial) for node in solver.nodes]
    first = next(i for i, weight in enumerate(solver.weights) if weight)
    scale = grid.multiples(solver.weights[first], initial)
    ratios = [weight / solver.weights[first] for weight in solver.weights]
    state = _after(jump, arrivals[0], initial)
    frames, stages = [state], []
    for step in range(len(grid.lengths)):
        point = slope = total = state
        for stage, ratio in enumerate(ratios):
            if stage:
                point = _advance(state, offsets[stage][step], slope)
            slope = vector_field(next(clock), point, *next(driven))
            check_slope(slope, point)
            if keep_stages:
                stages.append(point)
            if stage == first:
                total = slope
            elif ratio:
                total = torch.add(total, slope, alpha=ratio)
        state = _advance(state, scale[step], total)
        if step + 1 in arrivals:
            state = _after(jump, arrivals[step + 1], state)
            frames.append(state)
    path = torch.stack(frames, -2)
    return path if grid.ends.ndim == 1 else entries_at(path, grid.ends.unique(return_inverse=True)[1]), stages


def _after(jump: Jump | None, arrival: Arrival, state: Tensor) -> Tensor:
    """The state after what happens at a wanted time to the series that have reached one."""
    if jump is None:
        return state
    moved = jump(arrival.time, state)
    return moved if arrival.is_there is None else torch.where(arrival.is_there, moved, state)


def _quadrature(
    integrand: Field, stages: Tensor, grid: TimeGrid, solver: FixedStep, drive: Tensor | None = None
) -> Tensor:
    """The integral by the solver's own nodes and weights, all stages evaluated in one call."""
    driven: tuple[Tensor, ...] = ()
    if drive is not None:
        driven = (drive.reshape(len(drive), *[1] * (stages.ndim - drive.ndim), *drive.shape[1:]),)
    values = integrand(grid.stacked_clock(stages[0]), stages, *driven)
    check_values(values, stages)
    by_stage = values.unflatten(0, (-1, len(solver.nodes))).unbind(1)
    slopes = sum(weight * value for weight, value in zip(solver.weights, by_stage, strict=True) if weight)
    running = (grid.stacked_lengths(stages[0])[..., 0] * slopes).cumsum(0)
    running = torch.cat([torch.zeros_like(running[:1]), running]).movedim(0, -1)
    return entries_at(running[..., None], grid.ends)[..., 0]
