"""The exact posterior of factors that drive a series linearly."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.ops.precision import full_precision


class FactorsGivenSeries(PathDistribution):
    r"""Posterior of a path of factors :math:`f_{1:T}` given what is observed of a series, :math:`y_{1:T}`.

    .. math::
        \log p(f \mid y) = \log p(f) + \sum_t \log N(y_t;\ C f_t,\ R) - \log p(y)

    over the observed entries, by the Kalman filter and smoother. With it as the guide, the evidence lower bound equals
    the evidence at *every* draw. Draws therefore need no gradient: the difference of model and guide at a fixed draw is
    :math:`\log p(y)` for all parameters, and so is its gradient.

    Args:
        linear: The model of the series with its mask; R is diagonal.
        values: The series (..., time, obs).
        prior: Distribution of the factors; its `valid` gives the existing steps.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, linear: LinearGaussian, values: Tensor, prior: PathDistribution) -> None:
        self.linear, self.values, self.prior = linear, values, prior
        batch = torch.broadcast_shapes(linear.batch_shape, values.shape[:-2], prior.batch_shape)
        super().__init__(batch, prior.event_shape, prior.valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> FactorsGivenSeries:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return FactorsGivenSeries(self.linear, self.values, self.prior.expand(torch.Size(batch_shape)))

    @full_precision
    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths jointly, without gradients."""
        shape = torch.Size(sample_shape) + self.batch_shape
        extra = shape[: len(shape) - self.values.ndim + 2]  # smooth every series once for all draws
        with torch.no_grad():
            draws = self.linear.sample_states(self.values, extra.numel())
        return draws.reshape(extra + draws.shape[1:])

    @full_precision
    def distances(self) -> Tensor:
        r"""Expected squares :math:`E[(y_t - C f_t)^2]` over the posterior, of each entry, (..., time, obs)."""
        states = self.linear.smooth(self.values)
        rows = self.linear.parameters.observation
        means = _emitted(rows, states.smoothed_means)
        spread = ((rows @ states.smoothed_covs) * rows).sum(-1)
        return (self.values - means).square() + spread

    @full_precision
    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the factors at valid steps, (...)."""
        parameters = self.linear.parameters
        variance = parameters.observation_cov.diagonal(dim1=-2, dim2=-1)
        residual = self.values - _emitted(parameters.observation, value)
        emitted = -0.5 * (residual.square() / variance + variance.log() + math.log(2 * math.pi))
        mask = self.linear.mask_of_entries
        emitted = emitted if mask is None else torch.where(mask, emitted, 0.0)
        return self.prior.log_prob(value) + emitted.sum((-2, -1)) - self.linear.log_prob(self.values)


def _emitted(observation: Tensor, states: Tensor) -> Tensor:
    """C f at each step, (..., time, obs); time-varying rows have a time axis."""
    if observation.ndim == 2:
        return states @ observation.mT
    return (observation @ states[..., None])[..., 0]
