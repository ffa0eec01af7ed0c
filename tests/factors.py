"""Factor analysis as a sequence model, with a Gaussian or an energy-based prior, and its exact evidence."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import EnergyBased
from pyro_seq.infer.chain_objective import ChainObjective, Visits
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.parameter_groups import parameter_groups
from pyro_seq.model import SequenceModel
from pyro_seq.nn.energy import PersistentChains
from pyro_seq.ops.langevin import MALA, Sampler

NUM_STEPS, OBS_DIM, DIM = 2, 4, 2


class Bowl(nn.Module):
    """A quadratic energy: the prior stays Gaussian, of precision 1 + tilt and mean push / (1 + tilt)."""

    def __init__(self) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor([1.0, 0.3]))
        self.push = nn.Parameter(torch.tensor([0.8, -0.5]))

    def forward(self, value: Tensor) -> Tensor:
        return (0.5 * self.tilt * value.square() - self.push * value).sum(-1)


class Factors(SequenceModel):
    """Factor analysis: every step is a linear image of one latent vector, with noise of learned scale."""

    dims: ClassVar = {"factor": ("state",)}

    def __init__(
        self,
        energy: nn.Module | None = None,
        *,
        dim: int = DIM,
        obs_dim: int = OBS_DIM,
        sampler: Sampler = MALA(0.8),
        prior_steps: int = 5,
        num_negatives: int = 1,
        chains: PersistentChains | None = None,
    ) -> None:
        super().__init__()
        self.obs_shape, self.dim = (obs_dim,), dim
        self.energy, self.chains = energy, chains
        self.options = {"sampler": sampler, "num_steps": prior_steps, "num_negatives": num_negatives}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(obs_dim, dim))
            self.encoder = nn.Linear(obs_dim, 2 * dim)
        self.log_scale = nn.Parameter(torch.tensor(-0.3))

    def prior(self, data: Sequences) -> dist.TorchDistribution:
        base = dist.Normal(data.values.new_zeros(self.dim), 1.0).to_event(1)
        return base if self.energy is None else EnergyBased(base, self.energy, chains=self.chains, **self.options)

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            factor = pyro.sample("factor", self.prior(data))
            steps = data.times.shape[-1]
            path = factor[..., None, :].expand(*factor.shape[:-1], steps, self.dim)
            path = pyro.deterministic("path", path, event_dim=2)
            self.observe(lambda state: dist.Normal(state @ self.weight.mT, self.log_scale.exp()), path, data)

    def guide(self, data: Sequences) -> None:
        self.bind()
        data = data.seen()
        with self.series(data):
            loc, log_scale = self.encoder(data.values.mean(1)).chunk(2, -1)
            pyro.sample("factor", dist.Normal(loc, log_scale.exp()).to_event(1))


def make_data(num_series: int = 12, *, num_steps: int = NUM_STEPS, seed: int = 0, dtype=torch.float32) -> Sequences:
    source = torch.Generator().manual_seed(seed)
    weight = torch.tensor([[1.5, 0.0], [1.0, 1.0], [-0.5, 1.0], [0.0, 0.7]], dtype=dtype)
    factors = torch.randn(num_series, 1, DIM, dtype=dtype, generator=source)
    noise = torch.randn(num_series, num_steps, OBS_DIM, dtype=dtype, generator=source)
    return Sequences(factors @ weight.mT + 0.5 * noise)


@torch.no_grad()
def evidence(model: Factors, data: Sequences) -> Tensor:
    """Exact log evidence of each series."""
    design = model.weight.repeat(data.num_steps, 1)
    precision, mean = torch.ones(model.dim).to(design), torch.zeros(model.dim).to(design)
    if isinstance(model.energy, Bowl):
        precision = 1 + model.energy.tilt
        mean = model.energy.push / precision
    cov = (2 * model.log_scale).exp() * torch.eye(len(design)).to(design) + design @ (design / precision).mT
    return dist.MultivariateNormal(design @ mean, cov).log_prob(data.values.flatten(1))


def slopes(model: Factors, data: Sequences, parameter: nn.Parameter, width: float = 1e-5) -> Tensor:
    """Derivatives of the mean log evidence by the entries of a parameter, by central differences."""
    slopes = []
    with torch.no_grad():
        for entry in parameter.view(-1).split(1):
            ends = []
            for sign in (1, -2):
                entry += sign * width
                ends.append(evidence(model, data).mean())
            entry += width
            slopes.append((ends[0] - ends[1]) / (2 * width))
    return torch.stack(slopes)


def objective_of(model: Factors, data: Sequences, **changes) -> ChainObjective:
    """An objective with many chains, outside of the engine."""
    options = {"num_steps": 10, "num_chains": 4, "is_persistent": True, "warmup_steps": 0, "has_guide": False}
    options |= {"preconditioner": None, "energy_penalty": 0.0, "sampler": MALA(0.5)} | changes
    inference = ChainPosterior(model, Langevin(options.pop("sampler")))
    return ChainObjective(model, data, parameter_groups(model, data), Visits(**options), inference)
