"""Fused recurrent networks with gradients in evaluation mode as well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def run_recurrent(network: nn.RNNBase, steps: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
    """The output of a recurrent network without dropout, differentiable in both modes on every device.

    cuDNN stores the data for its backward pass only in training mode, but sampling and checks differentiate in
    evaluation mode. Without dropout both modes compute the same, so the call runs in training mode whenever gradients
    are on.

    Args:
        network: An LSTM or GRU; its mode is restored afterwards.
        steps: Input of the network.
        memory: Initial memory; zeros if None.
    """
    mode = network.training
    network.training = mode or torch.is_grad_enabled()
    try:
        return network(steps, memory)
    finally:
        network.training = mode
