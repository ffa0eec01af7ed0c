"""VGG: an encoder and a decoder of images by stages of small convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

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
from pyro_seq.nn.normalised import Norm, Rectified

Stages = tuple[tuple[int, ...], ...]

_STAGES: Stages = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))


@rebuildable
@dataclass(frozen=True)
class VGG:
    """A recipe for a pair of `VGGEncoder` and `VGGDecoder`.

    Args:
        stages: Channels of the convolutions of each stage; each stage halves height and width.
        code_dim: Size of the code of a frame.
        has_skips: Feed the encoder's maps of one frame of a series to the decoder of all of its frames.
        norm: Factory: number of channels to normalisation layer.
    """

    stages: Stages = _STAGES
    code_dim: int = 128
    has_skips: bool = True
    norm: Norm = nn.BatchNorm2d

    def encoder(self, obs_shape: Sequence[int]) -> VGGEncoder:
        """An encoder of frames with shape `obs_shape`."""
        return VGGEncoder(obs_shape, self.code_dim, self.stages, norm=self.norm)

    def decoder(self, dim: int, obs_shape: Sequence[int]) -> VGGDecoder:
        """A decoder from latent vectors of size `dim` to frames with shape `obs_shape`."""
        return VGGDecoder(dim, obs_shape, self.stages, has_skips=self.has_skips, norm=self.norm)


@rebuildable
class VGGEncoder(nn.Module):
    r"""Codes of frames by stages of convolutions with kernel 3, with 2 x 2 max pooling after each stage.

    Args:
        obs_shape: (channel, height, width) of one frame; height and width are halved once for each stage.
        code_dim: Size of the code.
        stages: Channels of the convolutions of each stage.
        norm: Factory: number of channels to normalisation layer.

    Raises:
        ShapeError: When `obs_shape` cannot be halved that many times.

    References:
        Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        code_dim: int = 128,
        stages: Stages = _STAGES,
        *,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        smallest = smallest_shape(obs_shape, len(stages))
        self.code_dim = code_dim
        self.stages = nn.ModuleList()
        size_in = obs_shape[0]
        for sizes in stages:
            layers: list[nn.Module] = []
            for size_out in sizes:
                layers += [Convolution(size_in, size_out, 3), Rectified(size_out, norm)]
                size_in = size_out
            self.stages.append(nn.Sequential(*layers))
        self.head = ToVector((size_in, *smallest), code_dim, norm)
        initialise(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Maps]:
        r"""Codes (frame, code) of frames (frame, \*obs), and the maps of each stage, large ones first."""
        maps: list[Tensor] = []
        frames = channels_last(frames)
        for stage in self.stages:
            maps.append(stage(frames))
            frames = functional.max_pool2d(maps[-1], 2)
        return self.head(frames), tuple(maps)


@rebuildable
class VGGDecoder(nn.Module):
    r"""Logits of frames from latent vectors: the encoder's stages in reverse, with 2 x upsampling before each.

    Args:
        dim: Size of the latent vector.
        obs_shape: (channel, height, width) of one frame.
        stages: Stages of the encoder, from large maps to small ones.
        has_skips: Also read the encoder's maps of one frame of the same series.
        norm: Factory: number of channels to normalisation layer.

    Raises:
        ShapeError: When `obs_shape` cannot be halved that many times.
    """

    def __init__(
        self,
        dim: int,
        obs_shape: Sequence[int],
        stages: Stages = _STAGES,
        *,
        has_skips: bool = True,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        smallest = smallest_shape(obs_shape, len(stages))
        self.has_skips = has_skips
        self.seed = FromVector(dim, (stages[-1][-1], *smallest), norm)
        self.doors, self.stages = nn.ModuleList(), nn.ModuleList()
        for sizes, following in itertools.pairwise([*reversed(stages), ()]):
            # the last convolution of a stage outputs the channels of the next stage; the very last, those of the frame
            outs = [*sizes[:-1], following[-1] if following else obs_shape[0]]
            beside = sizes[-1] if has_skips else 0
            self.doors.append(Convolution(sizes[-1], outs[0], 3, size_beside=beside))
            layers: list[nn.Module] = []
            for size_in, size_out in itertools.pairwise(outs):
                layers += [Rectified(size_in, norm), Convolution(size_in, size_out, 3)]
            self.stages.append(nn.Sequential(*layers, *([Rectified(outs[-1], norm)] if following else [])))
        initialise(self)

    def forward(self, latent: Tensor, maps: Maps = (), owner: Tensor | None = None) -> Tensor:
        r"""Logits of frames (frame, \*obs) given `latent` (frame, dim), and maps (series, ...) of frame's `owner`."""
        skips = [*reversed(maps)] if self.has_skips else [None] * len(self.stages)
        frames = self.seed(latent)
        for door, stage, skip in zip(self.doors, self.stages, skips, strict=True):
            frames = stage(door(functional.interpolate(frames, scale_factor=2), skip, owner))
        return frames
