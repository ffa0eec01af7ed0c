"""The steps of a fixed-step solver: where each starts, how long it is, and which of them end at a wanted time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import DataError

# Times of float32 frames carry rounding: 0.3 - 0.2 may exceed a step of 0.1 by one part in a million.
STEP_TOLERANCE = 1e-3
MOST_STEPS = 10**6


class TimeGrid(NamedTuple):
    """Steps of all series side by side.

    Attributes:
        clock: Times of the stages, ``(step * stage,)``, or ``(step * stage, series, 1)`` when each series has its own.
        lengths: Step lengths, ``(step,)`` or ``(step, series, 1)``, in float64 on the CPU.
        ends: Number of steps taken when each wanted time is reached; starts with 0.
    """

    clock: Tensor
    lengths: Tensor
    ends: list[int]

    def multiples(self, factor: float, like: Tensor) -> list[float] | tuple[Tensor, ...]:
        """``factor * length`` of each step: plain numbers when the series share their times, which is fastest."""
        scaled = factor * self.lengths
        return scaled.tolist() if scaled.ndim == 1 else scaled.to(like).unbind(0)

    def stacked_clock(self, state: Tensor) -> Tensor:
        """The clock, shaped to broadcast against states stacked in front, ``(step * stage, *state.shape)``."""
        trailing = self.clock.shape[1:]
        return self.clock.reshape(len(self.clock), *[1] * (state.ndim - len(trailing)), *trailing)

    def stacked_lengths(self, state: Tensor) -> Tensor:
        """The lengths, shaped to broadcast against one state a step, ``(step, *state.shape)``."""
        trailing = self.lengths.shape[1:]
        return self.lengths.to(state).reshape(len(self.lengths), *[1] * (state.ndim - len(trailing)), *trailing)


def require_few_steps(counts: Tensor, step_size: float | None) -> None:
    """Refuse numbers of steps (series, interval) whose sum nobody means: one wrong time stamp asks for billions.

    Raises:
        DataError: With the place of the longest interval.
    """
    if counts.numel() and float(counts.amax(0).sum()) > MOST_STEPS:
        series, interval = divmod(int(counts.argmax()), counts.shape[-1])
        raise DataError(
            f"`times` must not ask for more than {MOST_STEPS} steps of the solver. Got {float(counts.max()):.3g} steps "
            f"of {step_size} between times {interval} and {interval + 1} of series {series}. Check the time stamps and "
            "their unit there, or use a larger `step_size`."
        )


def cut(times: Tensor, step_size: float | None, nodes: tuple[float, ...], like: Tensor) -> TimeGrid:
    """Cut each interval of each series into equal steps of at most ``step_size``.

    The intervals of a batch start together: a series that needs fewer steps than another waits with steps of length
    zero, so its numbers do not depend on its neighbours.
    """
    times = times.detach().to("cpu", torch.float64)
    intervals = times.diff(dim=-1)
    counts = torch.ones_like(intervals)
    if step_size is not None:
        counts = (intervals / step_size - STEP_TOLERANCE).ceil().clamp_min(1)
    rows = torch.atleast_2d(counts)
    require_few_steps(rows, step_size)
    widest = rows.amax(0).long() if len(rows) else rows.new_ones(rows.shape[-1]).long()
    interval = torch.repeat_interleave(widest)
    taken = torch.arange(len(interval)) - (widest.cumsum(0) - widest)[interval]
    counts, length = counts[..., interval], (intervals / counts)[..., interval]
    starts = times[..., interval] + length * torch.minimum(taken, counts)
    lengths = torch.where(taken < counts, length, 0.0)
    clock = torch.stack([starts + node * lengths for node in nodes], -1).flatten(-2)
    if times.ndim == 2:
        clock, lengths = clock.mT[..., None], lengths.mT[..., None]
    return TimeGrid(clock.to(like), lengths, [0, *widest.cumsum(0).tolist()])
