"""Damped swings from a random start, seen through noise, and the exact posterior of each start."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel
from pyro_seq.ops.odeint import RK4, odeint

F64 = torch.float64
NOISE = 0.5


class Swings(SequenceModel):
    """A damped swing, and a field that blows up in finite time when `growth` is not zero; elementwise arithmetic."""

    dims: ClassVar = {"start": ("state",)}

    def __init__(self, growth: float = 0.0) -> None:
        super().__init__()
        self.obs_shape = (2,)
        self.growth = growth
        self.rate = nn.Parameter(torch.tensor([0.1, 1.3], dtype=F64))

    def field(self, _: Tensor, state: Tensor) -> Tensor:
        place, speed = state[..., :1], state[..., 1:]
        return torch.cat([speed, -self.rate[1] * place - self.rate[0] * speed], -1) + self.growth * state**3

    def path(self, start: Tensor, data: Sequences) -> Tensor:
        return odeint(self.field, start, self.model_times(data), RK4()).path

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            start = pyro.sample("start", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))
            path = pyro.deterministic("path", self.path(start, data), event_dim=2)
            self.observe(lambda state: dist.Normal(state, NOISE), path, data)

    def guide(self, data: Sequences) -> None:
        with self.series(data):
            pyro.sample("start", dist.Normal(data.values[:, 0], 0.1).to_event(1))


def make_data(num_series: int = 5, num_steps: int = 6) -> Sequences:
    """Noise around zero at irregular times, with hidden entries."""
    source = torch.Generator().manual_seed(0)
    values = torch.randn(num_series, num_steps, 2, dtype=F64, generator=source)
    mask = torch.rand(values.shape, generator=source) < 0.7
    gaps = 0.1 + 0.5 * torch.rand(num_series, num_steps, dtype=F64, generator=source)
    return Sequences(values, mask=mask, times=gaps.cumsum(-1))


def exact_posterior(model: Swings, data: Sequences) -> tuple[Tensor, Tensor]:
    """Mean and covariance of each series' start: the solver is linear, so its matrix is read off at unit vectors."""
    with torch.no_grad():
        columns = [model.path(unit.expand(len(data), 2), data) for unit in torch.eye(2, dtype=F64)]
    design = (torch.stack(columns, -1) * data.entry_mask[..., None]).flatten(1, 2)
    precision = torch.eye(2, dtype=F64) + design.mT @ design / NOISE**2
    cov = torch.linalg.inv(precision)
    return (cov @ design.mT @ data.values.flatten(1)[..., None])[..., 0] / NOISE**2, cov
