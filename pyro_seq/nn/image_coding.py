"""What the convolutional encoders and decoders of video frames share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_seq.errors import ShapeError
from pyro_seq.nn.normalised import Norm, Rectified

Maps = tuple[Tensor, ...]

_INITIAL_SPREAD = 0.02  # of weights, and of scales around 1, as in DCGAN


class ImageEncoder(Protocol):
    """A module that reads single frames."""

    code_dim: int

    def __call__(self, frames: Tensor) -> tuple[Tensor, Maps]:
        r"""Codes (frame, code) of frames (frame, \*obs), and the feature maps of each stage, large ones first."""
        ...


class ImageDecoder(Protocol):
    """A module that writes single frames."""

    has_skips: bool

    def __call__(self, latent: Tensor, maps: Maps = (), owner: Tensor | None = None) -> Tensor:
        r"""Logits of frames (frame, \*obs) given `latent` (frame, dim), and maps (series, ...) of frame's `owner`."""
        ...


class Architecture(Protocol):
    """A recipe for an encoder and the decoder that goes with it; `DCGAN` and `VGG` are two."""

    def encoder(self, obs_shape: Sequence[int]) -> ImageEncoder:
        """An encoder of frames of that shape."""
        ...

    def decoder(self, dim: int, obs_shape: Sequence[int]) -> ImageDecoder:
        """A decoder from latent vectors of size `dim` to frames of that shape."""
        ...


class ToVector(nn.Module):
    """A vector from the smallest maps: a convolution that covers all of them, which is a matrix product.

    Args:
        map_shape: (channel, height, width) of the maps.
        dim: Size of the vector.
        norm: Makes a normalisation of so many channels.
    """

    def __init__(self, map_shape: Sequence[int], dim: int, norm: Norm) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(map_shape), dim, bias=False)
        self.norm = norm(dim)

    def forward(self, maps: Tensor) -> Tensor:
        """Vectors (frame, dim) of maps (frame, channel, height, width)."""
        return self.norm(self.linear(maps.permute(0, 2, 3, 1).flatten(1))[..., None, None]).flatten(1).tanh()


class FromVector(nn.Module):
    """The smallest maps from a vector: a transposed convolution of a single pixel, which is a matrix product.

    Args:
        dim: Size of the vector.
        map_shape: (channel, height, width) of the maps.
        norm: Makes a normalisation of so many channels.
    """

    def __init__(self, dim: int, map_shape: Sequence[int], norm: Norm) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.pixels = (height, width, channels)
        self.linear = nn.Linear(dim, math.prod(map_shape), bias=False)
        self.norm = Rectified(channels, norm)

    def forward(self, vector: Tensor) -> Tensor:
        """Maps (frame, channel, height, width) of vectors (frame, dim)."""
        return self.norm(self.linear(vector).unflatten(1, self.pixels).permute(0, 3, 1, 2))


class Beside(nn.Module):
    """A convolution of maps with, as further channels, those of another frame of the same series.

    It is linear, so that the share of the other frame is computed once a series and not once a frame.

    Args:
        layer: The convolution of both, without an offset; its channels are those of the maps, then those of the others.
    """

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor, skip: Tensor | None = None, owner: Tensor | None = None) -> Tensor:
        """Maps (frame, ...) of `maps` (frame, ...) beside `skip` (series, ...) of each `owner` (frame,), if any."""
        if skip is None or owner is None:
            return self.layer(maps)
        is_transposed = isinstance(self.layer, nn.ConvTranspose2d)
        convolve: Callable[..., Tensor] = functional.conv_transpose2d if is_transposed else functional.conv2d
        own, other = self.layer.weight.split([maps.shape[1], skip.shape[1]], 0 if is_transposed else 1)
        options = {"stride": self.layer.stride, "padding": self.layer.padding}
        return convolve(maps, own, **options) + convolve(skip, other, **options).index_select(0, owner)


def channels_last(frames: Tensor) -> Tensor:
    """The same frames with their channels last in memory, which all later layers then keep.

    Only the images are laid out so, not the weights: Pyro's store of parameters would copy those.
    """
    # a single channel counts as last already, but not for the layout of the result
    return torch.empty_like(frames, memory_format=torch.channels_last).copy_(frames)


def initialise(module: nn.Module) -> None:
    """Start as in DCGAN: small Gaussian weights, scales of normalisations around 1, no offsets."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, 0.0, _INITIAL_SPREAD)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm) and part.weight is not None:
            nn.init.normal_(part.weight, 1.0, _INITIAL_SPREAD)
            nn.init.zeros_(part.bias)


def smallest_shape(obs_shape: Sequence[int], num_halvings: int, what: str) -> tuple[int, int]:
    """Height and width after so many halvings, which must come out even."""
    factor = 2**num_halvings
    if len(obs_shape) != 3 or obs_shape[1] % factor or obs_shape[2] % factor or not math.prod(obs_shape):
        raise ShapeError(
            f"`obs_shape` must be (channel, height, width) with height and width multiples of {factor}, for {what} "
            f"halve them {num_halvings} times. Got {tuple(obs_shape)}. Pad or resize the frames, or pass fewer stages."
        )
    return obs_shape[1] // factor, obs_shape[2] // factor
