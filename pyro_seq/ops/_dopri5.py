r"""Adaptive Dormand-Prince 5(4): torchdiffeq chooses and takes the steps, with our checks and interpolation.

The checks replace its asserts, which are removed under ``python -O``. Its interpolation writes every time stamp into
one tensor, so that the backward pass is quadratic in their number. Here the slopes of each accepted step are stored,
and the states at all time stamps, which may differ between series, are computed at once from the polynomial of the step
that contains them,

.. math::
    y(t_i + x h) \approx e + d x + c x^2 + b x^3 + a x^4, \qquad 0 \le x \le 1,

of order 4, which matches the values at start, middle and end of the step and the slopes at both ends (Shampine 1986).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.ops._march import check_slope
from pyro_seq.ops._runge_kutta import check_values
from pyro_seq.ops.forcing import Forcing

Field = Callable[..., Tensor]

# weights of the seven slopes of a step: for the state at its end, and for the state in its middle (Shampine 1986)
_END = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0)
_MIDDLE = (
    6025192743 / 30085553152 / 2,
    0.0,
    51252292925 / 65400821598 / 2,
    -2691868925 / 45128329728 / 2,
    187940372067 / 1594534317056 / 2,
    -1776094331 / 19743644256 / 2,
    11237099 / 235043384 / 2,
)


@rebuildable
@dataclass(frozen=True)
class Dopri5:
    """Adaptive order 5, for smooth fields and few frames far apart.

    The error norm runs over the whole batch: the steps, and so the rounding, of a series depend on the other series.
    If series or chains must be independent, use a fixed-step solver. Series with different times are rescaled, from 0
    at their first time to 1 at their last, and share their steps. Cost: that of the steps, whose number depends on the
    tolerances, plus one interpolation per time stamp. With a forcing each interval between two times is solved
    separately, for all series together, because the signal may jump or bend at the times.

    Args:
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        max_num_steps: Maximum number of steps, accepted or not.
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
            first, span = torch.zeros_like(first), torch.ones_like(span)
        else:
            first, span = first[:, None], span[:, None]
            clock = (clock - first) / span
        guard = _Guard(vector_field, integrand, self, first.to(initial), span.to(initial))
        ends = clock.reshape(-1, clock.shape[-1])[0, [0, -1]]
        self._run(guard, start, ends)
        frames = _read(guard.steps, clock)
        return (frames, None) if integrand is None else (frames[..., :-1], frames[..., -1])

    def _run(self, guard: _Guard, start: Tensor, clock: Tensor) -> Tensor:
        """States (time, ..., dim) at the times of the solver's clock."""
        import torchdiffeq  # slow to import, and needed only here

        try:
            return torchdiffeq.odeint(guard, start, clock, rtol=self.rtol, atol=self.atol, method="dopri5")
        except AssertionError as error:
            raise guard.failure(str(error)) from error

    def _by_interval(
        self, vector_field: Field, integrand: Field | None, start: Tensor, clock: Tensor, forcing: Forcing
    ) -> Tensor:
        """States (..., time, dim), interval by interval for all series, each rescaled to run from 0 to 1."""
        unit = torch.tensor([0.0, 1.0], dtype=clock.dtype, device=clock.device)
        frames, num_steps = [start], 0
        for interval in range(clock.shape[-1] - 1):
            first, span = clock[..., interval], clock[..., interval + 1] - clock[..., interval]
            if clock.ndim == 2:
                first, span = first[:, None], span[:, None]
            guard = _Guard(vector_field, integrand, self, first.to(start), span.to(start))
            guard.drive, guard.num_steps = _Drive(forcing, interval), num_steps
            frames.append(self._run(guard, frames[-1], unit)[-1])
            num_steps = guard.num_steps
        return torch.stack(frames, -2)


