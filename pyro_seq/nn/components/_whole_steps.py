"""Transitions over whole numbers of steps, from the transition over one, by doubling."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.nn.components.component import Block


def over_steps(transition: Tensor, cov: Tensor, gaps: Tensor, initial_cov: Tensor | None = None) -> Block:
    r"""The move over each of `gaps` whole steps; its transition is a power,

    .. math::
        A_{i+j} = A_i A_j, \qquad Q_{i+j} = A_i Q_j A_i^\top + Q_i

    Args:
        transition: Transition over one step, (..., state, state).
        cov: Noise covariance over one step, (..., state, state).
        gaps: Whole numbers of steps, (gap,).
        initial_cov: Covariance of the state at the first step.
    """
    steps = gaps.round().long()
    one = (transition[..., None, :, :], cov[..., None, :, :])
    planned = on_host(gaps).round()
    if bool((planned == 1).all()):
        return Block(*one, initial_cov)
    eye = torch.eye(transition.shape[-1], dtype=transition.dtype, device=transition.device)
    total = (eye, torch.zeros_like(eye))
    for bit in range(int(planned.max()).bit_length()):
        is_set = (steps >> bit & 1).bool()[:, None, None]
        longer = _joined(total, one)
        total = (torch.where(is_set, longer[0], total[0]), torch.where(is_set, longer[1], total[1]))
        one = _joined(one, one)
    return Block(*total, initial_cov)


def _joined(first: tuple[Tensor, Tensor], then: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The composition of two moves."""
    return then[0] @ first[0], then[0] @ first[1] @ then[0].mT + then[1]
