"""Strided convolutions as matrix products, for small maps of many channels on a CPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Both are faster, by measurement, for maps of few pixels and many channels, the smallest in the paper's networks
_SMALL = 64  # pixels, at most
_WIDE = 256  # channels of the images, at least


class Window(NamedTuple):
    """Geometry of a convolution: kernel size, stride and zero padding, in pixels."""

    kernel: int
    stride: int
    padding: int

    def is_better_gathered(self, images: Tensor) -> bool:
        """True if :func:`convolution` of `images` is faster than torch's."""
        return self._suits(images, images.shape[2:])

    def is_better_spread(self, images: Tensor) -> bool:
        """True if :func:`transposed_convolution` of `images` is faster than torch's."""
        return self._suits(images, [self.grown(size) for size in images.shape[2:]])

    def grown(self, size: int) -> int:
        """Size of the result of a transposed convolution, without its padding."""
        return (size - 1) * self.stride + self.kernel - 2 * self.padding

    def places(self, size: int) -> int:
        """Number of kernel positions along `size` pixels."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def _suits(self, images: Tensor, pixels: Sequence[int]) -> bool:
        is_even = all(self.grown(self.places(size)) == size for size in pixels)
        is_deep = math.prod(pixels) <= _SMALL and images.shape[1] >= _WIDE
        return images.device.type == "cpu" and self.stride > 1 and is_even and is_deep


def convolution(images: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Like torch's, of images (image, channel, height, width) and weights (out, kernel, kernel, channel)."""
    columns: Tensor = _Gather.apply(images.permute(0, 2, 3, 1), window)
    return (columns.flatten(3) @ weight.flatten(1).t()).permute(0, 3, 1, 2)


def transposed_convolution(images: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Like torch's, of images (image, channel, height, width) and weights (channel, kernel, kernel, out)."""
    columns = images.permute(0, 2, 3, 1) @ weight.flatten(1)
    return _Spread.apply(columns.unflatten(3, weight.shape[1:]), window).permute(0, 3, 1, 2)


class _Gather(torch.autograd.Function):
    """Pixels under the kernel at each of its positions, (image, row, column, kernel, kernel, channel)."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, window: Window) -> Tensor:
        ctx.window = window
        return _gather(pixels, window)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradient, ctx.window), None


class _Spread(torch.autograd.Function):
    """The adjoint: each position's columns added to the pixels under the kernel, (image, height, width, channel)."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, window: Window) -> Tensor:
        ctx.window = window
        return _spread(columns, window)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Gather.apply(gradient, ctx.window), None


def _gather(pixels: Tensor, window: Window) -> Tensor:
    count, height, width, channels = pixels.shape
    edge = window.padding
    framed = pixels.new_zeros(count, height + 2 * edge, width + 2 * edge, channels)
    framed[:, edge : edge + height, edge : edge + width] = pixels
    rows, places = window.places(height), window.places(width)
    columns = pixels.new_empty(count, rows, places, window.kernel, window.kernel, channels)
    for i, j, part in _shifts(framed, rows, places, window):
        columns[:, :, :, i, j] = part
    return columns


def _spread(columns: Tensor, window: Window) -> Tensor:
    count, rows, places, *_, channels = columns.shape
    edge = window.padding
    height, width = ((n - 1) * window.stride + window.kernel for n in (rows, places))
    framed = columns.new_zeros(count, height, width, channels)
    for i, j, part in _shifts(framed, rows, places, window):
        part.add_(columns[:, :, :, i, j])
    return framed[:, edge : height - edge, edge : width - edge].contiguous()


def _shifts(framed: Tensor, rows: int, places: int, window: Window) -> Iterator[tuple[int, int, Tensor]]:
    """The pixels under each entry of the kernel at all kernel positions, as views."""
    for i, j in itertools.product(range(window.kernel), repeat=2):
        last = i + window.stride * (rows - 1) + 1, j + window.stride * (places - 1) + 1
        yield i, j, framed[:, i : last[0] : window.stride, j : last[1] : window.stride]
