"""Rehearsal: the guide reads the training data again, with more of them hidden."""

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
    r"""The negative bound on the evidence of the visible part of `data`, from which only the guide learns.

    .. math::
        -\mathbb E_{q_\phi}\left[\log p_{\bar\theta}(x_\text{shown}, z) - \log q_\phi(z \mid x_\text{shown})\right]

    with :math:`\bar\theta` held fixed, so that the model is not trained on less data. Unlike dreams, it uses real
    series, which draws of a partly trained model do not resemble yet.

    Args:
        model: The model.
        data: Prepared series in which additional observations are hidden.
        shared: Draws of latents that all series share, (event,) each.
        learners: The parameters that get a gradient: those of the guide only.

    Returns:
        Loss of each series. Its gradient is right only for the sum over all series.
    """
    guide_trace = poutine.trace(poutine.condition(model.guide, data=dict(shared))).get_trace(data)
    given = poutine.replay(poutine.condition(model.model, data=dict(shared)), trace=guide_trace)
    losses = torch.as_tensor(local_log_prob(guide_trace)) - local_log_prob(poutine.trace(given).get_trace(data))
    gradients = torch.autograd.grad(losses.sum(), list(learners), allow_unused=True)
    # a sum that is linear in the learners and has these gradients, so that no other parameter gets a gradient
    taught = [(parameter * by).sum() for parameter, by in zip(learners, gradients, strict=True) if by is not None]
    lesson = torch.stack(taught).sum() if taught else losses.new_zeros(())
    return losses.detach() + (lesson - lesson.detach()) / len(losses)
