r"""Gradients of a fixed-step path by one sweep back through its stages, for fields with a transposed Jacobian.

A step is :math:`y_i = y + c_i h\, k_{i-1},\ k_i = f(y_i),\ y_+ = y + h \sum_i b_i k_i`. With the cotangents
:math:`\lambda_+` of :math:`y_+` and :math:`g_i` of :math:`y_i` from outside, for i from the last stage down,

.. math::
    u_i = h\, (b_i \lambda_+ + c_{i+1} r_{i+1}), \qquad
    r_i = g_i + \Big(\frac{\partial f}{\partial y}(y_i)\Big)^{\!\top} u_i, \qquad
    \lambda = \lambda_+ + \sum_i r_i,

and the gradient of the field's tensors is that of :math:`\sum_i u_i^\top f(y_i)` over all stages of all steps. These
are the derivatives of the solver's arithmetic, the same as by backpropagation, but in fewer and larger operations:
gradients of tensors are not accumulated stage by stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, cast, runtime_checkable

import torch
from torch import Tensor

from pyro_seq.ops._march import Field, advance, march
from pyro_seq.ops._time_grid import TimeGrid

if TYPE_CHECKING:
    from pyro_seq.ops._runge_kutta import FixedStep

Records = tuple[Tensor, ...]


class Sweep(Protocol):
    """The transposed Jacobians of a field at all stages."""

    def pull(self, stage: int, cotangent: Tensor) -> Tensor:
        """The transposed Jacobian of one stage times `cotangent`, as a new tensor; called once each, last to first."""
        ...

    def gradients(self) -> tuple[Tensor, ...]:
        """Gradients of the sum over all stages of cotangent times field, with respect to the field's `tensors`."""
        ...


@runtime_checkable
class SweptFunction(Protocol):
    """A function of the state with a hand-written derivative; a field of the state alone may also be one."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Tensors that it depends on, other than the state and the forcing."""
        ...

    def has_sweep(self, state: Tensor) -> bool:
        """Whether `record` and `sweep` accept states with these axes."""
        ...

    def record(self, state: Tensor, *driven: Tensor) -> tuple[Tensor, Records]:
        """The value, bit-equal to that of a call, and the records that a sweep needs."""
        ...

    def sweep(self, tensors: tuple[Tensor, ...], records: Records) -> Sweep:
        """The transposed Jacobians, from the `tensors` and from records stacked over all stages."""
        ...


def is_swept(field: Field | SweptFunction, initial: Tensor) -> TypeGuard[SweptFunction]:
    """Whether a sweep gives the gradients of a path: ordinary gradients are needed, and the field has a sweep."""
    return (
        isinstance(field, SweptFunction)
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in (initial, *field.tensors))
        and not torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled(initial.device.type)
        and field.has_sweep(initial)
    )


def swept_march(
    field: SweptFunction, initial: Tensor, grid: TimeGrid, solver: FixedStep, *, keep_stages: bool, drive: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """The results of `march`."""

    def plain(initial: Tensor) -> tuple[Tensor, Tensor]:
        return _stacked(march(cast(Field, field), initial, grid, solver, keep_stages=keep_stages, drive=drive), initial)

    def recorded(initial: Tensor) -> tuple[Tensor, Tensor, Records]:
        kept: list[Records] = []

        def recorder(_: Tensor, state: Tensor, *driven: Tensor) -> Tensor:
            slope, record = field.record(state, *driven)
            kept.append(record)
            return slope

        marched = march(recorder, initial, grid, solver, keep_stages=keep_stages, drive=drive)
        return *_stacked(marched, initial), tuple(torch.stack(parts) for parts in zip(*kept, strict=True))

    back = _Back(field, grid, solver, initial)
    frames, stages = _Path.apply(plain, recorded, back, initial, *field.tensors)
    return list(frames.unbind(0)), list(stages.unbind(0))


def _stacked(marched: tuple[list[Tensor], list[Tensor]], initial: Tensor) -> tuple[Tensor, Tensor]:
    frames, stages = marched
    return torch.stack(frames), torch.stack(stages) if stages else initial.new_zeros(0)


class _Path(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plain: Callable, recorded: Callable, back: _Back, initial: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """March, and store the records that the sweep needs."""
        frames, stages, records = recorded(initial)
        ctx.plain, ctx.back, ctx.num_tensors = plain, back, len(tensors)
        ctx.save_for_backward(initial, *tensors, *records)
        ctx.set_materialize_grads(False)
        return frames, stages

    @staticmethod
    def backward(ctx: Any, by_frame: Tensor | None, by_stage: Tensor | None) -> tuple[Tensor | None, ...]:
        """Sweep; for second derivatives, backpropagate instead."""
        if by_frame is None and by_stage is None:
            return (None,) * len(ctx.needs_input_grad)
        initial, *rest = ctx.saved_tensors
        tensors, records = tuple(rest[: ctx.num_tensors]), tuple(rest[ctx.num_tensors :])
        if torch.is_grad_enabled():
            found = _twice(ctx.plain, (initial, *tensors), by_frame, by_stage, ctx.needs_input_grad[3:])
        else:
            found = ctx.back(tensors, records, by_frame, by_stage)
        return None, None, None, *found


def _twice(
    plain: Callable, sources: tuple[Tensor, ...], by_frame: Tensor | None, by_stage: Tensor | None, wanted: tuple
) -> tuple[Tensor | None, ...]:
    given = [(out, by) for out, by in zip(plain(sources[0]), (by_frame, by_stage), strict=True) if by is not None]
    asked = [source for source, is_wanted in zip(sources, wanted, strict=True) if is_wanted]
    outs, cotangents = zip(*given, strict=True)
    found = iter(torch.autograd.grad(outs, asked, cotangents, create_graph=True, allow_unused=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)


class _Back:
    """The sweep over the steps of a grid."""

    def __init__(self, field: SweptFunction, grid: TimeGrid, solver: FixedStep, like: Tensor) -> None:
        self.field, self.solver = field, solver
        self.num_steps, self.arrivals = len(grid.lengths), list(grid.arrivals(like.device))
        self.nodes = [grid.multiples(node, like) for node in solver.nodes]
        self.weights = [grid.multiples(weight, like) for weight in solver.weights]

    def __call__(
        self, tensors: tuple[Tensor, ...], records: Records, by_frame: Tensor | None, by_stage: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Gradients with respect to the initial state and the tensors."""
        sweep, num_stages = self.field.sweep(tensors, records), len(self.nodes)
        by_step = dict(zip(self.arrivals, by_frame.unbind(0), strict=True)) if by_frame is not None else {}
        costate = _zeros(by_frame, by_stage)
        for step in reversed(range(self.num_steps)):
            if step + 1 in by_step:
                costate = costate + by_step[step + 1]
            later, below = None, costate
            for stage in reversed(range(num_stages)):
                force = costate * self.weights[stage][step]
                if later is not None:
                    force = advance(force, self.nodes[stage + 1][step], later)
                number = step * num_stages + stage
                later = sweep.pull(number, force)
                if by_stage is not None:
                    later = later + by_stage[number]
                below = below + later if below is costate else below.add_(later)
            costate = below
        return (costate + by_step[0] if 0 in by_step else costate, *sweep.gradients())


def _zeros(by_frame: Tensor | None, by_stage: Tensor | None) -> Tensor:
    like = by_frame if by_frame is not None else by_stage
    assert like is not None
    return torch.zeros_like(like[0])
