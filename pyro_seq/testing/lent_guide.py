"""A temporary guide for a model without one, for checks that need latents or an objective."""

from __future__ import annotations

from contextlib import nullcontext
from types import MethodType

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel, is_local
from pyro_seq.testing.case import latent_sites, traced

_SCALE = 0.5


def lend_guide(model: SequenceModel, data: Sequences) -> None:
    """Give `model` a guide without parameters: independent noise, in unconstrained space, at every latent site."""
    sites = []
    for name, site in latent_sites(traced(model.model, data, seed=0)):
        support, event = site["fn"].support, site["fn"].event_shape
        sites.append((name, biject_to(support), event, is_local(site)))

    def guide(self: SequenceModel, data: Sequences) -> None:
        plate = self.series(data)
        for name, transform, event, in_plate in sites:
            with plate if in_plate else nullcontext():
                pyro.sample(name, _noise(data.values, transform, event))

    model.guide = MethodType(guide, model)  # type: ignore[method-assign]


def _noise(like: Tensor, transform: torch.distributions.Transform, event: torch.Size) -> dist.TorchDistribution:
    real = dist.Normal(like.new_zeros(transform.inverse_shape(event)), _SCALE)
    noise = real.to_event(len(real.batch_shape))
    is_identity = isinstance(transform, torch.distributions.transforms.ComposeTransform) and not transform.parts
    return noise if is_identity else dist.TransformedDistribution(noise, [transform])
