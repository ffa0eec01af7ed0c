"""A recurrent network that predicts the next step of a path."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.recurrent import Memory
from pyro_seq.errors import DataError
from pyro_seq.nn.fused import run_recurrent
from pyro_seq.nn.known_inputs import keep_input_dim
from pyro_seq.nn.units import Standardise


class Recurrence(nn.Module):
    """An LSTM over any leading axes, which can be resumed.

    Args:
        size_in: Size of the input of a step.
        hidden_dim: Size of the memory.
    """

    def __init__(self, size_in: int, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.lstm = nn.LSTM(size_in, hidden_dim, batch_first=True)
        forget_bias = dict(self.lstm.named_parameters())["bias_hh_l0"][hidden_dim : 2 * hidden_dim]
        nn.init.ones_(forget_bias)  # remember at the start (Jozefowicz and others, 2015)

    def forward(self, steps: Tensor, memory: Memory = ()) -> tuple[Tensor, Memory]:
        """Features (..., time, hidden) of `steps` (..., time, size_in), and the memory (..., hidden) after the last.

        The initial memory is that of an earlier call, and may lack leading axes of `steps`.
        """
        batch = steps.shape[:-2]
        carried = None
        if memory:
            hidden, cell = (part.expand(*batch, -1).reshape(1, -1, self.hidden_dim).contiguous() for part in memory)
            carried = (hidden, cell)
        features, remembered = run_recurrent(self.lstm, steps.reshape(-1, *steps.shape[-2:]), carried)
        features = features.reshape(*steps.shape[:-1], self.hidden_dim)
        return features, tuple(part.reshape(*batch, -1) for part in remembered)


@rebuildable
class LSTMTransition(nn.Module):
    r"""Gaussian steps around the predictions of an LSTM.

    .. math::
        a_1 \sim N(m_1, s_1^2), \qquad
        h_t = \mathrm{LSTM}([a_t, u_{t+1}], h_{t-1}), \qquad
        a_{t+1} \sim N\left(W h_t + b,\ s^2\right)

    all in units of the codes, which are 1 unless :meth:`adapt_codes` sets them. The first step is initially standard
    normal; its mean and scale, and the scale s of each entry, are learned. The inputs u, if any, are those of the next
    step.

    Args:
        code_dim: Size of a step a.
        hidden_dim: Size of the network's memory h.
        minimum_scale: Floor of the scales, below 1, in units of the codes.
        input_dim: Size of the inputs.

    Raises:
        DataError: When an argument is out of range.
    """

    input_dim: int = 0

    def __init__(self, code_dim: int, hidden_dim: int = 64, *, minimum_scale: float = 1e-3, input_dim: int = 0) -> None:
        super().__init__()
        if code_dim < 1 or hidden_dim < 1:
            raise DataError(f"`code_dim` and `hidden_dim` must be positive. Got {code_dim} and {hidden_dim}.")
        if not 0 <= minimum_scale < 1:
            raise DataError(f"`minimum_scale` must be at least 0 and below 1, the first scale. Got {minimum_scale}.")
        self.code_dim = code_dim
        self.hidden_dim = hidden_dim
        self.minimum_scale = minimum_scale
        keep_input_dim(self, input_dim)
        self.initial_loc = nn.Parameter(torch.zeros(code_dim))
        self.initial_log_scale = nn.Parameter(torch.full((code_dim,), math.log(1 - minimum_scale)))
        self.log_scale = nn.Parameter(torch.full((code_dim,), math.log(1 - minimum_scale)))
        self.recurrence = Recurrence(code_dim + input_dim, hidden_dim)
        self.head = nn.Linear(hidden_dim, code_dim)
        self.units = Standardise((code_dim,))

    @property
    def has_units(self) -> bool:
        """Whether `adapt_codes` has set units."""
        return bool((self.units.unit != 1).any() or (self.units.centre != 0).any())

    def adapt_codes(self, codes: Sequences) -> None:
        """Set the units from codes."""
        self.units.adapt(codes)

    def initial(self, num_series: int) -> dist.Normal:
        """Distribution of the first step, batch shape (series, code)."""
        first = self._normal(self.initial_loc, self.initial_log_scale)
        return first.expand((num_series, self.code_dim))

    def forward(
        self, previous: Tensor, memory: Memory = (), inputs: Tensor | None = None
    ) -> tuple[dist.Normal, Memory]:
        """Distributions of the steps after `previous` (..., time, code), and the memory (..., hidden) at the end.

        Inputs, if any, are those of the predicted steps, (..., time, input).
        """
        steps = self.units(previous)
        if inputs is not None:
            steps = torch.cat([steps, inputs.expand(*steps.shape[:-1], -1)], -1)
        features, memory = self.recurrence(steps, memory)
        return self._normal(self.head(features).to(previous.dtype), self.log_scale), memory

    def _normal(self, loc: Tensor, log_scale: Tensor) -> dist.Normal:
        scale = self.units.unit * (self.minimum_scale + log_scale.exp())
        return dist.Normal(self.units.restore(loc), scale.expand_as(loc), validate_args=False)
