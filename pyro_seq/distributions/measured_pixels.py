"""Pixels with noise measured at similar decoder means, for predictions if the likelihood's noise is a convention."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

_CELLS = 128  # of the mean, even in its logit
_LARGEST = 8.0  # logit, beyond which all means share a cell
_LEVELS = 65  # quantiles of a cell
_FEWEST = 256  # minimum number of pixels per cell; pixels with the nearest means are added to a cell with fewer
_PIECE = 2**20  # pixels drawn at a time


def measure(means: Tensor, pixels: Tensor) -> Tensor:
    """Quantiles (cell, level) of `pixels` in [0, 1] by the cells of their `means`, of the same shape (pixel,)."""
    means, order = means.sort()
    pixels, cells = pixels[order], _cell(means)
    starts = torch.searchsorted(cells, torch.arange(_CELLS + 1, device=cells.device)).tolist()
    levels = torch.linspace(0, 1, _LEVELS, dtype=pixels.dtype, device=pixels.device)
    rows = []
    for start, stop in itertools.pairwise(starts):
        more = max(0, _FEWEST - (stop - start) + 1) // 2  # on either side
        rows.append(torch.quantile(pixels[max(0, start - more) : stop + more], levels))
    return torch.stack(rows)


class MeasuredPixels(TorchDistribution):
    """Independent pixels with the quantiles measured in the cells of their means; for draws only, without a density.

    Args:
        mean: The decoder's mean of each pixel, in [0, 1]; of any shape.
        quantiles: Quantiles returned by `measure`, (cell, level).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.unit_interval

    def __init__(self, mean: Tensor, quantiles: Tensor) -> None:
        self._mean, self.quantiles = mean, quantiles
        super().__init__(mean.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The decoder's means."""
        return self._mean

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> MeasuredPixels:
        """The same distribution over a larger batch."""
        return MeasuredPixels(self._mean.expand(batch_shape), self.quantiles)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw by inverse distribution functions, linear between the quantiles."""
        mean = self._mean.expand(torch.Size(sample_shape) + self.batch_shape)
        return torch.cat([self._drawn(piece) for piece in mean.flatten().split(_PIECE)]).reshape(mean.shape)

    def _drawn(self, mean: Tensor) -> Tensor:
        place = torch.rand_like(mean) * (self.quantiles.shape[1] - 1)
        below = place.long().clamp(max=self.quantiles.shape[1] - 2)
        first = _cell(mean) * self.quantiles.shape[1] + below
        table = self.quantiles.flatten()
        drawn = torch.lerp(table[first], table[first + 1], place - below)
        return torch.where(mean.isnan(), mean, drawn)


def _cell(means: Tensor) -> Tensor:
    place = (means.logit().clamp(-_LARGEST, _LARGEST) + _LARGEST) / (2 * _LARGEST)
    return (place * _CELLS).long().clamp(0, _CELLS - 1)
