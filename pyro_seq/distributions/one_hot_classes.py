"""Classes in one-hot coding: groups of entries, one of them 1."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints


class OneHotClasses(dist.TorchDistribution):
    r"""Classes, each a group of `num_classes` entries along the last axis, with 1 for the class and 0 elsewhere.

    .. math::
        \log p(x_k) = x_k \log \pi_k, \qquad \pi = \mathrm{softmax}(\lambda), \qquad \mathbb E[x] = \pi

    The log probability is split among the entries; over a group it sums to that of the class. Entries can therefore be
    masked as in other distributions, but mask whole groups only. Entries of one group are drawn together.

    Args:
        logits: Logits :math:`\lambda`, (..., group * num_classes).
        num_classes: Entries of a group.
        validate_args: Check the arguments; Pyro's setting by default.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, num_classes: int, *, validate_args: bool | None = None) -> None:
        self.logits, self.num_classes = logits, num_classes
        super().__init__(logits.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Probabilities of the classes, of the batch shape."""
        return self._log_shares().exp()

    @property
    def variance(self) -> Tensor:
        """Variances of the entries, of the batch shape."""
        return self.mean * (1 - self.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        """Share of each entry in the log probability, of the batch shape."""
        return value * self._log_shares()

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch); NaN where logits are not finite, because torch would refuse all draws."""
        with torch.no_grad():
            shares = self.mean.expand(self._extended_shape(sample_shape)).unflatten(-1, (-1, self.num_classes))
            is_known = shares.isfinite().all(-1, keepdim=True)
            given = torch.where(is_known, shares, 1.0).flatten(0, -2)
            chosen = torch.multinomial(given, 1) if len(given) else given[:, :1].long()
            drawn = torch.zeros_like(given).scatter_(-1, chosen, 1.0).reshape(shares.shape)
            return torch.where(is_known, drawn, torch.nan).flatten(-2)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> OneHotClasses:
        """The same for more series or draws."""
        return OneHotClasses(self.logits.expand(batch_shape), self.num_classes, validate_args=False)

    def _log_shares(self) -> Tensor:
        return self.logits.unflatten(-1, (-1, self.num_classes)).log_softmax(-1).flatten(-2)
