"""Dreams: what a model makes up, from which its guide learns to read what it will be shown."""

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
    r"""Minus the log density that the guide gives to latents of made-up series, given what `data` would show of them.

    .. math::
        -\log q_\phi(\tilde z \mid \tilde x_\text{seen}), \qquad (\tilde z, \tilde x) \sim p_\theta

    Its mean is smallest where q is nearest to the posterior in :math:`\mathrm{KL}[p(z \mid x) \,\|\, q(z \mid x)]`.
    That punishes a q which is too narrow, as the bound punishes one which is too wide; and made-up series never run
    out, while a network with few real ones learns them by heart. Only the guide gets a gradient.

    Args:
        model: The model; its draws must look like data, see ``has_dreams``.
        data: Whose times, inputs and mask the made-up series have.
        shared: Draws of latents that all series share, (event,) each.

    Returns:
        One number a series, 0 where a dream has left the finite numbers.

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