class _Drive:
    """A forcing within one interval, as a function of the elapsed share of the interval."""

    def __init__(self, forcing: Forcing, interval: int) -> None:
        self.forcing, self.interval = forcing, torch.tensor([interval], device=forcing.values.device)

    def __call__(self, share: Tensor) -> tuple[Tensor]:
        """The signal, (series, input) or (input,), as the further arguments of a field after time and state."""
        return (self.forcing.within(self.interval, share.reshape(1))[0],)


class _Step(NamedTuple):
    """An accepted step: where it starts, its length in solver time, and its seven slopes."""

    time: Tensor
    length: Tensor
    state: Tensor
    slopes: list[Tensor]

    def coefficients(self) -> Tensor:
        """Coefficients of the polynomial, from the constant on, along a first axis."""
        slopes = self.length.to(self.state) * torch.stack(self.slopes)
        end, middle = (
            self.state + torch.tensordot(slopes.new_tensor(weights), slopes, 1) for weights in (_END, _MIDDLE)
        )
        first, last = slopes[0], slopes[-1]
        return torch.stack(
            [
                self.state,
                first,
                last - 4 * first - 11 * self.state - 5 * end + 16 * middle,
                5 * first - 3 * last + 18 * self.state + 14 * end - 32 * middle,
                2 * (last - first) - 8 * (end + self.state) + 16 * middle,
            ]
        )


def _read(steps: list[_Step], clock: Tensor) -> Tensor:
    r"""The state at `clock`, (time,) or (series, time): (\*batch, time, state)."""
    starts, lengths = (torch.stack(parts) for parts in zip(*((step.time, step.length) for step in steps), strict=True))
    step_of = torch.bucketize(clock, (starts + lengths)[:-1])
    share = (clock - starts[step_of]) / lengths[step_of]
    # (power, *batch, step, state)
    coefficients = torch.stack([step.coefficients() for step in steps], -2)
    share = share[..., None].to(coefficients)
    chosen = step_of[..., None].expand(*coefficients.shape[1:-2], -1, coefficients.shape[-1])
    frames = coefficients.new_zeros(())
    for power in reversed(coefficients.unbind(0)):
        frames = frames * share + power.gather(-2, chosen)
    return frames


class _Guard:
    """The right-hand side in solver time, with checks that torchdiffeq does by asserts or omits."""

    def __init__(
        self, vector_field: Field, integrand: Field | None, solver: Dopri5, first: Tensor, span: Tensor
    ) -> None:
        self.vector_field, self.integrand, self.solver = vector_field, integrand, solver
        self.first, self.span = first, span
        self.num_steps = 0
        self.drive: Callable[[Tensor], tuple] = lambda _: ()
        self.time = first
        self.slope: Tensor | None = None
        self.slopes: list[Tensor] = []
        self.steps: list[_Step] = []

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
        slope = slope * self.span
        self.slopes.append(slope)
        return slope

    def callback_step(self, time: Tensor, state: Tensor, length: Tensor) -> None:
        self.num_steps += 1
        if self.num_steps > self.solver.max_num_steps:
            raise self.failure(f"no end after `max_num_steps` = {self.solver.max_num_steps} steps")
        if not time + length > time:
            raise self.failure("the step length fell below the resolution of the time")

    def callback_accept_step(self, time: Tensor, state: Tensor, length: Tensor) -> None:
        first = self.steps[-1].slopes[-1] if self.steps else self.slopes[0]
        self.steps.append(_Step(time, length, state, [first, *self.slopes[-6:]]))
        self.slopes.clear()

    def failure(self, reason: str) -> NumericalError:
        """The error, naming the series whose derivative is largest or not finite."""
        where = ""
        if self.slope is not None and self.slope.numel():
            size = self.slope.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).amax(-1)
            size = size.flatten(0, -2).amax(0) if size.ndim > 1 else size
            worst = int(size.argmax())
            time = self.time.flatten()[worst if self.time.numel() > 1 else 0]
            where = f" at time {float(time):.6g}" + (f", worst in series {worst}" if size.ndim else "")
        return NumericalError(f"{self.solver} could not solve the ODE: {reason}{where}. {self.solver.remedy}")
