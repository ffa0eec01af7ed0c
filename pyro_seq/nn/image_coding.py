"""Shared parts of the convolutional encoders and decoders of video frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_seq._host import on_host
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.normalised import Norm, Rectified
from pyro_seq.nn.tuned.columns import Window, convolution, transposed_convolution

Maps = tuple[Tensor, ...]

_INITIAL_SPREAD = 0.02  # of weights, and of scales around 1, as in DCGAN


class ImageEncoder(Protocol):
    """A module that reads single frames."""

    code_dim: int

    def __call__(self, frames: Tensor) -> tuple[Tensor, Maps]:
        r"""Codes (frame, code) of frames (frame, \*obs), and the feature maps of each stage, large ones first."""
        ...


def encoded_frames(encoder: ImageEncoder, data: Sequences) -> tuple[Tensor, Maps]:
    """Codes (series, time, code) of all frames, zeros at hidden ones, and the maps of the seen frames."""
    seen = on_host(data.step_mask)
    if bool(seen.all()):
        codes, maps = encoder(data.values.flatten(0, 1))
        return codes.to(data.dtype).unflatten(0, seen.shape), maps
    codes = data.values.new_zeros(*seen.shape, encoder.code_dim)
    if not bool(seen.any()):
        return codes, ()
    found, maps = encoder(data.values[seen])
    return codes.index_put((seen,), found.to(data.dtype)), maps


class Architecture(Protocol):
    """A recipe for a matching encoder and decoder, such as `DCGAN` or `VGG`."""

    def encoder(self, obs_shape: Sequence[int]) -> ImageEncoder:
        """An encoder of frames with shape `obs_shape`."""
        ...

    def decoder(self, dim: int, obs_shape: Sequence[int]) -> nn.Module:
        """A decoder from latent vectors of size `dim` to logits of frames with shape `obs_shape`.

        If its attribute `has_skips` is set, it also gets feature maps (series, ...) and each frame's `owner`.
        """
        ...


class ToVector(nn.Module):
    """A vector from the smallest maps: a convolution that covers each whole map, computed as a matrix product.

    Args:
        map_shape: (channel, height, width) of the maps.
        dim: Size of the vector.
        norm: Factory: number of channels to normalisation layer.
    """

    def __init__(self, map_shape: Sequence[int], dim: int, norm: Norm) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(map_shape), dim, bias=False)
        self.norm = norm(dim)

    def forward(self, maps: Tensor) -> Tensor:
        """Vectors (frame, dim) of maps (frame, channel, height, width).

        Raises:
            DataError: In training, when batch normalisation would have a single frame to normalise over.
        """
        if self.training and len(maps) == 1 and isinstance(self.norm, nn.BatchNorm2d):
            raise DataError(
                "A batch must show at least 2 frames, over which `BatchNorm2d` takes means and deviations. Got 1. "
                "Raise `batch_size`, use views that show more steps, or another `norm` in the architecture."
            )
        return self.norm(self.linear(maps.permute(0, 2, 3, 1).flatten(1))[..., None, None]).flatten(1).tanh()


class FromVector(nn.Module):
    """The smallest maps from a vector: a transposed convolution of a single pixel, computed as a matrix product.

    Args:
        dim: Size of the vector.
        map_shape: (channel, height, width) of the maps.
        norm: Factory: number of channels to normalisation layer.
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


class Convolution(nn.Module):
    """A convolution without bias of maps joined, as channels, with the maps of another frame of the same series.

    It is linear, so the contribution of the other frame is computed once per series, not once per frame. Weights are
    stored channels last, as images are, in contiguous order, because Pyro's parameter store copies other layouts.

    Args:
        size_in: Channels of the maps.
        size_out: Channels of the result.
        kernel: Height and width of the kernel.
        stride: Stride in pixels.
        padding: Zero padding in pixels.
        is_transposed: Transposed convolution, which enlarges the maps.
        size_beside: Channels of the other frame's maps.
    """

    def __init__(
        self,
        size_in: int,
        size_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 1,
        is_transposed: bool = False,
        size_beside: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.is_transposed = stride, padding, is_transposed
        self.sizes = [size_in, size_beside]
        first, last = (sum(self.sizes), size_out) if is_transposed else (size_out, sum(self.sizes))
        self.weight = nn.Parameter(torch.empty(first, kernel, kernel, last))
        nn.init.normal_(self.weight, 0.0, _INITIAL_SPREAD)

    @property
    def kernel(self) -> Tensor:
        """The weights in torch's order."""
        return self.weight.permute(0, 3, 1, 2)

    def forward(self, maps: Tensor, skip: Tensor | None = None, owner: Tensor | None = None) -> Tensor:
        """Maps (frame, ...) of `maps` (frame, ...) and, if given, `skip` (series, ...) of each `owner` (frame,)."""
        if skip is None or owner is None:
            return self._convolve(maps, self.weight)
        own, other = self.weight.split(self.sizes, 0 if self.is_transposed else 3)
        return self._convolve(maps, own) + self._convolve(skip, other).index_select(0, owner)

    def _convolve(self, maps: Tensor, weight: Tensor) -> Tensor:
        window = Window(weight.shape[1], self.stride, self.padding)
        kernel = weight.permute(0, 3, 1, 2)
        if self.is_transposed:
            if window.is_better_spread(maps):
                return transposed_convolution(maps, weight, window)
            return functional.conv_transpose2d(maps, kernel, None, self.stride, self.padding)
        if window.is_better_gathered(maps):
            return convolution(maps, weight, window)
        return functional.conv2d(maps, kernel, None, self.stride, self.padding)


def channels_last(frames: Tensor) -> Tensor:
    """The same frames with channels last in memory, a layout that all later layers keep."""
    # torch counts a single channel as channels last already, but the result would not have that layout
    return torch.empty_like(frames, memory_format=torch.channels_last).copy_(frames)


def initialise(module: nn.Module) -> None:
    """Initialise as in DCGAN: small Gaussian weights, scales of normalisations around 1, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, _INITIAL_SPREAD)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm) and part.weight is not None:
            nn.init.normal_(part.weight, 1.0, _INITIAL_SPREAD)
            nn.init.zeros_(part.bias)


def smallest_shape(obs_shape: Sequence[int], num_halvings: int) -> tuple[int, int]:
    """Height and width after `num_halvings` halvings, each of which must be exact."""
    factor = 2**num_halvings
    if len(obs_shape) != 3 or obs_shape[1] % factor or obs_shape[2] % factor or not math.prod(obs_shape):
        raise ShapeError(
            f"`obs_shape` must be (channel, height, width) with height and width multiples of {factor}, for the "
            f"encoder and decoder halve them {num_halvings} times. Got {tuple(obs_shape)}. "
            f"Pad or resize the frames, or pass fewer stages."
        )
    return obs_shape[1] // factor, obs_shape[2] // factor
