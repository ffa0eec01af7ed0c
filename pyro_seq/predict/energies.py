"""``energies``: negative log densities of draws of the latents, under the prior and jointly with the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import unnormalised
from pyro_seq.door import require_data, require_type
from pyro_seq.model import SequenceModel, is_local, is_random
from pyro_seq.posterior import prediction_context


class Energies(NamedTuple):
    r"""Energies of latents and of latents with data, in nats, (sample, series) each.

    Attributes:
        prior: :math:`-\log p(z)`, without the normaliser of an energy-based prior.
        joint: :math:`-\log p(x, z) = -\log p(z) - \log p(x \mid z)`, over the seen steps.
    """

    prior: Tensor
    joint: Tensor

    @property
    def weights(self) -> Tensor:
        r"""Weights of the draws of each series, :math:`\propto p(x, z)`, (sample, series), normalised over draws.

        For draws of chains that may have ended in different modes: draws in the better mode dominate. These are not
        importance weights: they are not divided by the proposal density.
        """
        return torch.softmax(-self.joint, 0)

    def mean(self, values: Tensor) -> Tensor:
        r"""Mean (series, \*) of `values` (sample, series, \*) under the weights."""
        return (self.weights.reshape(self.weights.shape + (1,) * (values.ndim - 2)) * values).sum(0)


@one_at_a_time
def energies(model: SequenceModel, data: Sequences, latents: Mapping[str, Tensor]) -> Energies:
    r"""Energies of draws of the latents, given the seen steps of each series.

    For a series unlike the training series, latents lie where the prior is low, or do not explain the data: either
    energy, averaged over draws, can detect it (`pyro_seq.metrics.auroc`). Compare energies between series under one
    model, not between models, because different constants are missing.

    Args:
        model: The trained model.
        data: The series; a horizon is dropped.
        latents: Latent sites (sample, series, \*event), as ``posterior.draws(data, n)`` gives.

    Returns:
        The energies of each draw and series.
    """
    require_type(model, SequenceModel, "model")
    require_data(model, data)
    data = data.seen()
    prior = likelihood = data.values.new_zeros(data.num_series)
    with prediction_context(model), unnormalised(), isolated_rng(0):  # plates draw random subsamples
        trace = poutine.trace(poutine.condition(model.model, data=dict(latents))).get_trace(data)
        for name, site in trace.nodes.items():
            if not is_random(site) or not is_local(site):
                continue
            density = site["fn"].log_prob(site["value"])
            if name == "x":
                likelihood = likelihood + density
            else:
                prior = prior - density
    return Energies(prior, prior - likelihood)
