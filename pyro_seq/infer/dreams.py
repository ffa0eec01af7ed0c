"""Dreams: series drawn from the model, on which its guide is trained."""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq.data import Sequences
from pyro_seq.data._validation import widen
from pyro_seq.model import SequenceModel, is_latent, is_local, local_log_prob


def dream_loss(model: SequenceModel, data: Sequences, shared: Mapping[str, Tensor]) -> Tensor:
    r"""Minus the guide's log density of the latents of simulated series, given their parts that `data` would show.

    .. math::
        -\log q_\phi(\tilde z \mid \tilde x_\text{seen}), \qquad (\tilde z, \tilde x) \sim p_\theta

    Its mean is smallest where q is nearest to the posterior in :math:`\mathrm{KL}[p(z \mid x) \,\|\, q(z \mid x)]`.
    This penalises a q that is too narrow, as the bound penalises one that is too wide; and simulated series are
    unlimited, while a network trained on few real series memorises them. Only the guide gets a gradient.

    Args:
        model: The model; its draws must resemble data, see ``has_dreams``.
        data: Gives the times, inputs and mask of the simulated series.
        shared: Draws of latents that all series share, (event,) each.

    Returns:
        Loss of each series, (series,); 0 if a simulated series is not finite.

    References:
        Hinton, Dayan, Frey, Neal (1995), The wake-sleep algorithm for unsupervised neural networks.
    """
    with torch.no_grad(), passing_nonfinite(), pyro.validation_enabled(False):
        free = poutine.condition(poutine.uncondition(model.model), data=dict(shared))
        dreamt = poutine.trace(free).get_trace(data)
    values = dreamt.nodes["x"]["value"]
    is_finite = values.flatten(1).isfinite().all(1)
    latents = {name: site["value"] for name, site in dreamt.nodes.items() if is_latent(site) and is_local(site)}
    latents = {name: torch.where(widen(is_finite, value), value, 0.0) for name, value in latents.items() if name != "x"}
    shown = data.entry_mask & widen(is_finite, values)
    seen = model.prepare(data._with(values=torch.where(shown, values, 0.0), context=None))
    read = poutine.trace(poutine.condition(model.guide, data=latents)).get_trace(seen)
    return torch.where(is_finite, -local_log_prob(read), 0.0)
