"""A small linear Gaussian model with a per-series and a global latent, for tests of the engine."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel

SEEN = 5  # steps that the encoder looks at
NOISE = 0.5


class Lines(SequenceModel):
    """Straight lines: level and slope of each series, and a drift that all share."""

    dims: ClassVar = {"line": ("coefficient",), "drift": ("drift",)}

    def __init__(self) -> None:
        super().__init__()
        self.obs_shape = (2,)
        self.encoder = nn.Linear(2 * SEEN, 4)
        self.emit = nn.Linear(1, 2)
        self.drift_loc = nn.Parameter(torch.zeros(1))
        self.drift_log_scale = nn.Parameter(torch.full((1,), -2.0))

    def model(self, data: Sequences) -> None:
        self.bind()
        drift = pyro.sample("drift", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
        with self.series(data):
            line = pyro.sample("line", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))
            times = self.model_times(data)
            path = pyro.deterministic("path", (line[..., :1] + (line[..., 1:] + drift) * times)[..., None], event_dim=2)
            self.observe(lambda states: dist.Normal(self.emit(states), NOISE), path, data)

    def guide(self, data: Sequences) -> None:
        self.bind()
        pyro.sample("drift", dist.Normal(self.drift_loc, self.drift_log_scale.exp()).to_event(1))
        data = data.seen()
        with self.series(data):
            loc, log_scale = self.encoder(data.values[:, :SEEN].flatten(1)).chunk(2, -1)
            pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


def make_lines(seed: int = 0) -> Lines:
    """A model with the same weights for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Lines()


def make_data(num_series: int = 8, num_steps: int = 9, seed: int = 0) -> Sequences:
    """Noisy lines."""
    generator = torch.Generator().manual_seed(seed)
    level, slope = torch.randn(2, num_series, 1, 1, generator=generator)
    times = torch.arange(float(num_steps))[:, None] / 4
    noise = NOISE * torch.randn(num_series, num_steps, 2, generator=generator)
    return Sequences((level + slope * times) * torch.tensor([1.0, -0.5]) + noise)


def exact_posterior(model: Lines, data: Sequences) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (drift, level_1, slope_1, level_2, ...) given all data: one big Gaussian, conditioned."""
    weight, bias = model.emit.weight.detach()[:, 0].double(), model.emit.bias.detach().double()
    times = model.model_times(data).double()
    design = torch.zeros(data.num_series, data.num_steps, 2, 1 + 2 * data.num_series, dtype=torch.float64)
    for series in range(data.num_series):
        design[series, :, :, 0] = times[:, None] * weight
        design[series, :, :, 1 + 2 * series] = weight
        design[series, :, :, 2 + 2 * series] = times[:, None] * weight
    design = design.flatten(0, 2)
    residual = (data.values.double() - bias).flatten()
    precision = torch.eye(design.shape[1], dtype=torch.float64) + design.T @ design / NOISE**2
    cov = torch.linalg.inv(precision)
    return cov @ design.T @ residual / NOISE**2, cov
