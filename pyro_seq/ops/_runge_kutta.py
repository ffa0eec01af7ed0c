"""Fixed-step Runge-Kutta solvers, batched over everything but time, with a step length per series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops._even_grid import EvenGrid
from pyro_seq.ops._march import Field, Jump, march
from pyro_seq.ops._sweep import is_swept, swept_march
from pyro_seq.ops._time_grid import TimeGrid, cut, entries_at
from pyro_seq.ops.forcing import Forcing


@dataclass(frozen=True)
class FixedStep:
    r"""Base class of the fixed-step solvers: stage :math:`i` depends only on the slope of stage :math:`i-1`.

    .. math::
        y_i = y + c_i h\, k_{i-1}, \qquad k_i = f(t + c_i h,\, y_i), \qquad y_+ = y + h \sum_i b_i k_i

    Args:
        step_size: The longest step, in the unit of the times; each interval between two times is cut into
            ``ceil(interval / step_size)`` equal steps. None takes one step per interval.
        is_dense: Take steps of exactly `step_size` from each series' first time on, independent of its times, and
            interpolate the states by cubic Hermite polynomials. Cheaper if times are close together or many.
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
        path, stages = self._path(grid, vector_field, initial, jump, drive, has_stages=integrand is not None)
        if integrand is None:
            return path, None
        if not stages:
            return path, path.new_zeros(path.shape[:-1])
        return path, _quadrature(integrand, torch.stack(stages), grid, self, drive)

    def _path(
        self,
        grid: TimeGrid,
        vector_field: Field,
        initial: Tensor,
        jump: Jump | None,
        drive: Tensor | None,
        *,
        has_stages: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """States at the requested times and, optionally, those of all stages."""
        if jump is None and len(grid.lengths) and is_swept(vector_field, initial):
            frames, stages = swept_march(vector_field, initial, grid, self, keep_stages=has_stages, drive=drive)
        else:
            frames, stages = march(vector_field, initial, grid, self, keep_stages=has_stages, jump=jump, drive=drive)
        path = torch.stack(frames, -2)
        return path if grid.ends.ndim == 1 else entries_at(path, grid.ends.unique(return_inverse=True)[1]), stages


@rebuildable
@dataclass(frozen=True)
class Euler(FixedStep):
    """Euler's method: order 1, one evaluation per step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step per interval.
        is_dense: Take steps of exactly `step_size`, independent of the times, and interpolate between them.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0,)
    weights: ClassVar[tuple[float, ...]] = (1.0,)


@rebuildable
@dataclass(frozen=True)
class Midpoint(FixedStep):
    """The explicit midpoint rule: order 2, two evaluations per step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step per interval.
        is_dense: Take steps of exactly `step_size`, independent of the times, and interpolate between them.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0, 0.5)
    weights: ClassVar[tuple[float, ...]] = (0.0, 1.0)


@rebuildable
@dataclass(frozen=True)
class RK4(FixedStep):
    """The classical Runge-Kutta method: order 4, four evaluations per step.

    Args:
        step_size: The longest step, in the unit of the times; None takes one step per interval.
        is_dense: Take steps of exactly `step_size`, independent of the times, and interpolate between them.
    """

    nodes: ClassVar[tuple[float, ...]] = (0.0, 0.5, 0.5, 1.0)
    weights: ClassVar[tuple[float, ...]] = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


def check_values(values: Tensor, states: Tensor) -> None:
    """Refuse an integrand that does not return one number per state."""
    if values.shape != states.shape[:-1]:
        raise ShapeError(
            f"`integrand` must return one number a state, {tuple(states.shape[:-1])}. Got {tuple(values.shape)}. "
            "Fixed-step solvers put their stages in front of the states as one more axis: reduce only the last axis."
        )


def _quadrature(
    integrand: Field, stages: Tensor, grid: TimeGrid, solver: FixedStep, drive: Tensor | None = None
) -> Tensor:
    """The integral by the solver's nodes and weights, all stages evaluated in one call."""
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
