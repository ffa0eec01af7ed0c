"""Even steps of a solver, and the states between them by cubic interpolation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.ops._time_grid import STEP_TOLERANCE, TimeGrid, entries_at, require_few_steps


class EvenGrid:
    r"""Steps of equal length from each series' first time on, and the position of its times between them.

    Between two steps, at the share s of the way, with slopes m of the solution and the step length h,

    .. math::
        y(s) = (1 + 2 s)(1 - s)^2\, y_0 + s (1 - s)^2\, h m_0 + s^2 (3 - 2 s)\, y_1 - s^2 (1 - s)\, h m_1,

    whose error is of the order of the classical Runge-Kutta method, :math:`h^4`. After its last time, a series takes
    steps of length zero. A time at the end of a step belongs to that step, so that later times leave the states at
    earlier ones bit-equal.

    Args:
        times: Checked times, (time,) or (series, time).
        step_size: Length h of a step.
        nodes: Nodes of the solver.
        like: Tensor with the required floating type and device.

    Attributes:
        steps: The grid of the steps, all of whose ends are read.
    """

    def __init__(self, times: Tensor, step_size: float, nodes: tuple[float, ...], like: Tensor) -> None:
        times = on_host(times).double()
        first = times[..., :1]
        place = (times - first) / step_size
        index = ((place - STEP_TOLERANCE).ceil() - 1).clamp_min(0)
        require_few_steps(torch.atleast_2d(index.diff(dim=-1)), step_size)
        count = int(index.max()) + 1 if index.numel() and times.shape[-1] > 1 else 0
        taken = torch.arange(count, dtype=torch.float64)
        lengths = step_size * (taken <= index[..., -1:]).double()
        starts = first + step_size * taken
        clock = torch.stack([starts + node * lengths for node in nodes], -1).flatten(-2)
        knots = first + step_size * torch.arange(count + 1, dtype=torch.float64)
        if times.ndim == 2:
            clock, lengths, knots = clock.mT[..., None], lengths.mT[..., None], knots.mT[..., None]
        self.steps = TimeGrid(clock.to(like), lengths, torch.arange(count + 1))
        self._step_size = step_size
        self._knots = knots.to(like)
        self._index = index.long().to(like.device)
        self._share = (place - index)[..., None].to(like)

    def slopes(self, field: Callable[[Tensor, Tensor], Tensor], states: Tensor) -> Tensor:
        """A field at all ends of steps, in one call, from states (..., end, dim); values (..., end) plus its axes."""
        stacked = states.movedim(-2, 0)
        trailing = self._knots.shape[1:]
        clock = self._knots.reshape(len(self._knots), *[1] * (stacked.ndim - 1 - len(trailing)), *trailing)
        values = field(clock, stacked)
        return values.movedim(0, -2 if values.ndim == stacked.ndim else -1)

    def read(self, values: Tensor, slopes: Tensor) -> Tensor:
        """Values (..., time, dim) at the times, from values and slopes (..., end, dim) at the ends of the steps."""
        if values.shape[-2] == 1:
            return values.expand(*values.shape[:-2], self._index.shape[-1], values.shape[-1])
        near, share = entries_at(values, self._index), self._share
        far, rest = entries_at(values, self._index + 1), 1 - share
        leave = self._step_size * entries_at(slopes, self._index)
        arrive = self._step_size * entries_at(slopes, self._index + 1)
        start = rest.square() * ((1 + 2 * share) * near + share * leave)
        return start + share.square() * ((3 - 2 * share) * far - rest * arrive)
