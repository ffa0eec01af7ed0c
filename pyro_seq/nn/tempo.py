"""A tempo for each series: how fast it runs through the flow."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError


@rebuildable
class SeriesTempo(nn.Module):
    r"""A random speed of each series along the vector field.

    .. math::
        \dot z = e^{a_n} f(z), \qquad a_n \sim \mathcal N(0, \sigma^2)

    Series that differ in tempo only then share one field, and a forecast from a few frames, which hardly tell the
    tempo, widens with time as it should. The population's spread :math:`\sigma` is learned. While training, every
    series has a posterior of its own, a row of a table that `Sequences.index` points to; a series that is new has the
    population's. The mean is zero, because the field carries the typical speed.

    Args:
        num_series: Number of training series.
        initial_spread: Standard deviation of the log tempo at the start.
        initial_scale: Posterior standard deviation of each log tempo at the start.
    """

    def __init__(self, num_series: int, *, initial_spread: float = 0.1, initial_scale: float = 0.03) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(num_series))
        self.log_scale = nn.Parameter(torch.full((num_series,), math.log(initial_scale)))
        self.log_spread = nn.Parameter(torch.full((), math.log(initial_spread)))

    def prior(self, data: Sequences) -> Tensor:
        """Sample the speeds of the series of `data` (inside their plate), (..., series)."""
        return pyro.sample("log_tempo", self._population(data)).exp()

    def posterior(self, data: Sequences) -> None:
        """Sample the log tempo of a training series from its own posterior, of another from the population."""
        if not self.training:
            pyro.sample("log_tempo", self._population(data))
            return
        if data.total != len(self.loc):
            raise DataError(
                f"`SeriesTempo(num_series={len(self.loc)})` must be made for the training set, which has {data.total} "
                "series. Pass that number."
            )
        pyro.sample("log_tempo", dist.Normal(self.loc[data.index], self.log_scale[data.index].exp()))

    def _population(self, data: Sequences) -> dist.Normal:
        return dist.Normal(self.loc.new_zeros(data.num_series), self.log_spread.exp())
