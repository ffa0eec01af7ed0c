"""Warm-up adaptation of Langevin chains: step sizes by dual averaging, scales of directions from the draws."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops._langevin_samplers import Sampler
from pyro_seq.ops._langevin_state import LangevinState

SHRINKAGE = 0.05  # gamma: strength of the pull towards the anchor
DELAY = 10.0  # t0: reduces the weight of the first steps
DECAY = 0.75  # kappa: how fast old steps are forgotten in the average
BOLDNESS = 10.0  # ratio of the anchor to the first step size: steps that are too long are detected quickly

# Boundaries of the windows that measure scales, as shares of the warm-up; each runs with the last scales: a direction
# ten times wider than the rest takes more than one. Before the first window, chains approach the target.
_WINDOWS = (0.1, 0.25, 0.5, 0.8)
_FEWEST_STEPS = 40  # fewest steps of a warm-up that can measure scales


class DualAveraging(NamedTuple):
    r"""The state of the adaptation: everything but the count has one entry per target.

    .. math::
        \bar H_t = \Big(1 - \frac{1}{t + t_0}\Big) \bar H_{t-1} + \frac{\delta - \alpha_t}{t + t_0}, \qquad
        \log s_{t+1} = \mu - \frac{\sqrt t}{\gamma} \bar H_t, \qquad
        \log \bar s_t = t^{-\kappa} \log s_{t+1} + (1 - t^{-\kappa}) \log \bar s_{t-1}

    Attributes:
        anchor: :math:`\mu`, ten times the first step size on the log scale.
        shortfall: :math:`\bar H`, the average of target minus observed acceptance.
        log_average: :math:`\log \bar s`, the final step size.
        num_steps: The count :math:`t`.

    References:
        Nesterov (2009), Primal-dual subgradient methods for convex problems; Hoffman and Gelman (2014), The no-U-turn
        sampler, section 3.2.
    """

    anchor: Tensor
    shortfall: Tensor
    log_average: Tensor
    num_steps: int = 0

    @classmethod
    def start(cls, step_size: Tensor) -> DualAveraging:
        """Start with these step sizes."""
        return cls((BOLDNESS * step_size).log(), torch.zeros_like(step_size), step_size.log())

    def update(self, shortfall: Tensor) -> tuple[DualAveraging, Tensor]:
        """Update by target minus observed acceptance of one step, and propose the next step size."""
        count = self.num_steps + 1
        gain = 1 / (count + DELAY)
        mean = (1 - gain) * self.shortfall + gain * shortfall
        log_step = self.anchor - count**0.5 / SHRINKAGE * mean
        weight = count**-DECAY
        log_average = weight * log_step + (1 - weight) * self.log_average
        return DualAveraging(self.anchor, mean, log_average, count), log_step.exp()


class Adaptation:
    r"""Adapts a batch of chains step by step, and sets their final values.

    Step sizes are adapted to the acceptance of each target by dual averaging. With `has_scale` the standard deviation
    of each entry is measured in three windows of the warm-up, and after each window becomes the scale of steps in that
    direction. Chains of one target, along the first of three or more axes, are pooled.

    Args:
        state: Initial state of the chains.
        sampler: With ULA there is no target acceptance, so nothing is adapted.
        num_steps: Length of the warm-up.
        has_scale: Measure scales.
    """

    def __init__(self, state: LangevinState, sampler: Sampler, num_steps: int, *, has_scale: bool) -> None:
        self.num_steps = num_steps
        self.target = sampler.target_accept
        self.averaging = DualAveraging.start(state.step_size)
        self.first_size = state.step_size
        has_windows = has_scale and self.target is not None and num_steps >= _FEWEST_STEPS
        self.window_ends = [int(share * num_steps) for share in _WINDOWS] if has_windows else []
        self.steps_done = 0
        self._origin: Tensor = state.value
        self._sums: list[Tensor] = []

    @property
    def is_over(self) -> bool:
        """True when all steps have been taken."""
        return self.steps_done >= self.num_steps

    def update(self, state: LangevinState) -> LangevinState:
        """Update by one step; the last one sets the averaged step sizes and resets the count of divergences."""
        self.steps_done += 1
        if self.target is not None:
            self.averaging, step_size = self.averaging.update(self.target - state.acceptance)
            state = state._replace(step_size=torch.where(state.is_frozen, state.step_size, step_size))
            if self.window_ends and self.window_ends[0] < self.steps_done <= self.window_ends[-1]:
                self._measure(state)
                if self.steps_done in self.window_ends:
                    state = self._with_scale(state)
        if not self.is_over:
            return state
        final = state.step_size
        if self.target is not None:
            final = torch.where(state.is_frozen, self.first_size, self.averaging.log_average.exp())
        return state._replace(step_size=final, num_divergent=torch.zeros_like(state.num_divergent))

    def _measure(self, state: LangevinState) -> None:
        if not self._sums:
            self._origin = state.value
            self._sums = [torch.zeros_like(_pooled(state.value)) for _ in range(3)]
        alive = (~state.is_frozen).to(state.value)
        alive = alive.reshape(*alive.shape, *[1] * (state.value.ndim - alive.ndim)).expand_as(state.value)
        # one origin per target, the same for all its chains, keeps sums small but preserves distances between chains
        gap = (state.value - _first_chain(self._origin)).nan_to_num(0, 0, 0) * alive
        for total, term in zip(self._sums, (alive, gap, gap.square()), strict=True):
            total += _pooled(term)

    def _with_scale(self, state: LangevinState) -> LangevinState:
        count, first, second = self._sums
        mean = first / count
        deviation = (second / count - mean.square()).sqrt()
        is_usable = deviation.isfinite() & (deviation > 0)
        scale = torch.where(is_usable, deviation, 1)
        dim = state.value[(0,) * state.energy.ndim].numel()
        step_size = torch.where(state.is_frozen, state.step_size, natural_step(dim))  # dual averaging restarts here
        self.averaging = DualAveraging.start(step_size)
        self._sums = []
        return state._replace(scale=scale, step_size=step_size)


def natural_step(dim: int) -> float:
    """A good step size for a Gaussian with `dim` entries, in units of their scale."""
    return float(dim) ** (-1 / 6)


def _has_chains(value: Tensor) -> bool:
    return value.ndim >= 3


def _pooled(value: Tensor) -> Tensor:
    return value.sum(0, keepdim=True) if _has_chains(value) else value


def _first_chain(value: Tensor) -> Tensor:
    return value[:1] if _has_chains(value) else value
