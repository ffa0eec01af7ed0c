"""Two small models that keep every rule of the contract, for tests to run and to break."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.distributions import PathDistribution
from pyro_seq.model import SequenceModel


class Lines(SequenceModel):
    """Straight lines: level and slope of each series, a drift that all series share, a deterministic path."""

    dims = {"line": ("coefficient",), "drift": ("drift",)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.obs_shape = (2,)
        self.encoder = nn.Linear(10, 4)
        self.emit = nn.Linear(1, 2)
        self.drift_loc = nn.Parameter(torch.zeros(1))
        self.drift_log_scale = nn.Parameter(torch.full((1,), -2.0))

    def model(self, data: Sequences) -> None:
        self.bind()
        drift = self.prior_drift(data)
        with self.series(data):
            line = self.prior_line(data)
            path = pyro.deterministic("path", self.path(line, drift, data), event_dim=2)
            self.observe(lambda state: dist.Normal(self.emit(state), 1.0), path, data)

    def prior_drift(self, data: Sequences) -> Tensor:
        return pyro.sample("drift", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))

    def prior_line(self, data: Sequences) -> Tensor:
        return pyro.sample("line", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))

    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return (line[..., :1] + (line[..., 1:] + drift) * self.model_times(data))[..., None]

    def guide(self, data: Sequences) -> None:
        self.bind()
        self.guide_drift()
        data = data.seen()
        with self.series(data):
            self.guide_line(data)

    def guide_drift(self) -> Tensor:
        return pyro.sample("drift", dist.Normal(self.drift_loc, self.drift_log_scale.exp()).to_event(1))

    def guide_line(self, data: Sequences) -> Tensor:
        loc, log_scale = self.encoder(data.values[:, :5].flatten(1)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class RandomWalk(PathDistribution):
    """A Gaussian walk from 0 with given drift at each step; steps that are not `valid` do not count."""

    arg_constraints = {}  # noqa: RUF012
    support = dist.constraints.independent(dist.constraints.real, 2)

    def __init__(self, drift: Tensor, scale: Tensor, valid: Tensor | None = None, start: Tensor | None = None) -> None:
        self.drift, self.scale, self.start = drift, scale, start
        super().__init__(drift.shape[:-2], drift.shape[-2:], valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> RandomWalk:
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape:
            return self
        return RandomWalk(self.drift.expand(batch_shape + self.event_shape), self.scale, self.valid, self.start)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        noise = torch.randn(
            sample_shape + self.batch_shape + self.event_shape, dtype=self.drift.dtype, device=self.drift.device
        )
        steps = (self.drift + self.scale * noise).cumsum(-2)
        return steps if self.start is None else steps + self.start[..., None, :]

    def log_prob(self, value: Tensor) -> Tensor:
        start = torch.zeros_like(value[..., 0, :]) if self.start is None else self.start.expand(value[..., 0, :].shape)
        steps = torch.cat([start[..., None, :], value], -2).diff(dim=-2)
        terms = dist.Normal(self.drift, self.scale).log_prob(steps).sum(-1)
        return (terms if self.valid is None else terms * self.valid).sum(-1)

    def future(self, value: Tensor, horizon: int) -> RandomWalk:
        drift = value.new_zeros((*value.shape[:-2], horizon, value.shape[-1]))
        return RandomWalk(drift, self.scale, start=value[..., -1, :])


class Walks(SequenceModel):
    """A random walk for each series as one path site, seen through a linear emission with Bernoulli noise."""

    dims = {"walk": ("time", "state")}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.obs_shape = (3,)
        self.encoder = nn.Linear(6, 1)
        self.emit = nn.Linear(1, 3)
        self.log_scale = nn.Parameter(torch.tensor(-1.0))

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            path = self.sample_path("walk", self.prior(data), data)
            self.observe(lambda state: dist.Bernoulli(logits=self.emit(state)), path, data)

    def prior(self, data: Sequences) -> RandomWalk:
        return RandomWalk(data.values.new_zeros((*data.values.shape[:2], 1)), self.log_scale.exp(), self.valid(data))

    def valid(self, data: Sequences) -> Tensor:
        return torch.arange(data.num_steps, device=data.device) < data.lengths[:, None]

    def guide(self, data: Sequences) -> None:
        self.bind()
        data = data.seen()
        drift = self.encoder(torch.cat([data.values, data.entry_mask.to(data.dtype)], -1))
        with self.series(data):
            pyro.sample("walk", RandomWalk(drift, data.values.new_tensor(0.5), self.valid(data)))


def binary_series(num_series: int = 6, num_steps: int = 9) -> Sequences:
    """Data for `Walks`, the same on every call."""
    generator = torch.Generator().manual_seed(0)
    return Sequences(torch.bernoulli(torch.full((num_series, num_steps, 3), 0.5), generator=generator))


def real_series(num_series: int = 6, num_steps: int = 9) -> Sequences:
    """Data for `Lines`, the same on every call."""
    return Sequences(torch.randn(num_series, num_steps, 2, generator=torch.Generator().manual_seed(0)))
