"""A tempo for each series: how fast it runs through the flow."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.encoder import SeriesEncoder
from pyro_seq.nn.ode_rnn import RNNEncoder


@rebuildable
class SeriesTempo(nn.Module):
    r"""A random speed of each series along the vector field, inferred from its observations.

    .. math::
        \dot z = e^{a_n} f(z), \qquad a_n \sim \mathcal N(0, \sigma^2), \qquad
        q(a_n \mid x_n) \propto \mathcal N(a_n \mid 0, \sigma^2)\, \mathcal N(a_n \mid m(x_n), s^2(x_n))

    Series that differ only in tempo then share one field, and the uncertainty of a forecast from a few frames, which
    hardly determine the tempo, grows with time as it should. The population's spread :math:`\sigma` is learned; the
    mean is zero, because the field has the typical speed. The second factor comes from an encoder of the seen frames.
    It can only narrow the population, and is left out for a series without observations.

    An encoder is only reliable for series of the lengths that it was trained on. If predictions see less of a series
    than training did, train with windows of all lengths, ``SVI(views=[RandomWindows(length, shortest=1)])``, or use an
    encoder of the frames that every prediction sees, such as an `InitialStateEncoder`.

    Args:
        num_series: Number of training series, for a table instead of an encoder, as in files of earlier versions: each
            training series has its own posterior, but predictions, even of training series, have the population's
            tempo, because the tempo of a series outside training is unknown.
        encoder: Gaussian over one number from the observations of a series. Default, without `num_series`: an
            `RNNEncoder` made by the model.
        initial_spread: Initial standard deviation of the log tempo.
        initial_scale: Initial posterior standard deviation of each log tempo of a table. Default: 0.03.

    Raises:
        DataError: When an argument is out of range or would have no effect.

    Example:
        >>> from pyro_seq.nn.ode_rnn import RNNEncoder
        >>> tempo = SeriesTempo(encoder=RNNEncoder((2,), 1, hidden_dim=16))
    """

    def __init__(
        self,
        num_series: int | None = None,
        *,
        encoder: SeriesEncoder | None = None,
        initial_spread: float = 0.1,
        initial_scale: float | None = None,
    ) -> None:
        super().__init__()
        require(is_positive(initial_spread), "initial_spread", "a positive number", initial_spread)
        if num_series is None:
            require(initial_scale is None, "initial_scale", "absent without a table (`num_series`)", initial_scale)
        else:
            require(encoder is None, "encoder", "absent with a table (`num_series`)", type(encoder).__name__)
            scale = 0.03 if initial_scale is None else initial_scale
            require(is_positive(scale), "initial_scale", "a positive number", scale)
            self.loc = nn.Parameter(torch.zeros(num_series))
            self.log_scale = nn.Parameter(torch.full((num_series,), math.log(scale)))
        self.log_spread = nn.Parameter(torch.full((), math.log(initial_spread)))
        if encoder is not None and encoder.dim != 1:
            raise DataError(f"`encoder` must give one number, the log tempo. Got {encoder.dim}. Make it with `dim=1`.")
        self.encoder = encoder
        self.has_table = num_series is not None

    def complete(self, obs_shape: tuple[int, ...], input_dim: int = 0) -> None:
        """Make the encoder, for observations and inputs of these sizes, if neither an encoder nor a table was given."""
        if self.encoder is None and not self.has_table:
            self.encoder = RNNEncoder(obs_shape, 1, input_dim=input_dim)

    def adapt(self, data: Sequences) -> None:
        """Set the units of the frames from the training data."""
        if adapt := getattr(self.encoder, "adapt", None):
            adapt(data)

    def prior(self, data: Sequences) -> Tensor:
        """Sample the speeds of the series of `data` (inside their plate), (..., series)."""
        return pyro.sample("log_tempo", self._population(data)).exp()

    def posterior(self, data: Sequences, times: Tensor, *inputs: Tensor) -> None:
        """Sample the log tempo of each series (inside their plate), given its frames at model times (series, time)."""
        pyro.sample("log_tempo", self._from_table(data) if self.has_table else self.given(data, times, *inputs))

    def given(self, data: Sequences, times: Tensor, *inputs: Tensor) -> dist.Normal:
        """Population times the encoder's factor, (series,); inputs (series, time, input), if it reads any."""
        assert self.encoder is not None, "`complete` makes one"
        read = self.encoder(data.values, data.entry_mask, times, *inputs).base_dist
        precision = data.step_mask.any(-1) / read.scale.squeeze(-1).square()
        shrunk = 1 / ((-2 * self.log_spread).exp() + precision)
        return dist.Normal(shrunk * precision * read.loc.squeeze(-1), shrunk.sqrt())

    def _from_table(self, data: Sequences) -> dist.Normal:
        if not self.training:
            return self._population(data)
        if data.total != len(self.loc):
            raise DataError(
                f"`SeriesTempo(num_series={len(self.loc)})` must be made for the training set, which has {data.total} "
                "series. Leave the number out, so that the tempo is read from the frames, or pass that number."
            )
        return dist.Normal(self.loc[data.index], self.log_scale[data.index].exp())

    def _population(self, data: Sequences) -> dist.Normal:
        return dist.Normal(self.log_spread.new_zeros(data.num_series), self.log_spread.exp())
