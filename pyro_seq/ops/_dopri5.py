"""Adaptive Dormand-Prince 5(4), by torchdiffeq, with our own guards: its asserts vanish under ``python -O``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torchdiffeq
from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.ops._runge_kutta import check_slope, check_values
from pyro_seq.ops.forcing import Forcing

Field = Callable[..., Tensor]


@rebuildable
@dataclass(frozen=True)
class Dopri5:
    """Adaptive order 5, for smooth fields and few frames far apart.

    The error norm runs over the whole batch: the steps, and so the rounding, of a series depend on the other series.
    Where series or chains must be independent, take a fixed-step solver. Series with times of their own are brought
    to one scale, from 0 at their first time to 1 at their last, and solved on the union of all times: memory grows
    with the number of distinct times. Under a forcing each interval between two times is solved by itself, of all
    series side by side, for a signal may jump or bend there.

    Args:
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        max_num_steps: Steps, accepted or not, after which the solve gives up.
    """

    remedy: ClassVar[str] = (
        "Use a smoother or more slowly growing field, looser tolerances, or a fixed-step solver such as RK4()."
    )

    rtol: float = 1e-5
    atol: float = 1e-6
    max_num_steps: int = 10_000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "max_num_steps"):
            if not 0 < getattr(self, name) < float("inf"):
                raise DataError(f"`{name}` must be a positive number. Got {getattr(self, name)} in Dopri5.")

    def solve(
        self,
        vector_field: Field,
        initial: Tensor,
        times: Tensor,
        integrand: Field | None,
        jump: Callable[[int, Tensor], Tensor] | None = None,
        forcing: Forcing | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Path and integral for checked arguments; see :func:`pyro_seq.ops.odeint.odeint`."""
        if jump is not None:
            raise UnsupportedError(f"{self} has steps of its own and cannot jump at `times`. Use RK4().")
        if times.shape[-1] == 1 or not initial.numel():
            frames = initial.unsqueeze(-2).expand(*initial.shape[:-1], times.shape[-1], initial.shape[-1])
            return frames, None if integrand is None else frames.new_zeros(frames.shape[:-1])
        start = initial if integrand is None else torch.cat([initial, torch.zeros_like(initial[..., :1])], -1)
        clock = times.detach().to(initial.device, torch.float64)
        if forcing is not None:
            frames = self._by_interval(vector_field, integrand, start, clock, forcing)
            return (frames, None) if integrand is None else (frames[..., :-1], frames[..., -1])
        first, span = clock[..., 0], clock[..., -1] - clock[..., 0]
        if times.ndim == 1:
            first, span, places = torch.zeros_like(first), torch.ones_like(span), None
        else:
            clock, places = ((clock - first[:, None]) / span[:, None]).unique(return_inverse=True)
            first, span = first[:, None], span[:, None]
        guard = _Guard(vector_field, integrand, self, first.to(initial), span.to(initial))
        frames = self._solved(guard, start, clock).movedim(0, -2)
        if places is not None:
            places = places.reshape(*[1] * (frames.ndim - 3), *places.shape, 1)
            frames = torch.take_along_dim(frames, places, dim=-2)
        return (frames, None) if integrand is None else (frames[..., :-1], frames[..., -1])

    def _solved(self, guard: _Guard, start: Tensor, clock: Tensor) -> Tensor:
        """States (time, ..., dim) at the times of the solver's own clock."""
        try:
            return torchdiffeq.odeint(guard, start, clock, rtol=self.rtol, atol=self.atol, method="dopri5")
        except AssertionError as error:
            raise guard.failure(str(error)) from error

    def _by_interval(
        self, vector_field: Field, integrand: Field | None, start: Tensor, clock: Tensor, forcing: Forcing
    ) -> Tensor:
        """States (..., time, dim), one interval of all series after the other, each from 0 to 1 of its own length."""
        unit = torch.tensor([0.0, 1.0], dtype=clock.dtype, device=clock.device)
        frames, num_steps = [start], 0
        for interval in range(clock.shape[-1] - 1):
            first, span = clock[..., interval], clock[..., interval + 1] - clock[..., interval]
            if clock.ndim == 2:
                first, span = first[:, None], span[:, None]
            guard = _Guard(vector_field, integrand, self, first.to(start), span.to(start))
            guard.drive, guard.num_steps = _Drive(forcing, interval), num_steps
            frames.append(self._solved(guard, frames[-1], unit)[-1])
            num_steps = guard.num_steps
        return torch.stack(frames, -2)


class _Drive:
    """A forcing within one interval, by the share of it that has passed."""

    def __init__(self, forcing: Forcing, interval: int) -> None:
        self.forcing, self.interval = forcing, torch.tensor([interval], device=forcing.values.device)

    def __call__(self, share: Tensor) -> tuple[Tensor]:
        """The signal, (series, input) or (input,), as the arguments that a field takes beside time and state."""
        return (self.forcing.within(self.interval, share.reshape(1))[0],)


class _Guard:
    """The right-hand side in solver time, with the checks that torchdiffeq leaves to asserts or leaves out."""

    def __init__(
        self, vector_field: Field, integrand: Field | None, solver: Dopri5, first: Tensor, span: Tensor
    ) -> None:
        self.vector_field, self.integrand, self.solver = vector_field, integrand, solver
        self.first, self.span = first, span
        self.num_steps = 0
        self.drive: Callable[[Tensor], tuple] = lambda _: ()
        self.time = first
        self.slope: Tensor | None = None

    def __call__(self, time: Tensor, state: Tensor) -> Tensor:
        driven = self.drive(time)
        time = self.first + self.span * time
        plain = state if self.integrand is None else state[..., :-1]
        slope = self.vector_field(time, plain, *driven)
        check_slope(slope, plain)
        if self.integrand is not None:
            values = self.integrand(time, plain, *driven)
            check_values(values, plain)
            slope = torch.cat([slope, values[..., None]], -1)
        self.time, self.slope = time, slope.detach()
        if not slope.isfinite().all():
            raise self.failure("the derivative is not finite")
        return slope * self.span

    def callback_step(self, time: Tensor, state: Tensor, length: Tensor) -> None:
        self.num_steps += 1
        if self.num_steps > self.solver.max_num_steps:
            raise self.failure(f"no end after `max_num_steps` = {self.solver.max_num_steps} steps")
        if not time + length > time:
            raise self.failure("the step length fell below the resolution of the time")

    def failure(self, reason: str) -> NumericalError:
        """Blame the series whose derivative is largest or not finite."""
        where = ""
        if self.slope is not None and self.slope.numel():
            size = self.slope.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).amax(-1)
            size = size.flatten(0, -2).amax(0) if size.ndim > 1 else size
            worst = int(size.argmax())
            time = self.time.flatten()[worst if self.time.numel() > 1 else 0]
            where = f" at time {float(time):.6g}" + (f", worst in series {worst}" if size.ndim else "")
        return NumericalError(f"{self.solver} could not solve the ODE: {reason}{where}. {self.solver.remedy}")
