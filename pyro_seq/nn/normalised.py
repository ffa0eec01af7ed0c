"""Normalisation and leaky rectifier of images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from pyro_seq.nn.tuned.batch_norm import is_better_in_one_pass, normalise_rectify

Norm = Callable[[int], nn.Module]

SLOPE = 0.2  # of the leaky rectifier below zero, as in DCGAN


class Rectified(nn.Module):
    """A normalisation followed by a leaky rectifier; in training on a CPU, batch normalisation uses a tuned kernel.

    Args:
        channels: Number of channels.
        norm: Factory: number of channels to normalisation layer.
        slope: Slope of the rectifier below zero; 0 for a plain ReLU.
    """

    def __init__(self, channels: int, norm: Norm = nn.BatchNorm2d, slope: float = SLOPE) -> None:
        super().__init__()
        self.norm, self.slope = norm(channels), slope

    def forward(self, images: Tensor) -> Tensor:
        """Images (frame, channel, height, width), channels last in memory if the input is."""
        if is_better_in_one_pass(self.norm, images):
            return normalise_rectify(images, self.norm, self.slope)
        return functional.leaky_relu(self.norm(images), self.slope)
