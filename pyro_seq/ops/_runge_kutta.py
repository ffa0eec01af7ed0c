"""Fixed-step Runge-Kutta solvers, batched over everything but time, with a step length per series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops._time_grid import TimeGrid, cut

Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FixedStep:
    r"""What the fixed-step solvers share: stage :math:`i` starts from the slope of stage :math:`i-1` alone.

    .. math::
        y_i = y + c_i h\, k_{i-1}, \qquad k_i = f(t + c_i h,\, y_i), \qquad y_+ = y + h \sum_i b_i k_i

    Args:
        step_size: The longest step, in the unit of the times; each interval between two times is cut into
            ``ceil(interval / step_size)`` equal steps. None takes one step an interval.
    """

    nodes: ClassVar[tuple[float, ...]]
    weights: ClassVar[tuple[float, ...]]
    remedy: ClassVar[str] = "Use a smaller `step_size`, Dopri5(), or a field that grows at most linearly."

    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.step_size is not None and not 0 < self.step_size < float("inf"):
            raise DataError(
                f"`step_size` must be a positive number or None. Got {self.step_size} in {type(self).__name__}. "
                "Pass the longest step in the unit of `times`, or None for one step an interval."
            )

    def solve(
        self, vector_field: Field, initial: Tensor, times: Tensor, integrand: Field | None
    ) -> tuple[Tensor, Tensor | None]:
        """Path and integral for checked arguments; see :func:`pyro_seq.ops.odeint.odeint`."""
        grid = cut(times, self.step_size, self.nodes, initial)
        path, stages = _march(vector_field, initial, grid, self, keep_stages=integrand is not None)
        if integrand is None:
            return path, None
        if not stages:
            return path, path.new_zeros(path.shape[:-1])
        return path, _quadrature(integrand, torch.stack(stages), grid, self)


@dataclass(frozen=True)
class Euler(FixedStep):
    """Euler's method: order 1, one evaluation a step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step an interval.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0,)
    weights: ClassVar[tuple[float, ...]] = (1.0,)


@dataclass(frozen=True)
class Midpoint(FixedStep):
    """The explicit midpoint rule: order 2, two evaluations a step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step an interval.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0, 0.5)
    weights: ClassVar[tuple[float, ...]] = (0.0, 1.0)


@dataclass(frozen=True)
class RK4(FixedStep):
    """The classical Runge-Kutta method: order 4, four evaluations a step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step an interval.
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
    vector_field: Field, initial: Tensor, grid: TimeGrid, solver: FixedStep, *, keep_stages: bool
) -> tuple[Tensor, list[Tensor]]:
    """Step through the grid. Returns the path and, if wanted, the states at which the field was evaluated."""
    clock, frame_ends = iter(grid.clock.unbind(0)), set(grid.ends[1:])
    offsets = [grid.multiples(node, initial) for node in solver.nodes]
    first = next(i for i, weight in enumerate(solver.weights) if weight)
    scale = grid.multiples(solver.weights[first], initial)
    ratios = [weight / solver.weights[first] for weight in solver.weights]
    state, frames, stages = initial, [initial], []
    for step in range(len(grid.lengths)):
        point = slope = total = state
        for stage, ratio in enumerate(ratios):
            if stage:
                point = _advance(state, offsets[stage][step], slope)
            slope = vector_field(next(clock), point)
            check_slope(slope, point)
            if keep_stages:
                stages.append(point)
            if stage == first:
                total = slope
            elif ratio:
                total = torch.add(total, slope, alpha=ratio)
        state = _advance(state, scale[step], total)
        if step + 1 in frame_ends:
            frames.append(state)
    return torch.stack(frames, -2), stages


def _quadrature(integrand: Field, stages: Tensor, grid: TimeGrid, solver: FixedStep) -> Tensor:
    """The integral by the solver's own nodes and weights, all stages evaluated in one call."""
    values = integrand(grid.stacked_clock(stages[0]), stages)
    check_values(values, stages)
    by_stage = values.unflatten(0, (-1, len(solver.nodes))).unbind(1)
    slopes = sum(weight * value for weight, value in zip(solver.weights, by_stage, strict=True) if weight)
    running = (grid.stacked_lengths(stages[0])[..., 0] * slopes).cumsum(0)
    return torch.cat([torch.zeros_like(running[:1]), running])[grid.ends].movedim(0, -1)
