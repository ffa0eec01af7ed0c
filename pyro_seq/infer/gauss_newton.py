"""``GaussNewton``: preconditions chains by the curvature of each series' posterior at a chain's position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.infer.series_target import SeriesTarget

_SMALLEST_VARIANCE = 1e-6  # per entry; a saturated pixel would have infinite weight
# of a difference quotient, for latents of unit scale: single precision then leaves its slopes three digits, plenty for
# a preconditioner, at a fifth of the time of forward-mode derivatives
_WIDTH = 3e-3


class RoundCoordinates(NamedTuple):
    """An affine map for each target, from whitened coordinates, in which its posterior is roughly isotropic.

    Attributes:
        origin: Vector at which the whitened coordinates are zero, (chain, series, entry).
        factor: Matrix of each target, (chain, series, entry, entry).
    """

    origin: Tensor
    factor: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        """Vectors at whitened coordinates `value`."""
        return self.origin + (self.factor @ value[..., None])[..., 0]

    def pulled_back(self, potential: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The potential as a function of whitened coordinates; the volume ratio is constant."""
        return lambda value: potential(self(value))


@dataclass(frozen=True)
class GaussNewton:
    r"""Precondition chains by the Gauss-Newton curvature at the start of each visit.

    .. math::
        H = \lambda I + J^\top \operatorname{diag}(\sigma^{-2})\, J, \qquad J = \partial\,\mathbb E[x] / \partial u,
        \qquad u = u_0 + L v, \quad L L^\top = H^{-1}

    for the vector u of a series' unconstrained latents, over observed entries with variance sigma^2. In v a step size
    near 1 suits all directions: Langevin steps become noisy Gauss-Newton steps. It works for any emission with means
    and variances, since the Fisher information of a mean parameter is its inverse variance. Within a visit the map is
    fixed, and MALA is exact; between visits it changes with the chain's position, which gives persistent chains a small
    bias if the curvature varies strongly over the posterior.

    Cost: one model pass without gradients per latent entry, all in one batch, for finite differences, and a Cholesky
    factor of that size; meant for dozens of entries, not for whole paths.

    Args:
        prior_precision: Curvature of the prior, 1 for standard normal latents.
        is_diagonal: Keep only the diagonal of H: one step length per direction.
    """

    prior_precision: float = 1.0
    is_diagonal: bool = False

    def map(self, target: SeriesTarget, start: Tensor) -> RoundCoordinates:
        """Whitened coordinates around `start` (chain, series, entry); unchanged coordinates if the curvature fails."""
        curvature = self.curvature(target, start)
        eye = torch.eye(start.shape[-1], dtype=start.dtype, device=start.device)
        if self.is_diagonal:
            curvature = curvature * eye
        is_finite = curvature.isfinite().all(-1).all(-1)
        lower, info = torch.linalg.cholesky_ex(torch.where(is_finite[..., None, None], curvature, eye))
        factor = torch.linalg.solve_triangular(lower.mT, eye.expand_as(lower), upper=True)
        is_usable = is_finite & (info == 0) & factor.isfinite().all(-1).all(-1)
        return RoundCoordinates(start, torch.where(is_usable[..., None, None], factor, eye))

    @torch.no_grad()
    def curvature(self, target: SeriesTarget, start: Tensor) -> Tensor:
        """H of each target, (chain, series, entry, entry)."""
        size = start.shape[-1]
        directions = torch.eye(size, dtype=start.dtype, device=start.device)
        moved = start + _WIDTH * directions[:, None, None]  # (entry, chain, series, entry)
        emission = target.emission(torch.cat([start[None], moved]).flatten(0, 1))  # (1 + entry) x chain at once
        mean = emission.mean.unflatten(0, (1 + size, -1)).flatten(3)
        slope = (mean[1:] - mean[0]) / _WIDTH
        variance = emission.variance.expand(emission.mean.shape).unflatten(0, (1 + size, -1))[0]
        weight = torch.where(target.data.entry_mask, 1 / variance.clamp(min=_SMALLEST_VARIANCE), 0).flatten(2)
        information = torch.einsum("icsk,csk,jcsk->csij", slope, weight, slope)
        return information + self.prior_precision * directions
