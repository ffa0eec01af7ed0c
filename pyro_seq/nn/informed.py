"""Guides that use the prior for entries that the encoder cannot see."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_seq._host import in_both, on_host
from pyro_seq.distributions.energy_based import EnergyBased
from pyro_seq.nn.encoder import SeriesEncoder


def sight(encoder: SeriesEncoder, mask: Tensor) -> Tensor:
    r"""Which entries of its vector an encoder reads from observations, (batch, dim) or (batch, 1), under `mask`.

    An encoder can report this by a method ``sees(mask)``; otherwise all entries count as read if anything is observed.

    Args:
        encoder: Reads frames (batch, frame, \*obs).
        mask: True where observed, of the same shape.
    """
    if hasattr(encoder, "sees"):
        return in_both(encoder.sees, mask)
    return in_both(lambda part: part.flatten(1).any(1, keepdim=True), mask)


def informed(encoded: dist.TorchDistribution, prior: dist.TorchDistribution, sees: Tensor) -> dist.TorchDistribution:
    r"""A posterior equal to the prior where nothing was seen.

    .. math::
        q(z_i \mid x) = \begin{cases} q_\text{enc}(z_i \mid x) & \text{where the encoder sees} \\
        p(z_i) & \text{where it does not} \end{cases}

    A network that was never trained on empty series returns arbitrary, overconfident values for them. With an
    energy-based prior, single entries have no marginal distribution, so the unseen entries of a partly seen vector get
    that of the base; in training all unseen entries do, because draws of the chains have no gradient.

    Args:
        encoded: Output of the encoder: batch (series,), event (dim,).
        prior: Prior of one vector: batch (), event (dim,).
        sees: (series, dim) or (series, 1), see `sight`.
    """
    if bool(on_host(sees).all()):
        return encoded
    base = prior.base if isinstance(prior, EnergyBased) else prior
    filled = _filled(encoded, base, sees)
    anything = sees.any(-1)
    if filled is not None and (base is prior or torch.is_grad_enabled() or bool(anything.all())):
        return filled
    return dist.MaskedMixture(anything, prior.expand(anything.shape), encoded if filled is None else filled)


def _filled(
    encoded: dist.TorchDistribution, base: dist.TorchDistribution, sees: Tensor
) -> dist.TorchDistribution | None:
    """A normal distribution with entries of `base` where nothing was seen; None for other families."""
    normal = getattr(base, "base_dist", None)
    if not isinstance(normal, dist.Normal):
        return None
    if isinstance(getattr(encoded, "base_dist", None), dist.Normal):
        loc = torch.where(sees, encoded.base_dist.loc, normal.loc)
        scale = torch.where(sees, encoded.base_dist.scale, normal.scale)
        return dist.Normal(loc, scale, validate_args=False).to_event(1)
    return None
