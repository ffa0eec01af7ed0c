"""Counts with a given log mean: Poisson, and negative binomial for overdispersed counts.

Log probabilities are computed in double precision: for counts of a million they are a difference of about 10 between
terms of ten million, which single precision loses.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

_MOST = 2.0**60  # draws at higher rates overflow torch's integers


class PoissonCounts(dist.TorchDistribution):
    r"""Counts of independent events.

    .. math::
        \log p(x) = x \log \lambda - \lambda - \log x!, \qquad \mathbb E[x] = \mathrm{Var}[x] = \lambda

    Args:
        log_rate: Logarithm of the rate :math:`\lambda`.
        validate_args: Check the arguments; Pyro's setting by default.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.nonnegative_integer

    def __init__(self, log_rate: Tensor, *, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Rates, of the batch shape."""
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        """Variances, of the batch shape."""
        return self.mean

    def multiplied(self, log_factor: Tensor) -> PoissonCounts:
        """The same distribution with rates multiplied by ``exp(log_factor)``."""
        return PoissonCounts(self.log_rate + log_factor, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of counts, of the batch shape."""
        counts, log_rate = value.double(), self.log_rate.double()
        return (counts * log_rate - log_rate.exp() - torch.lgamma(counts + 1)).to(self.log_rate.dtype)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch)."""
        with torch.no_grad():
            return _poisson(self.mean.expand(self._extended_shape(sample_shape)))

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> PoissonCounts:
        """The same for more series or draws."""
        return PoissonCounts(self.log_rate.expand(batch_shape), validate_args=False)


class NegativeBinomialCounts(dist.TorchDistribution):
    r"""Overdispersed counts: Poisson with a rate that is Gamma distributed around its mean.

    .. math::
        x \sim \mathrm{Poisson}(\lambda g), \quad g \sim \mathrm{Gamma}(1 / \alpha, 1 / \alpha), \qquad
        \mathbb E[x] = \lambda, \quad \mathrm{Var}[x] = \lambda + \alpha \lambda^2

    Args:
        log_rate: Logarithm of the mean rate :math:`\lambda`.
        dispersion: The dispersion :math:`\alpha > 0`; near 0 the distribution is Poisson.
        validate_args: Check the arguments; Pyro's setting by default.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.nonnegative_integer

    def __init__(self, log_rate: Tensor, dispersion: Tensor, *, validate_args: bool | None = None) -> None:
        self.log_rate, self.dispersion = torch.broadcast_tensors(log_rate, dispersion)
        super().__init__(self.log_rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Mean rates, of the batch shape."""
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        """Variances, of the batch shape."""
        return self.mean + self.dispersion * self.mean.square()

    def multiplied(self, log_factor: Tensor) -> NegativeBinomialCounts:
        """The same distribution with mean rates multiplied by ``exp(log_factor)``."""
        return NegativeBinomialCounts(self.log_rate + log_factor, self.dispersion, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of counts, of the batch shape."""
        counts, log_rate, dispersion = (part.double() for part in (value, self.log_rate, self.dispersion))
        size, logit = 1 / dispersion, log_rate + dispersion.log()
        ways = torch.lgamma(counts + size) - torch.lgamma(size) - torch.lgamma(counts + 1)
        return (ways + counts * logsigmoid(logit) + size * logsigmoid(-logit)).to(self.log_rate.dtype)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch)."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            share = torch._standard_gamma((1 / self.dispersion).expand(shape)) * self.dispersion
            return _poisson(share * self.mean)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> NegativeBinomialCounts:
        """The same for more series or draws."""
        return NegativeBinomialCounts(
            self.log_rate.expand(batch_shape), self.dispersion.expand(batch_shape), validate_args=False
        )


def _poisson(rate: Tensor) -> Tensor:
    """Draws where the rate is valid, else NaN; with an invalid rate torch refuses all draws or draws garbage."""
    can_be_drawn = rate <= _MOST
    return torch.where(can_be_drawn, torch.poisson(torch.where(can_be_drawn, rate, 0.0)), torch.nan)
