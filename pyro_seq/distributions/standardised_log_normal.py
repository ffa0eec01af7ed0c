"""A log-normal distribution in the unit of the data."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_seq.distributions.standardised_normal import StandardisedNormal


class StandardisedLogNormal(dist.TorchDistribution):
    r"""Positive numbers whose logarithm is normal once it is centred and scaled.

    .. math::
        \log x = m + c\, y, \quad y \sim \mathcal N(\mu, \sigma^2), \qquad
        \mathbb E[x] = \exp\left(m + c \mu + \tfrac12 c^2 \sigma^2\right)

    Values that are not positive have density zero with finite gradients, so they may occur where a mask hides them.

    Args:
        logs: Distribution of the logarithm.
        validate_args: Check the arguments; Pyro's setting by default.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.positive

    def __init__(self, logs: StandardisedNormal, *, validate_args: bool | None = None) -> None:
        self.logs = logs
        super().__init__(logs.batch_shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Means in the unit of the data, of the batch shape."""
        return (self.logs.mean + 0.5 * self.logs.variance).exp()

    @property
    def variance(self) -> Tensor:
        """Variances in the square of the unit of the data, of the batch shape."""
        return torch.expm1(self.logs.variance) * self.mean.square()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of values in the unit of the data, of the batch shape."""
        is_inside = value > 0
        logs = torch.where(is_inside, value, 1.0).log()
        return torch.where(is_inside, self.logs.log_prob(logs) - logs, -torch.inf)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch)."""
        return self.logs.sample(sample_shape).exp()

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> StandardisedLogNormal:
        """The same for more series or draws."""
        return StandardisedLogNormal(self.logs.expand(batch_shape), validate_args=False)
