"""Independent Ornstein-Uhlenbeck processes observed at any times."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import ShapeError


class OrnsteinUhlenbeck(PathDistribution):
    r"""Paths of stationary processes of variance 1, each with its timescale; event (time, dim).

    .. math::
        f_1 \sim N(m, s^2), \qquad f_t \mid f_{t-1} \sim N\left(a_t f_{t-1},\ 1 - a_t^2\right), \qquad
        a_t = e^{-\Delta_t / \tau}

    is the exact distribution of :math:`df = -f\,dt/\tau + \sqrt{2/\tau}\,dW` at any time gaps :math:`\Delta_t`.

    Args:
        correlation: Correlation a of each step with the previous one, (..., time, dim), between 0 and 1; the entry of
            the first step is not used. It may be longer than `num_steps`; the rest is for `future`.
        num_steps: Length of a path.
        valid: True where a step exists, (..., time), False after the end of a series; None if all exist.
        start: Mean and standard deviation of the first step, (..., dim) each; by default the stationary ones, 0 and 1.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        correlation: Tensor,
        num_steps: int,
        *,
        valid: Tensor | None = None,
        start: tuple[Tensor, Tensor] | None = None,
        batch_shape: torch.Size = torch.Size(),
    ) -> None:
        self.correlation, self.start = correlation, start
        shapes = [correlation.shape[:-2], torch.Size(batch_shape)]
        shapes += [] if start is None else [start[0].shape[:-1]]
        shapes += [] if valid is None else [valid.shape[:-1]]
        event = torch.Size((num_steps, correlation.shape[-1]))
        super().__init__(torch.broadcast_shapes(*shapes), event, valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> OrnsteinUhlenbeck:
        """The same distribution over a larger batch."""
        return OrnsteinUhlenbeck(
            self.correlation, self.event_shape[0], valid=self.valid, start=self.start, batch_shape=batch_shape
        )

    @property
    def mean(self) -> Tensor:
        """Mean of each entry, (..., time, dim)."""
        loc, _ = self._start()
        faded = torch.cat([torch.ones_like(loc)[..., None, :], self._moves().expand(*self.batch_shape, -1, -1)], -2)
        return loc[..., None, :] * faded.cumprod(-2)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths, one step after the other."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        noise = torch.randn(shape, dtype=self.correlation.dtype, device=self.correlation.device)
        loc, scale = self._start()
        moves, spreads = self._moves(), self._spreads()
        steps = [loc + scale * noise[..., 0, :]]
        for step in range(self.event_shape[0] - 1):
            steps.append(moves[..., step, :] * steps[-1] + spreads[..., step, :] * noise[..., step + 1, :])
        return torch.stack(steps, -2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the valid steps, (...)."""
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        loc, scale = self._start()
        first = (value[..., :1, :] - loc[..., None, :]) / scale[..., None, :]
        moves, spreads = self._moves(), self._spreads()
        rest = (value[..., 1:, :] - moves * value[..., :-1, :]) / spreads
        white = torch.cat([first, rest], -2)
        scales = torch.cat([scale[..., None, :], spreads.expand(*scale.shape[:-1], -1, -1)], -2)
        terms = (-0.5 * white.square() - scales.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
        return (terms if self.valid is None else torch.where(self.valid, terms, 0.0)).sum(-1)

    def future(self, value: Tensor, horizon: int) -> OrnsteinUhlenbeck:
        """Distribution of the next `horizon` steps of the path `value` (..., time, dim).

        Raises:
            ShapeError: When `correlation` does not cover the horizon.
        """
        start, known = self.event_shape[0], self.correlation.shape[-2]
        if horizon < 1 or known < start + horizon:
            raise ShapeError(
                f"`horizon` must be at least 1 and within `correlation`. Got {horizon} after {start} of {known} steps."
            )
        correlation = self.correlation[..., start : start + horizon, :]
        first = correlation[..., 0, :]
        loc = first * value[..., -1, :]
        return OrnsteinUhlenbeck(correlation, horizon, start=(loc, _spread(first).expand_as(loc)))

    def _start(self) -> tuple[Tensor, Tensor]:
        if self.start is not None:
            loc, scale = self.start
        else:
            loc, scale = self.correlation.new_zeros(()), self.correlation.new_ones(())
        shape = self.batch_shape + self.event_shape[1:]
        return loc.expand(shape), scale.expand(shape)

    def _moves(self) -> Tensor:
        return self.correlation[..., 1 : self.event_shape[0], :]

    def _spreads(self) -> Tensor:
        return _spread(self._moves())


def _spread(correlation: Tensor) -> Tensor:
    """Standard deviation of a step given the previous one; positive even for very close steps."""
    return (1 - correlation.square()).clamp(min=torch.finfo(correlation.dtype).eps).sqrt()
