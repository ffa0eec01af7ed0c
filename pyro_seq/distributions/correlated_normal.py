"""A normal distribution of a vector whose entries are correlated, for guides."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, register_kl


class CorrelatedNormal(dist.MultivariateNormal):
    r"""A multivariate normal with a closed-form divergence from one with independent entries.

    .. math::
        \mathrm{KL}\left[N(m, L L^\top) \,\middle\|\, N(\mu, \operatorname{diag} s^2)\right] =
        \frac12 \sum_i \frac{(L L^\top)_{ii} + (m_i - \mu_i)^2}{s_i^2} - \frac12 + \log s_i - \log L_{ii}

    Args:
        loc: Mean m, (..., dim).
        scale_tril: Lower triangular factor L with a positive diagonal, (..., dim, dim).
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> CorrelatedNormal:
        """The same distribution over a larger batch."""
        loc, factor = self.loc, self._unbroadcasted_scale_tril
        size = loc.shape[-1]
        return CorrelatedNormal(loc.expand(*batch_shape, size), factor.expand(*batch_shape, size, size))


@register_kl(CorrelatedNormal, Independent)
def _from_independent(posterior: CorrelatedNormal, prior: Independent) -> Tensor:
    base = prior.base_dist
    if not isinstance(base, Normal) or prior.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    factor = posterior.scale_tril
    spread = factor.square().sum(-1) + (posterior.loc - base.loc).square()
    scale = base.scale.expand_as(spread)
    gain = scale.log() - factor.diagonal(dim1=-2, dim2=-1).log()
    return (0.5 * spread / scale.square() - 0.5 + gain).sum(-1)
