"""Losses, beside the bound, that train a guide for series with gaps: dreams and rehearsal, and when these count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import UnsupportedError
from pyro_seq.infer.dreams import dream_loss
from pyro_seq.infer.parameter_groups import parameter_groups
from pyro_seq.infer.rehearsal import rehearsal_loss
from pyro_seq.model import SequenceModel, is_latent, is_local
from pyro_seq.training.views import RandomGaps

DREAMS, REHEARSAL = "dreams", "rehearsal"  # names of the terms
LESSONS = {DREAMS: 1.0, REHEARSAL: 0.5}  # their weights if the data have gaps
_HIDING = RandomGaps(0.75)  # hides observations in this share of the series


class Lessons:
    """The terms of an objective that train its guide for series with gaps.

    Args:
        model: The model; its draws must resemble data, see ``has_dreams``.
        scales: Weights of all terms of the objective.

    Raises:
        UnsupportedError: When `scales` names lessons that the model does not have.
    """

    def __init__(self, model: SequenceModel, scales: Mapping[str, Any]) -> None:
        named = [name for name in LESSONS if name in scales]
        if named and not model.has_dreams:
            raise UnsupportedError(
                f"`scales` asks for {' and '.join(named)}, which this {type(model).__name__} does not have: either its "
                "draws do not look like data, or its guide is exact or reads frames one by one. Leave them out."
            )
        self.model, self.scales = model, scales
        self._learners: list[nn.Parameter] | None = None

    def counted(self, is_training: bool) -> dict[str, Any]:
        """The weights in use: weights of lessons only in training, and only if they are not 0."""
        return {
            name: scale
            for name, scale in self.scales.items()
            if name not in LESSONS or (is_training and not (isinstance(scale, int | float) and scale == 0))
        }

    def terms(self, data: Sequences, guide_trace: poutine.Trace, is_training: bool) -> dict[str, Tensor]:
        """Losses of each series, (series,), by name; `guide_trace` gives the shared latents."""
        names = LESSONS.keys() & self.counted(is_training)
        if not names:
            return {}
        terms, shared = {}, shared_latents(guide_trace)
        hidden = self.model.prepare(_HIDING(data._with(context=None), 0, torch.default_generator))
        if DREAMS in names:
            terms[DREAMS] = dream_loss(self.model, hidden, shared)
        if REHEARSAL in names:
            if self._learners is None:
                self._learners = parameter_groups(self.model, data[:2]._with(context=None)).others
            terms[REHEARSAL] = rehearsal_loss(self.model, hidden, shared, self._learners)
        return terms


def shared_latents(guide_trace: poutine.Trace) -> dict[str, Tensor]:
    """One draw of each latent that all series share, (event,), from a trace of the guide."""
    sites = {name: site["value"] for name, site in guide_trace.nodes.items() if is_latent(site) and not is_local(site)}
    return {name: value.detach().reshape(-1, value.shape[-1])[0] for name, value in sites.items()}
