"""A deep Markov model as a stranger would write it: Krishnan, Shalit and Sontag (2017), in one file."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import pyro_seq as ps
from pyro_seq.distributions.recurrent import Memory, RecurrentPath
from pyro_seq.nn.frame import frame_emission


class GatedTransition(nn.Module):
    r"""Markov steps, :math:`z_{t+1} \sim N\left((1 - g) (W z_t + b) + g\, h(z_t),\ s(h)^2\right)`, with a gate g."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.gate = nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, dim), nn.Sigmoid())
        self.proposal = nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, dim))
        self.scale = nn.Linear(dim, dim)

    def forward(self, previous: Tensor, memory: Memory = ()) -> tuple[dist.Normal, Memory]:
        """Distributions of the steps after `previous` (..., time, state); nothing is remembered."""
        gate, proposal = self.gate(previous), self.proposal(previous)
        loc = (1 - gate) * self.linear(previous) + gate * proposal
        return dist.Normal(loc, softplus(self.scale(proposal.relu())) + 1e-3), memory


class DeepMarkovModel(ps.SequenceModel):
    """States that follow gated Gaussian steps, each seen through an emission; a guide that reads both ways in time."""

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"states": ("time", "state")}
    has_even_times: ClassVar[bool] = True

    def __init__(
        self, obs_dim: int, state_dim: int = 4, hidden_dim: int = 32, emission: ps.Emission | None = None
    ) -> None:
        super().__init__()
        self.obs_shape, self.state_dim = (obs_dim,), state_dim
        self.transition = GatedTransition(state_dim, hidden_dim)
        self.emission = frame_emission(self.obs_shape, state_dim)
        self.units = ps.Standardise(self.obs_shape)
        self.reader = nn.GRU(2 * obs_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_dim, 2 * state_dim)

    def prior(self, data: ps.Sequences, **encoded: Any) -> RecurrentPath:
        """Distribution of the states of the seen steps, event (time, state)."""
        first = dist.Normal(data.values.new_zeros(data.num_series, self.state_dim), 1.0)
        return RecurrentPath(first, self.transition, data.num_steps, valid=self.valid(data), **encoded)

    def model(self, data: ps.Sequences) -> None:
        """Draw the states one after the other, and emit."""
        self.bind()
        with self.series(data):
            self.observe(self.emission, self.sample_path("states", self.prior(data), data), data)

    def guide(self, data: ps.Sequences) -> None:
        """Draw the states at seen steps around what the network reads, the others from the steps before them."""
        self.bind()
        data = data.seen()
        mask = data.entry_mask
        steps = torch.cat([torch.where(mask, self.units(data.values), 0), mask.to(data.dtype)], -1)
        packed = pack_padded_sequence(steps, data.lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        features, _ = pad_packed_sequence(self.reader(packed)[0], batch_first=True, total_length=data.num_steps)
        loc, spread = self.head(features).chunk(2, -1)
        encoded = dist.Normal(loc, softplus(spread) + 1e-3)
        with self.series(data):
            pyro.sample("states", self.prior(data, encoded=encoded, seen=data.step_mask))
