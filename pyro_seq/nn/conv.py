"""Convolutional trunks and decoders for images of any size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pyro_seq.errors import ShapeError


def _halvings(size: int, times: int) -> list[int]:
    """A size and what strided convolutions make of it, from large to small."""
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


class ConvTrunk(nn.Module):
    """Features of a stack of images by convolutions of kernel 5 and stride 2.

    Without batch normalisation: masked frames share a batch with seen ones, and series must stay independent.

    Args:
        num_frames: Images (and masks) in the stack.
        obs_shape: (channel, height, width) of one image.
        channels: Channels after each convolution.
        activation: After each convolution.
    """

    def __init__(
        self,
        num_frames: int,
        obs_shape: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        colours, height, width = _image_shape(obs_shape)
        layers: list[nn.Module] = [nn.Flatten(1, 2)]
        size_in = num_frames * colours
        for size_out in channels:
            layers += [nn.Conv2d(size_in, size_out, 5, stride=2, padding=2), activation()]
            size_in = size_out
        self.layers = nn.Sequential(*layers, nn.Flatten())
        depth = len(channels)
        self.num_features = size_in * _halvings(height, depth)[-1] * _halvings(width, depth)[-1]

    def forward(self, frames: Tensor) -> Tensor:
        """Features (batch, feature) of frames (batch, frame, channel, height, width)."""
        return self.layers(frames)


class ConvDecoder(nn.Module):
    """Images from a latent position by transposed convolutions of kernel 5 and stride 2; the mirror of `ConvTrunk`.

    Args:
        dim: Size of the position.
        obs_shape: (channel, height, width) of one image.
        channels: Channels before each transposed convolution.
        activation: Between the layers.
    """

    def __init__(
        self,
        dim: int,
        obs_shape: Sequence[int],
        channels: Sequence[int] = (64, 32, 16),
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        colours, height, width = _image_shape(obs_shape)
        heights, widths = _halvings(height, len(channels))[::-1], _halvings(width, len(channels))[::-1]
        layers: list[nn.Module] = [
            nn.Linear(dim, channels[0] * heights[0] * widths[0]),
            activation(),
            nn.Unflatten(1, (channels[0], heights[0], widths[0])),
        ]
        for level, size_in in enumerate(channels):
            size_out = channels[level + 1] if level + 1 < len(channels) else colours
            # stride 2 makes 2 n - 1 of n; output padding adds the odd one where the target is 2 n
            padding = tuple(sizes[level + 1] - (2 * sizes[level] - 1) for sizes in (heights, widths))
            layers += [
                nn.ConvTranspose2d(size_in, size_out, 5, stride=2, padding=2, output_padding=padding),
                activation(),
            ]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, position: Tensor) -> Tensor:
        """Images (batch, channel, height, width) of positions (batch, dim)."""
        return self.layers(position)


def _image_shape(obs_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(obs_shape) != 3:
        raise ShapeError(f"`obs_shape` must be (channel, height, width) for convolutions. Got {tuple(obs_shape)}.")
    colours, height, width = obs_shape
    return colours, height, width
