"""Multilayer perceptrons: trunks that read frames, decoders that write them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Linear layers of the given sizes with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), activation()]
    return nn.Sequential(*layers[:-1])


class MLPTrunk(nn.Module):
    r"""Features of a stack of frames (batch, channel, \*obs) flattened.

    Args:
        num_channels: Frames (and masks) in the stack.
        obs_shape: Shape of one frame.
        hidden_dims: Widths of the hidden layers; the last is the number of features.
        activation: After each layer.
    """

    def __init__(
        self,
        num_channels: int,
        obs_shape: Sequence[int],
        hidden_dims: Sequence[int] = (60, 60),
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.num_features = hidden_dims[-1]
        self.layers = nn.Sequential(
            nn.Flatten(), mlp((num_channels * math.prod(obs_shape), *hidden_dims), activation), activation()
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Features (batch, feature)."""
        return self.layers(frames)


class MLPDecoder(nn.Module):
    r"""Means or logits (batch, \*obs) of an observation given a latent position (batch, dim)."""

    def __init__(
        self,
        dim: int,
        obs_shape: Sequence[int],
        hidden_dims: Sequence[int] = (60, 60),
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            mlp((dim, *hidden_dims, math.prod(obs_shape)), activation), nn.Unflatten(1, tuple(obs_shape))
        )

    def forward(self, position: Tensor) -> Tensor:
        """Decode positions (batch, dim)."""
        return self.layers(position)
