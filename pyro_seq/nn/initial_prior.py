"""Priors of an initial state: standard normal or learned normal; `EnergyTilt` is a third."""

from __future__ import annotations

from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable


class InitialPrior(Protocol):
    """A module that every model with a random initial state accepts as its prior."""

    def distribution(self, zeros: Tensor) -> dist.TorchDistribution:
        """The prior of a vector like `zeros` (dim,), on its device and of its type: batch (), event (dim,)."""
        ...

    def terms(self, prior: dist.TorchDistribution, value: Tensor) -> dict[str, Tensor]:
        """Named training terms (...) at posterior draws `value` (..., dim), such as a penalty; usually none."""
        ...


@rebuildable
class StandardNormal(nn.Module):
    r"""The prior :math:`\mathcal N(0, I)`."""

    def distribution(self, zeros: Tensor) -> dist.TorchDistribution:
        """The prior of a vector like `zeros` (dim,)."""
        return dist.Normal(zeros, 1.0).to_event(1)

    def terms(self, prior: dist.TorchDistribution, value: Tensor) -> dict[str, Tensor]:
        """No terms."""
        return {}


@rebuildable
class LearnedNormal(nn.Module):
    r"""The prior :math:`\mathcal N(m, \operatorname{diag}(s^2))` with learned mean and scales, initially 0 and 1.

    Args:
        dim: Size of the vector.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def distribution(self, zeros: Tensor) -> dist.TorchDistribution:
        """The prior of a vector like `zeros` (dim,)."""
        return dist.Normal(zeros + self.loc, self.log_scale.exp()).to_event(1)

    def terms(self, prior: dist.TorchDistribution, value: Tensor) -> dict[str, Tensor]:
        """No terms."""
        return {}
