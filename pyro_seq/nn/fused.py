"""Fused recurrent networks, in a way that lets gradients be taken in evaluation mode too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def run_recurrent(network: nn.RNNBase, steps: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
    """What a recurrent network without dropout returns, differentiable in both modes on every device.

    cuDNN keeps what its backward pass reads in training mode only, and sampling and checks differentiate in evaluation
    mode. Without dropout both modes compute the same, so that the call is one of training wherever gradients are on.

    Args:
        network: An LSTM or GRU; its mode is the same afterwards.
        steps: What it reads.
        memory: Where it starts; zeros if None.
    """
    mode = network.training
    network.training = mode or torch.is_grad_enabled()
    try:
        return network(steps, memory)
    finally:
        network.training = mode
