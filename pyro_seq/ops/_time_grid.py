"""The steps of a fixed-step solver: their starts, lengths, and which of them end at a requested time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_seq._host import on_host
from pyro_seq.errors import DataError

# Times of float32 frames carry rounding: 0.3 - 0.2 may exceed a step of 0.1 by one part in a million.
STEP_TOLERANCE = 1e-3
MOST_STEPS = 10**6


class TimeGrid(NamedTuple):
    """Steps of all series side by side.

    Attributes:
        clock: Times of the stages, ``(step * stage,)``, or ``(step * stage, series, 1)`` when each series has its own.
        lengths: Step lengths, ``(step,)`` or ``(step, series, 1)``, in float64 on the CPU.
        ends: Number of steps taken when each requested time is reached, from 0 on: ``(time,)`` if all series reach
            their times together, else ``(series, time)``; on the CPU.
        interval: Index, from 0, of the interval between requested times that contains each stage, ``(step * stage,)``
            or ``(series, step * stage)``, on the CPU; None if steps do not stop at these times.
        share: Position of each stage within its interval, as a share, same shape; the end of a step belongs to it.
    """

    clock: Tensor
    lengths: Tensor
    ends: Tensor
    interval: Tensor | None = None
    share: Tensor | None = None

    def multiples(self, factor: float, like: Tensor) -> list[float] | tuple[Tensor, ...]:
        """``factor * length`` of each step: plain numbers, which are fastest, if the series share their times."""
        scaled = factor * self.lengths
        return scaled.tolist() if scaled.ndim == 1 else scaled.to(like).unbind(0)

    def stacked_clock(self, state: Tensor) -> Tensor:
        """The clock, shaped to broadcast against states stacked in front, ``(step * stage, *state.shape)``."""
        trailing = self.clock.shape[1:]
        return self.clock.reshape(len(self.clock), *[1] * (state.ndim - len(trailing)), *trailing)

    def stacked_lengths(self, state: Tensor) -> Tensor:
        """The lengths, shaped to broadcast against one state per step, ``(step, *state.shape)``."""
        trailing = self.lengths.shape[1:]
        return self.lengths.to(state).reshape(len(self.lengths), *[1] * (state.ndim - len(trailing)), *trailing)

    def arrivals(self, device: torch.device) -> dict[int, Arrival]:
        """By the number of steps taken: the requested time reached then, and the series that reach it."""
        if self.ends.ndim == 1:
            return {step: Arrival(time, None) for time, step in enumerate(self.ends.tolist())}
        steps = self.ends.unique()
        time = torch.searchsorted(self.ends, steps.expand(len(self.ends), -1).contiguous())
        time.clamp_(max=self.ends.shape[-1] - 1)
        is_there = (self.ends.gather(1, time) == steps).to(device)
        columns = zip(steps.tolist(), time.to(device).unbind(1), is_there[..., None].unbind(1), strict=True)
        return {step: Arrival(number, who) for step, number, who in columns}


class Arrival(NamedTuple):
    """The requested times reached after a step.

    Attributes:
        time: Index of the requested time, or one per series, ``(series,)``.
        is_there: Which series reach it, ``(series, 1)``; None if all do.
    """

    time: int | Tensor
    is_there: Tensor | None


def entries_at(values: Tensor, index: Tensor) -> Tensor:
    """Entries of the axis before the last of (..., end, dim), by an index (time,) or (series, time)."""
    index = index.to(values.device)
    if index.ndim == 1:
        return values.index_select(-2, index)
    return values.gather(-2, index[..., None].expand(*values.shape[:-3], -1, -1, values.shape[-1]))


def require_few_steps(counts: Tensor, step_size: float | None) -> None:
    """Refuse excessive numbers of steps (series, interval), as from one wrong time stamp.

    Raises:
        DataError: With the place of the longest interval.
    """
    if counts.numel() and float(counts.sum(-1).max()) > MOST_STEPS:
        series, interval = divmod(int(counts.argmax()), counts.shape[-1])
        raise DataError(
            f"`times` must not ask for more than {MOST_STEPS} steps of the solver. Got {float(counts.max()):.3g} steps "
            f"of {step_size} between times {interval} and {interval + 1} of series {series}. Check the time stamps and "
            "their unit there, or use a larger `step_size`."
        )


def cut(times: Tensor, step_size: float | None, nodes: tuple[float, ...], like: Tensor) -> TimeGrid:
    """Cut each interval of each series into equal steps of at most ``step_size``.

    The steps of a series do not depend on the other series, and neither do its results; the batch takes as many steps
    as the series that needs most. A series that has reached its end takes steps of length zero.
    """
    times = on_host(times).double()
    intervals = times.diff(dim=-1)
    counts = torch.ones_like(intervals)
    if step_size is not None:
        counts = (intervals / step_size - STEP_TOLERANCE).ceil().clamp_min(1)
    require_few_steps(torch.atleast_2d(counts), step_size)
    ends = pad(counts.long().cumsum(-1), (1, 0))
    num_steps = int(ends.max()) if ends.numel() else intervals.shape[-1]
    steps = torch.arange(num_steps).expand(*ends.shape[:-1], -1).contiguous()
    interval = torch.searchsorted(ends[..., 1:].contiguous(), steps, right=True).clamp(max=intervals.shape[-1] - 1)
    count, length = counts.gather(-1, interval), (intervals / counts).gather(-1, interval)
    taken = steps - ends.gather(-1, interval)
    starts = times.gather(-1, interval) + length * torch.minimum(taken, count)
    lengths = torch.where(taken < count, length, 0.0)
    clock = torch.stack([starts + node * lengths for node in nodes], -1).flatten(-2)
    share = torch.stack([((taken + node) / count).clamp(max=1.0) for node in nodes], -1).flatten(-2)
    interval = interval.repeat_interleave(len(nodes), -1)
    if times.ndim == 2:
        clock, lengths = clock.mT[..., None], lengths.mT[..., None]
        first = ends[0] if len(ends) else torch.arange(len(lengths) + 1)
        ends = first if bool((ends == first).all()) else ends
    return TimeGrid(clock.to(like), lengths, ends, interval, share)
