"""Paths of independent gamma variables, one at each step."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import Gamma, constraints
from torch import Tensor
from torch.distributions.kl import kl_divergence, register_kl

from pyro_seq.distributions.path import PathDistribution


class GammaPath(PathDistribution):
    r"""Independent gamma variables at each step, event (time, dim).

    .. math::
        w_t \sim \mathrm{Gamma}(\alpha_t, \beta_t)

    Args:
        concentration: :math:`\alpha`, (..., time, dim), or (..., 1, dim) if constant.
        rate: :math:`\beta`, of the same shape.
        num_steps: Length of a path.
        valid: True where a step exists, (..., time), False after the end of a series; None if all exist.
        batch_shape: Leading axes beyond those of the parameters.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.positive, 2)

    def __init__(
        self,
        concentration: Tensor,
        rate: Tensor,
        num_steps: int,
        *,
        valid: Tensor | None = None,
        batch_shape: torch.Size = torch.Size(),
    ) -> None:
        self.concentration, self.rate = concentration, rate
        shapes = [concentration.shape[:-2], rate.shape[:-2], torch.Size(batch_shape)]
        shapes += [] if valid is None else [valid.shape[:-1]]
        event = torch.Size((num_steps, max(concentration.shape[-1], rate.shape[-1])))
        super().__init__(torch.broadcast_shapes(*shapes), event, valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> GammaPath:
        """The same distribution over a larger batch."""
        return GammaPath(
            self.concentration, self.rate, self.event_shape[0], valid=self.valid, batch_shape=torch.Size(batch_shape)
        )

    @property
    def mean(self) -> Tensor:
        """Mean of each entry, (..., time, dim)."""
        return self.steps().mean

    def steps(self) -> Gamma:
        """Distribution of each entry, batch (..., time, dim)."""
        shape = self.batch_shape + self.event_shape
        return Gamma(self.concentration.expand(shape), self.rate.expand(shape), validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths; values that underflow to zero become the smallest positive number."""
        drawn = self.steps().rsample(torch.Size(sample_shape))
        return drawn.clamp(min=torch.finfo(drawn.dtype).tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the valid steps, (...)."""
        return self.counted(self.steps().log_prob(value))

    def future(self, value: Tensor, horizon: int) -> GammaPath:
        """Distribution of the next `horizon` steps for constant parameters; it does not depend on `value`."""
        return GammaPath(self.concentration, self.rate, horizon, batch_shape=value.shape[:-2])

    def counted(self, terms: Tensor) -> Tensor:
        """Sum over the valid steps of terms (..., time, dim)."""
        terms = terms.sum(-1)
        return (terms if self.valid is None else torch.where(self.valid, terms, 0.0)).sum(-1)


@register_kl(GammaPath, GammaPath)
def _kl_between_paths(one: GammaPath, other: GammaPath) -> Tensor:
    """Kullback-Leibler divergence over the steps that are valid in `other`."""
    return other.counted(kl_divergence(one.steps(), other.steps()))
