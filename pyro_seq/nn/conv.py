"""Convolutional trunks and decoders for images of any size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_seq._arguments import require_channel_first
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import ShapeError


def _halvings(size: int, times: int) -> list[int]:
    """Sizes before and after each strided convolution, from large to small."""
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


@rebuildable
class ConvTrunk(nn.Module):
    """Features of a window of images by convolutions with kernel 5 and stride 2; frames and masks are channels.

    Without batch normalisation, because batches contain masked frames and series must stay independent.

    Args:
        num_frames: Length of the window.
        obs_shape: (channel, height, width) of one image.
        channels: Channels after each convolution.
        activation: After each convolution.
    """

    def __init__(
        self,
        num_frames: int,
        obs_shape: Sequence[int],
        channels: Sequence[int] = (8, 16, 32),
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        colours, height, width = _image_shape(obs_shape)
        layers: list[nn.Module] = [nn.Flatten(1, 2)]
        size_in = 2 * num_frames * colours
        for size_out in channels:
            layers += [nn.Conv2d(size_in, size_out, 5, stride=2, padding=2), activation()]
            size_in = size_out
        self.layers = nn.Sequential(*layers, nn.Flatten())
        depth = len(channels)
        self.num_features = size_in * _halvings(height, depth)[-1] * _halvings(width, depth)[-1] + num_frames - 1

    def forward(self, frames: Tensor, mask: Tensor, gaps: Tensor) -> Tensor:
        r"""Features (batch, feature) of images and mask (batch, frame, \*obs), `gaps` (batch, frame - 1) apart."""
        return torch.cat([self.layers(torch.cat([frames, mask], 1)), gaps], -1)


@rebuildable
class ConvDecoder(nn.Module):
    """Images from a latent position: two linear layers, then transposed convolutions that double the size.

    The kernels are 4 wide. Most time is spent in the last layers, where the images are largest: give them few channels.

    Args:
        dim: Size of the position.
        obs_shape: (channel, height, width) of one image; excess pixels from doubling are cropped.
        channels: Channels before each transposed convolution.
        hidden_dim: Width of the first linear layer.
        activation: Between the layers.
    """

    def __init__(
        self,
        dim: int,
        obs_shape: Sequence[int],
        channels: Sequence[int] = (32, 16),
        *,
        hidden_dim: int = 256,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        colours, self.height, self.width = _image_shape(obs_shape)
        height, width = _halvings(self.height, len(channels))[-1], _halvings(self.width, len(channels))[-1]
        layers: list[nn.Module] = [
            nn.Linear(dim, hidden_dim),
            activation(),
            nn.Linear(hidden_dim, channels[0] * height * width),
            nn.Unflatten(1, (channels[0], height, width)),
        ]
        for size_in, size_out in itertools.pairwise([*channels, colours]):
            layers += [activation(), nn.ConvTranspose2d(size_in, size_out, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, position: Tensor) -> Tensor:
        """Images (batch, channel, height, width) of positions (batch, dim)."""
        return self.layers(position)[..., : self.height, : self.width]


def _image_shape(obs_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(obs_shape) != 3:
        raise ShapeError(f"`obs_shape` must be (channel, height, width) for convolutions. Got {tuple(obs_shape)}.")
    require_channel_first(obs_shape, "obs_shape")
    colours, height, width = obs_shape
    return colours, height, width
