"""Dreams: what a model makes up, from which its guide learns to read what it will be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq.data import Sequences
from pyro_seq.data._validation import widen
from pyro_seq.errors import UnsupportedError
from pyro_seq.model import SequenceModel, is_latent, is_local, local_log_prob
from pyro_seq.training.views import RandomGaps

DREAMS = "dreams"  # name of the term
_HIDING = RandomGaps(0.75)  # of what data show


def require_dreams(model: SequenceModel, scales: Mapping[str, Any]) -> None:
    """Refuse dreams of a model that has none, by ``has_dreams``.

    Raises:
        UnsupportedError: Where `scales` names them all the same.
    """
    if DREAMS in scales and not model.has_dreams:
        raise UnsupportedError(
            f"`scales` asks for dreams, which this {type(model).__name__} does not have: either its draws do not look "
            "like data, or its guide is exact or reads frames one by one. Leave them out."
        )


def counted(scales: Mapping[str, Any], is_training: bool) -> dict[str, Any]:
    """The weights that count: that of dreams does in training only, and not when it is 0."""
    is_dreaming = is_training and not (isinstance(scales.get(DREAMS), int | float) and scales[DREAMS] == 0)
    return {name: scale for name, scale in scales.items() if is_dreaming or name != DREAMS}


def dream_loss(model: SequenceModel, data: Sequences, shared: Mapping[str, Tensor]) -> Tensor:
    r"""Minus the log density that the guide gives to latents of made-up series, given what `data` would show of them.

    .. math::
        -\log q_\phi(\tilde z \mid \tilde x_\text{seen}), \qquad (\tilde z, \tilde x) \sim p_\theta

    Its mean is smallest where q is nearest to the posterior in :math:`\mathrm{KL}[p(z \mid x) \,\|\, q(z \mid x)]`.
    That punishes a q which is too narrow, as the bound punishes one which is too wide; and made-up series never run
    out, while a network with few real ones learns them by heart. Only the guide gets a gradient.

    Args:
        model: The model; its draws must look like data, see ``has_dreams``.
        data: Whose times and inputs the made-up series have, and whose mask, with `RandomGaps` of their own.
        shared: Draws of latents that all series share, (event,) each.

    Returns:
        One number a series, 0 where a dream has left the finite numbers.

    References:
        Hinton, Dayan, Frey, Neal (1995), The wake-sleep algorithm for unsupervised neural networks.
    """
    data = _HIDING(data, 0, torch.default_generator)
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


def shared_latents(guide_trace: poutine.Trace) -> dict[str, Tensor]:
    """One draw of each latent that all series share, (event,), out of a trace of the guide."""
    sites = {name: site["value"] for name, site in guide_trace.nodes.items() if is_latent(site) and not is_local(site)}
    return {name: value.detach().reshape(-1, value.shape[-1])[0] for name, value in sites.items()}
