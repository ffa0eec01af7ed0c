"""Solve ordinary differential equations for many series at once: one function, four solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq._nonfinite import nonfinite_is_passed
from pyro_seq.errors import DataError, NumericalError, ShapeError, shape_text
from pyro_seq.ops._dopri5 import Dopri5
from pyro_seq.ops._runge_kutta import RK4, Euler, FixedStep, Midpoint
from pyro_seq.ops.forcing import Forcing

__all__ = ["RK4", "Dopri5", "Euler", "Midpoint", "Solution", "Solver", "odeint"]

Solver = FixedStep | Dopri5


class Solution(NamedTuple):
    """Result of :func:`odeint`.

    Attributes:
        path: The state at each time, ``(*batch, series, time, dim)``.
        integral: The running integral of the integrand, ``(*batch, series, time)``, 0 at the first time; None without
            an integrand.
    """

    path: Tensor
    integral: Tensor | None


def odeint(
    vector_field: Callable[..., Tensor],
    initial: Tensor,
    times: Tensor,
    solver: Solver,
    *,
    integrand: Callable[..., Tensor] | None = None,
    jump: Callable[[int | Tensor, Tensor], Tensor] | None = None,
    forcing: Forcing | None = None,
) -> Solution:
    r"""Solve :math:`\dot y = f(t, y)` from the first time on; series may have different times.

    .. math::
        y(t_k) = y_0 + \int_{t_0}^{t_k} f(t, y(t))\,dt, \qquad I(t_k) = \int_{t_0}^{t_k} g(t, y(t))\,dt

    Fixed-step solvers step every series by its own lengths: a series gets the same results as alone, and a longer time
    grid leaves the earlier path bit-equal. :math:`I` uses the solver's stages and weights, as if it were one more
    component of the state, but is evaluated after the solve in one call on all stages.

    The field and the integrand get states ``(..., series, dim)`` with any leading axes, and times that broadcast
    against them: a scalar or ``(series, 1)``, and on stacks of stages ``(stage, 1, ..., 1)`` or ``(stage, 1, ...,
    series, 1)``. Tensors with sample axes right before ``series`` therefore broadcast throughout.

    Cost: one Python iteration per step; the series that needs most steps determines their number. Gradients are by
    backpropagation through the steps, so memory grows with their number. ``times`` get no gradient.

    Args:
        vector_field: ``f(t, state)``, shaped like the state.
        initial: The state at the first time, ``(*batch, series, dim)``, or ``(dim,)`` with shared times.
        times: Strictly increasing, ``(time,)`` shared or ``(series, time)``; in double precision for any type of the
            state, because steps are differences of times.
        solver: ``Euler()``, ``Midpoint()``, ``RK4()`` or ``Dopri5()``.
        integrand: ``g(t, state)``, one number per state, ``(..., series)``.
        jump: ``(k, state) -> state``, applied to the state when the k-th of ``times`` is reached, including the first,
            as in a network that reads data along the path. The path has the states after the jump. If series reach
            their times after different numbers of steps, k is a tensor (series,), and states of series between two
            times are unchanged.
        forcing: A known signal u(t). Field and integrand are then called as ``f(t, state, u)``, with u at that stage,
            (series, input) or (input,), and on stacks of stages (stage, 1, ..., 1, series, input).

    Returns:
        The path ``(*batch, series, time, dim)`` and the integral ``(*batch, series, time)`` or None.

    Raises:
        ShapeError: If shapes do not fit.
        DataError: If times do not increase or an argument has the wrong type.
        UnsupportedError: If there are jumps or a forcing with a solver that does not stop at every time.
        NumericalError: If a state is not finite or the adaptive solver gives up. Inside chains, fixed-step solvers
            return such states instead, so that they affect only the energy of their own chain.

    Example:
        >>> times = torch.linspace(0, 1, 6, dtype=torch.float64)
        >>> path, _ = odeint(lambda t, y: -y, torch.ones(3, 1, dtype=torch.float64), times, RK4())
        >>> path.shape, bool((path[0, :, 0] - (-times).exp()).abs().max() < 1e-5)
        (torch.Size([3, 6, 1]), True)
    """
    _check(initial, times, solver)
    if forcing is not None:
        forcing.require_covering(times)
    path, integral = solver.solve(vector_field, initial, times, integrand, jump, forcing)
    if not nonfinite_is_passed():
        _check_finite(path, integral, times, solver)
    return Solution(path, integral)


def _check(initial: Tensor, times: Tensor, solver: Solver) -> None:
    if not isinstance(solver, FixedStep | Dopri5):
        raise DataError(
            f"`solver` must be an object such as RK4(step_size=0.05) or Dopri5(). Got {solver!r}. "
            "Solvers are imported from pyro_seq.ops.odeint and called for their options."
        )
    for name, value in (("initial", initial), ("times", times)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise DataError(
                f"`{name}` must be a floating-point tensor. Got {kind}. Convert it with `.to(torch.float32)`."
            )
    if times.ndim not in (1, 2) or not times.shape[-1]:
        raise ShapeError(
            "`times` must be (time,) shared by all series or (series, time), with at least one time. "
            f"Got the shape {tuple(times.shape)}."
        )
    if not initial.ndim or (times.ndim == 2 and (initial.ndim < 2 or len(times) != initial.shape[-2])):
        names = [*["batch"] * (initial.ndim - 2), "series", "dim"][-initial.ndim :] if initial.ndim else []
        raise ShapeError(
            "`initial` must be (*batch, series, dim) with one row a series of `times`. "
            f"Got {shape_text(initial, names)} and times {shape_text(times, ('series', 'time')[-times.ndim :])}. "
            "Pass times (time,) if all series share them."
        )
    times = on_host(times)
    rising = times.diff(dim=-1) > 0
    if not (rising.all() and times.isfinite().all()):
        wrong = torch.cat([~times[..., :1].isfinite(), ~(rising & times[..., 1:].isfinite())], -1)
        place = wrong.nonzero()[0].tolist()
        raise DataError(
            f"`times` must be finite and strictly increasing. Got times[{', '.join(map(str, place))}] = "
            f"{float(times[tuple(place)]):.6g}"
            + (f" after {float(times[tuple(place)[:-1]][place[-1] - 1]):.6g}" if place[-1] else "")
            + ". Sort them, drop repeats, pass them in double precision where they lie close together and far from 0, "
            "and pad ragged series with later times."
        )


def _check_finite(path: Tensor, integral: Tensor | None, times: Tensor, solver: Solver) -> None:
    good = path.detach().isfinite().all(-1)
    if integral is not None:
        good &= integral.detach().isfinite()
    if good.all():
        return
    bad = ~good
    bad = bad.flatten(0, -3).any(0) if bad.ndim > 2 else bad  # (series, time) or (time,)
    frame = int(bad.reshape(-1, bad.shape[-1]).any(0).nonzero()[0])
    where = f"time {float(times[..., frame].flatten()[0]):.6g}"
    if bad.ndim == 2:
        series = int(bad[:, frame].nonzero()[0])
        where = f"series {series}, time {float(times.expand(len(bad), -1)[series, frame]):.6g}"
    if not frame:
        raise NumericalError(f"`initial` must be finite. It is not in {where}: look upstream of `odeint`.")
    raise NumericalError(
        f"The solution left the finite numbers. First in {where} (frame {frame}), by {solver}. {solver.remedy}"
    )
