"""The loop over stages of the fixed-step solvers, with a step length per series."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_seq.errors import ShapeError
from pyro_seq.ops._time_grid import Arrival, TimeGrid

if TYPE_CHECKING:
    from pyro_seq.ops._runge_kutta import FixedStep

Field = Callable[..., Tensor]
Jump = Callable[[int | Tensor, Tensor], Tensor]


def march(
    vector_field: Field,
    initial: Tensor,
    grid: TimeGrid,
    solver: FixedStep,
    *,
    keep_stages: bool,
    jump: Jump | None = None,
    drive: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """States at each requested time and, optionally, those at which the field was evaluated."""
    clock, arrivals = iter(grid.clock.unbind(0)), grid.arrivals(initial.device)
    driven: Iterable[tuple] = itertools.repeat(()) if drive is None else ((value,) for value in drive.unbind(0))
    driven = iter(driven)
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
                point = advance(state, offsets[stage][step], slope)
            slope = vector_field(next(clock), point, *next(driven))
            check_slope(slope, point)
            if keep_stages:
                stages.append(point)
            if stage == first:
                total = slope
            elif ratio:
                total = torch.add(total, slope, alpha=ratio)
        state = advance(state, scale[step], total)
        if step + 1 in arrivals:
            state = _after(jump, arrivals[step + 1], state)
            frames.append(state)
    return frames, stages


def advance(state: Tensor, length: float | Tensor, slope: Tensor) -> Tensor:
    """``state + length * slope``."""
    if isinstance(length, float):
        return torch.add(state, slope, alpha=length)
    return torch.addcmul(state, length, slope)


def check_slope(slope: Tensor, state: Tensor) -> None:
    """Refuse a field whose output is not shaped like the state, which broadcasting would hide."""
    if slope.shape != state.shape:
        raise ShapeError(
            f"`vector_field` must return the shape of the state, {tuple(state.shape)}. Got {tuple(slope.shape)}. "
            "If the field carries extra sample axes, expand `initial` to them first."
        )


def _after(jump: Jump | None, arrival: Arrival, state: Tensor) -> Tensor:
    """The state after jumps of the series that have reached a requested time."""
    if jump is None:
        return state
    moved = jump(arrival.time, state)
    return moved if arrival.is_there is None else torch.where(arrival.is_there, moved, state)
