"""Dual averaging of step sizes, one for each of many targets at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SHRINKAGE = 0.05  # gamma: pull towards the anchor
DELAY = 10.0  # t0: how little the first steps count
DECAY = 0.75  # kappa: how fast old steps are forgotten in the average
BOLDNESS = 10.0  # the anchor lies this factor above the first step size: too long steps are cheap to find


class DualAveraging(NamedTuple):
    r"""The memory of the adaptation: everything but the count has one entry a target.

    .. math::
        \bar H_t = \Big(1 - \frac{1}{t + t_0}\Big) \bar H_{t-1} + \frac{\delta - \alpha_t}{t + t_0}, \qquad
        \log s_{t+1} = \mu - \frac{\sqrt t}{\gamma} \bar H_t, \qquad
        \log \bar s_t = t^{-\kappa} \log s_{t+1} + (1 - t^{-\kappa}) \log \bar s_{t-1}

    Attributes:
        anchor: :math:`\mu`, ten times the first step size on the log scale.
        shortfall: :math:`\bar H`, the average of the wanted acceptance minus the seen one.
        log_average: :math:`\log \bar s`, the step size to keep in the end.
        num_steps: :math:`t`.

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
        """Begin at these step sizes."""
        return cls((BOLDNESS * step_size).log(), torch.zeros_like(step_size), step_size.log())

    def update(self, shortfall: Tensor) -> tuple[DualAveraging, Tensor]:
        """Take in wanted minus seen acceptance of one step, and propose the next step size."""
        count = self.num_steps + 1
        gain = 1 / (count + DELAY)
        mean = (1 - gain) * self.shortfall + gain * shortfall
        log_step = self.anchor - count**0.5 / SHRINKAGE * mean
        weight = count**-DECAY
        log_average = weight * log_step + (1 - weight) * self.log_average
        return DualAveraging(self.anchor, mean, log_average, count), log_step.exp()
