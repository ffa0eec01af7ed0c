r"""Variational posteriors of a flat vector of weights, from independent weights to all correlations.

.. math::
    q(w) = \mathcal N\big(\mu,\ S\, C\, S\big), \qquad S = \mathrm{diag}\, e^{\lambda}, \qquad
    C = I, \quad I + F F^\top \quad \text{or} \quad L L^\top

Correlations are in units of the scales S, so that one learning rate suits both. A posterior object creates the
parameters and the distribution; the module that owns the weights stores the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal
from torch.distributions.kl import register_kl

from pyro_seq._arguments import is_positive, keep_whole, require
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError

_MOST_WEIGHTS = 4096  # of a full covariance: 64 MiB in single precision, and again for each moment of Adam


@runtime_checkable
class WeightPosterior(Protocol):
    """A family of posteriors of `num_weights` weights, given by a mean and further parameters."""

    def initial(self, num_weights: int) -> dict[str, Tensor]:
        """Initial values of the parameters other than the mean, by name."""
        ...

    def distribution(self, loc: Tensor, spread: Mapping[str, Tensor]) -> dist.TorchDistribution:
        """Reparametrised distribution of the weights around `loc` (weight,): batch (), event (weight,)."""
        ...


@rebuildable
@dataclass(frozen=True)
class MeanField:
    r"""Independent weights, :math:`C = I`.

    The cheapest family, too narrow if weights are correlated: for a Gaussian posterior with precision :math:`\Lambda`
    the variances are :math:`1 / \Lambda_{ii}`, never above the true :math:`(\Lambda^{-1})_{ii}`.

    Args:
        initial_scale: Initial standard deviation of each weight. After a short training it is still near this value,
            because a step of Adam changes its logarithm by at most about the learning rate.
        is_tied: One standard deviation for all weights instead of one each.
    """

    initial_scale: float = 0.01
    is_tied: bool = False

    def __post_init__(self) -> None:
        _require_scale(self.initial_scale)

    def initial(self, num_weights: int) -> dict[str, Tensor]:
        """The log scales, (weight,) or one number."""
        return {"log_scale": _log_scale(self.initial_scale, *(() if self.is_tied else (num_weights,)))}

    def distribution(self, loc: Tensor, spread: Mapping[str, Tensor]) -> dist.TorchDistribution:
        """Normal with independent entries."""
        return dist.Normal(loc, spread["log_scale"].exp().expand_as(loc)).to_event(1)


@rebuildable
@dataclass(frozen=True)
class LowRank:
    r"""A few directions in which all weights vary together, plus independent noise: :math:`C = I + F F^\top`.

    Costs :math:`O(n r^2)` for n weights and rank r.

    Args:
        rank: Number of directions r.
        initial_scale: Initial standard deviation of the independent part of each weight.
        initial_factor: Initial standard deviation of the entries of F; not zero, because F would then stay zero.

    References:
        Ong, Nott, Smith (2018), Gaussian variational approximation with a factor covariance structure.
    """

    rank: int = 8
    initial_scale: float = 0.01
    initial_factor: float = 0.1

    def __post_init__(self) -> None:
        keep_whole(self, 1, "rank")
        _require_scale(self.initial_scale)
        require(is_positive(self.initial_factor), "initial_factor", "a positive number", self.initial_factor)

    def initial(self, num_weights: int) -> dict[str, Tensor]:
        """The log scales (weight,), and a random F (weight, rank)."""
        require(self.rank <= num_weights, "rank", f"at most the number of weights, {num_weights}", self.rank)
        factor = self.initial_factor * torch.randn(num_weights, self.rank)
        return {"log_scale": _log_scale(self.initial_scale, num_weights), "factor": factor}

    def distribution(self, loc: Tensor, spread: Mapping[str, Tensor]) -> dist.TorchDistribution:
        """Normal with a low-rank plus diagonal covariance."""
        scale = spread["log_scale"].exp()
        return dist.LowRankMultivariateNormal(loc, scale[:, None] * spread["factor"], scale.square())


@rebuildable
@dataclass(frozen=True)
class FullCovariance:
    r"""All correlations, :math:`C = L L^\top` with L lower triangular and ones on its diagonal.

    Exact if the posterior is Gaussian. Stores :math:`n^2` numbers for n weights, so n is at most 4096.

    Args:
        initial_scale: Initial standard deviation of each weight, with L the identity.
    """

    initial_scale: float = 0.01

    def __post_init__(self) -> None:
        _require_scale(self.initial_scale)

    def initial(self, num_weights: int) -> dict[str, Tensor]:
        """The log scales (weight,), and the part of L below its diagonal (weight, weight)."""
        if num_weights > _MOST_WEIGHTS:
            raise DataError(
                f"`FullCovariance` takes at most {_MOST_WEIGHTS} weights. Got {num_weights}. Use `LowRank(rank=...)`, "
                "or narrower `hidden_dims`."
            )
        lower = torch.zeros(num_weights, num_weights)
        return {"log_scale": _log_scale(self.initial_scale, num_weights), "lower": lower}

    def distribution(self, loc: Tensor, spread: Mapping[str, Tensor]) -> dist.TorchDistribution:
        """Normal with full covariance."""
        scale = spread["log_scale"].exp()
        root = scale[:, None] * spread["lower"].tril(-1) + scale.diag_embed()
        return dist.MultivariateNormal(loc, scale_tril=root)


@register_kl(MultivariateNormal, Independent)
@register_kl(LowRankMultivariateNormal, Independent)
def _divergence(q: MultivariateNormal | LowRankMultivariateNormal, p: Independent) -> Tensor:
    r"""Divergence from independent entries: :math:`-\mathbb E_q[\log p]`, summed over entries, minus q's entropy."""
    if not isinstance(p.base_dist, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    base = p.base_dist
    gap = (q.variance + (q.mean - base.loc).square()) / base.scale.square()
    crossed = 0.5 * gap + base.scale.log() + 0.5 * math.log(2 * math.pi)
    return crossed.sum(-1) - q.entropy()


def _log_scale(scale: float, *shape: int) -> Tensor:
    return torch.full(shape, math.log(scale))


def _require_scale(scale: float) -> None:
    require(is_positive(scale), "initial_scale", "a positive number", scale)
