"""DCGAN: an encoder and a decoder of images by strided convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.nn.image_coding import (
    Convolution,
    FromVector,
    Maps,
    ToVector,
    channels_last,
    initialise,
    smallest_shape,
)
from pyro_seq.nn.normalised import SLOPE, Norm, Rectified


@rebuildable
@dataclass(frozen=True)
class DCGAN:
    """A recipe for a pair of `DCGANEncoder` and `DCGANDecoder`.

    Args:
        channels: Channels after each halving.
        code_dim: Size of the code of a frame.
        has_skips: Feed the encoder's maps of one frame of a series to the decoder of all of its frames.
        norm: Factory: number of channels to normalisation layer.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)
    code_dim: int = 128
    has_skips: bool = False
    norm: Norm = nn.BatchNorm2d

    def encoder(self, obs_shape: Sequence[int]) -> DCGANEncoder:
        """An encoder of frames with shape `obs_shape`."""
        return DCGANEncoder(obs_shape, self.code_dim, self.channels, norm=self.norm)

    def decoder(self, dim: int, obs_shape: Sequence[int]) -> DCGANDecoder:
        """A decoder from latent vectors of size `dim` to frames with shape `obs_shape`."""
        return DCGANDecoder(dim, obs_shape, self.channels, has_skips=self.has_skips, norm=self.norm)


@rebuildable
class DCGANEncoder(nn.Module):
    r"""Codes of frames by convolutions with kernel 4 and stride 2, with a hyperbolic tangent at the end.

    No layer has a bias; all but the first are normalised.

    Args:
        obs_shape: (channel, height, width) of one frame; height and width are halved once for each of `channels`.
        code_dim: Size of the code.
        channels: Channels after each convolution.
        norm: Factory: number of channels to normalisation layer.

    Raises:
        ShapeError: When `obs_shape` cannot be halved that many times.

    References:
        Radford, Metz, Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
        networks", ICLR 2016.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        code_dim: int = 128,
        channels: Sequence[int] = (64, 128, 256, 512),
        *,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        smallest = smallest_shape(obs_shape, len(channels))
        self.code_dim = code_dim
        self.stages = nn.ModuleList()
        for number, (size_in, size_out) in enumerate(itertools.pairwise([obs_shape[0], *channels])):
            convolution = Convolution(size_in, size_out, 4, stride=2)
            rectifier = Rectified(size_out, norm) if number else nn.LeakyReLU(SLOPE)
            self.stages.append(nn.Sequential(convolution, rectifier))
        self.head = ToVector((channels[-1], *smallest), code_dim, norm)
        initialise(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Maps]:
        r"""Codes (frame, code) of frames (frame, \*obs), and the maps of each stage, large ones first."""
        maps = [channels_last(frames)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return self.head(maps[-1]), tuple(maps[1:])


@rebuildable
class DCGANDecoder(nn.Module):
    r"""Logits of frames from latent vectors, by transposed convolutions with kernel 4 and stride 2.

    No layer has a bias; all but the last are normalised.

    Args:
        dim: Size of the latent vector.
        obs_shape: (channel, height, width) of one frame.
        channels: Channels of the encoder, from large maps to small ones.
        has_skips: Also read the encoder's maps of one frame of the same series.
        norm: Factory: number of channels to normalisation layer.

    Raises:
        ShapeError: When `obs_shape` cannot be halved that many times.
    """

    def __init__(
        self,
        dim: int,
        obs_shape: Sequence[int],
        channels: Sequence[int] = (64, 128, 256, 512),
        *,
        has_skips: bool = False,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        smallest = smallest_shape(obs_shape, len(channels))
        self.has_skips = has_skips
        self.seed = FromVector(dim, (channels[-1], *smallest), norm)
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for size_in, size_out in itertools.pairwise([*reversed(channels), obs_shape[0]]):
            beside = size_in if has_skips else 0
            self.layers.append(Convolution(size_in, size_out, 4, stride=2, is_transposed=True, size_beside=beside))
        self.norms.extend(Rectified(size, norm) for size in [*reversed(channels)][1:])
        initialise(self)

    def forward(self, latent: Tensor, maps: Maps = (), owner: Tensor | None = None) -> Tensor:
        r"""Logits of frames (frame, \*obs) given `latent` (frame, dim), and maps (series, ...) of frame's `owner`."""
        skips = [*reversed(maps)] if self.has_skips else [None] * len(self.layers)
        frames = self.seed(latent)
        for number, (layer, skip) in enumerate(zip(self.layers, skips, strict=True)):
            frames = layer(frames, skip, owner)
            if number < len(self.norms):
                frames = self.norms[number](frames)
        return frames
