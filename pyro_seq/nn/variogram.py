"""``VariogramEncoder``: encodes how much a series changes over 1, 2, 3, 4, 6, 8, ... steps."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.units import Standardise


@rebuildable
class VariogramEncoder(nn.Module):
    r"""Gaussian over a vector that describes the movement of a series, by a network on its empirical variogram.

    .. math::
        \log \gamma_h, \qquad \gamma_h = \frac{1}{|P_h|} \sum_{t \in P_h} (x_{t+h} - x_t)^2, \qquad
        \log \gamma'_h, \qquad \gamma'_h = \frac{1}{|P'_h|} \sum_{t \in P'_h} (x_{t+h} - 2 x_t + x_{t-h})^2

    with the observed pairs and triples, at lags h of 1, 2, 3, 4, 6, 8, ... steps of the grid. Levels and straight lines
    cancel, noise and drift show at different lags, and gaps leave fewer pairs. For vectors, the mean over entries.

    Args:
        dim: Size of the vector.
        hidden_dim: Size of the hidden layers.
        num_lags: Number of lags.

    Raises:
        DataError: When a size is not positive.

    References:
        Cressie, "Statistics for spatial data", 1993, section 2.4.
    """

    floor: ClassVar[float] = 1e-8  # of a mean square, in the unit of the training data

    def __init__(self, dim: int, *, hidden_dim: int = 32, num_lags: int = 11) -> None:
        super().__init__()
        self.dim, self.hidden_dim = whole_number(dim, "dim", 1), whole_number(hidden_dim, "hidden_dim", 1)
        self.num_lags = whole_number(num_lags, "num_lags", 1, 40)
        self.units = Standardise()
        self.network = mlp((4 * self.num_lags, self.hidden_dim, self.hidden_dim, 2 * self.dim))
        with torch.no_grad():  # start with little information
            self.network[-1].weight.mul_(0.1)  # type: ignore[operator]
            self.network[-1].bias.zero_()  # type: ignore[operator]

    @property
    def lags(self) -> tuple[int, ...]:
        """Powers of two, and one and a half times these."""
        numbers = [2**k for k in range(self.num_lags + 1)] + [3 * 2**k for k in range(self.num_lags + 1)]
        return tuple(sorted(numbers)[: self.num_lags])

    def adapt(self, data: Sequences) -> None:
        """Set the units of the values from the training data."""
        self.units.adapt(data)

    def forward(self, frames: Tensor, mask: Tensor, times: Tensor) -> dist.TorchDistribution:
        r"""Batch (series,), event (dim,), of frames and mask (series, time, \*obs); the times are not read."""
        values = torch.where(mask, self.units(frames), 0.0).flatten(2)
        seen = mask.flatten(2).to(values)
        features = [part for lag in self.lags for part in _variations(values, seen, lag, self.floor)]
        loc, log_scale = self.network(torch.stack(features, -1)).chunk(2, -1)
        return dist.Normal(loc, log_scale.clamp(-10.0, 5.0).exp()).to_event(1)


def _variations(values: Tensor, seen: Tensor, lag: int, floor: float) -> tuple[Tensor, ...]:
    """Logarithms of both mean squares, each with the log of its count, (series,); zeros without pairs."""
    if lag >= values.shape[1]:
        nothing = values.new_zeros(len(values))
        return nothing, nothing, nothing, nothing
    first, pairs = values[:, lag:] - values[:, :-lag], seen[:, lag:] * seen[:, :-lag]
    second, triples = first[:, lag:] - first[:, :-lag], pairs[:, lag:] * pairs[:, :-lag]
    return (*_mean_square(first, pairs, floor), *_mean_square(second, triples, floor))


def _mean_square(differences: Tensor, counted: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    number = counted.sum((1, 2))
    mean = (differences.square() * counted).sum((1, 2)) / number.clamp(min=1.0)
    return torch.where(number > 0, (mean + floor).log() / 4, 0.0), number.log1p() / 4  # of order 1
