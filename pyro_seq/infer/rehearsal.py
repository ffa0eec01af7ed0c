"""Rehearsal: the guide reads the training data once more, with more of them hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel, local_log_prob


def rehearsal_loss(
    model: SequenceModel, data: Sequences, shared: Mapping[str, Tensor], learners: Sequence[nn.Parameter]
) -> Tensor:
    r"""The negative bound on the evidence of what `data` show, from which only the guide learns.

    .. math::
        -\mathbb E_{q_\phi}\left[\log p_{\bar\theta}(x_\text{shown}, z) - \log q_\phi(z \mid x_\text{shown})\right]

    with :math:`\bar\theta` held fixed, so that hiding takes no evidence from the model. Unlike dreams it looks at real
    series, to which a model that is half trained has no likeness yet.

    Args:
        model: The model.
        data: Series with more hidden than is, prepared.
        shared: Draws of latents that all series share, (event,) each.
        learners: The parameters that get a gradient: those of the guide alone.

    Returns:
        One number a series. Its gradient is right for the sum over all series only.
    """
    guide_trace = poutine.trace(poutine.condition(model.guide, data=dict(shared))).get_trace(data)
    given = poutine.replay(poutine.condition(model.model, data=dict(shared)), trace=guide_trace)
    losses = torch.as_tensor(local_log_prob(guide_trace)) - local_log_prob(poutine.trace(given).get_trace(data))
    gradients = torch.autograd.grad(losses.sum(), list(learners), allow_unused=True)
    # a sum that is linear in the learners and has these gradients: no other parameter hears of the loss
    taught = [(parameter * by).sum() for parameter, by in zip(learners, gradients, strict=True) if by is not None]
    lesson = torch.stack(taught).sum() if taught else losses.new_zeros(())
    return losses.detach() + (lesson - lesson.detach()) / len(losses)
