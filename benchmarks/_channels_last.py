"""Networks that keep their channels last, normalisation and rectifier in one pass, for the benchmarks.

Transposed convolutions run up to twice as fast on channels-last images, but torch 2.13's batch normalisation of those
sums all pixels one by one in single precision on one thread: 300,000 pixels a channel cost a relative error of 5e-5 in
the values, and far more in the gradients. The library's `Rectified` works through chunks with partial sums.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from pyro_seq.nn.normalised import Rectified


def channels_last(layers: nn.Sequential) -> nn.Sequential:
    """The same layers with channels-last weights, and each pair of batch normalisation and ReLU as one."""
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.ReLU) and fused and isinstance(fused[-1], nn.BatchNorm2d):
            pair = Rectified(fused[-1].num_features, slope=0.0)
            pair.norm = copy.deepcopy(fused[-1])
            fused[-1] = pair
        else:
            fused.append(layer)
    return nn.Sequential(*fused).to(memory_format=torch.channels_last)
