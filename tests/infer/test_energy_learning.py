"""A model with an energy-based prior under every method: exact where the energy is quadratic, orderly where not."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import EnergyBased
from pyro_seq.infer.fit import fit
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.mcmc import MCMC
from pyro_seq.infer.svi import SVI
from pyro_seq.model import SequenceModel, series_log_prob
from pyro_seq.nn.energy import EnergyMLP
from pyro_seq.ops.langevin import MALA
from pyro_seq.ops.odeint import RK4, odeint
from pyro_seq.predict.verbs import forecast
from pyro_seq.testing import check_model

NOISE = 0.5


class EnergySwings(SequenceModel):
    """A damped swing of unknown stiffness whose initial state has an energy-based prior."""

    dims: ClassVar = {"start": ("state",)}

    def __init__(self, energy: nn.Module, num_steps: int = 40, num_negatives: int = 1) -> None:
        super().__init__()
        self.obs_shape = (2,)
        self.energy = energy
        self.num_steps, self.num_negatives = num_steps, num_negatives
        self.rate = nn.Parameter(torch.tensor([0.1, 1.3]))
        self.encoder = nn.Linear(4, 4)

    def prior(self, data: Sequences) -> EnergyBased:
        base = dist.Normal(data.values.new_zeros(2), 1.0).to_event(1)
        return EnergyBased(
            base, self.energy, sampler=MALA(0.8), num_steps=self.num_steps, num_negatives=self.num_negatives
        )

    def path(self, start: Tensor, data: Sequences) -> Tensor:
        def field(_: Tensor, state: Tensor) -> Tensor:
            place, speed = state[..., :1], state[..., 1:]
            return torch.cat([speed, -self.rate[1] * place - self.rate[0] * speed], -1)

        return odeint(field, start, self.model_times(data), RK4()).path

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            start = pyro.sample("start", self.prior(data))
            path = pyro.deterministic("path", self.path(start, data), event_dim=2)
            self.observe(lambda state: dist.Normal(state, NOISE), path, data)

    def guide(self, data: Sequences) -> None:
        self.bind()
        data = data.seen()
        with self.series(data):
            features = torch.cat([data.values[:, 0], data.values[:, 1]], -1)
            loc, log_scale = self.encoder(features).chunk(2, -1)
            pyro.sample("start", dist.Normal(loc, log_scale.exp()).to_event(1))


def make_data(num_series: int = 4, num_steps: int = 5) -> Sequences:
    source = torch.Generator().manual_seed(0)
    values = torch.randn(num_series, num_steps, 2, generator=source)
    return Sequences(values, times=0.4 * torch.arange(num_steps))


def exact(model: EnergySwings, data: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of each posterior, and the log evidence of each series."""
    with torch.no_grad():
        columns = [model.path(unit.expand(len(data), 2), data) for unit in torch.eye(2).to(data.dtype)]
        design = torch.stack(columns, -1).flatten(1, 2)
        precision = 1 + model.energy.tilt
        mean = model.energy.push / precision
    values = data.values.flatten(1)
    cov = torch.linalg.inv(precision.diag() + design.mT @ design / NOISE**2)
    shift = design.mT @ values[..., None] / NOISE**2 + (precision * mean)[:, None]
    spread = NOISE**2 * torch.eye(values.shape[1]).to(data.dtype) + design @ (design / precision).mT
    evidence = torch.distributions.MultivariateNormal((design @ mean[:, None])[..., 0], spread).log_prob(values)
    return (cov @ shift)[..., 0], cov, evidence


def test_fisher_identity(factors) -> None:
    """The mean gradient of the joint density at posterior draws is that of the log evidence, by finite differences."""
    model, data = EnergySwings(factors.Bowl(), num_negatives=500).double(), make_data().to(dtype=torch.float64)
    model.encoder.requires_grad_(False)
    mean, cov, _ = exact(model, data)
    num_draws = 1500
    noise = torch.randn(num_draws, 4, 2, dtype=torch.float64)
    draws = mean + (torch.linalg.cholesky(cov) @ noise[..., None])[..., 0]
    parameters = [model.rate, model.energy.tilt, model.energy.push]
    gradients = torch.stack(
        [
            torch.cat(torch.autograd.grad(series_log_prob(model, data, {"start": part}).sum() / len(part), parameters))
            for part in draws.chunk(30)
        ]
    )
    error = gradients.std(0) / len(gradients) ** 0.5
    wanted = torch.stack([_slope(model, data, parameter, i) for parameter in parameters for i in range(2)])
    scores = (gradients.mean(0) - wanted) / error
    assert scores.abs().max() < 4.5
    assert (wanted.abs() > 5 * error).any()


def _slope(model: EnergySwings, data: Sequences, parameter: Tensor, entry: int, width: float = 1e-5) -> Tensor:
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter[entry] += sign * width
            ends.append(exact(model, data)[2].sum())
            parameter[entry] -= sign * width
    return (ends[0] - ends[1]) / (2 * width)


def test_posterior_chains_know_the_energy(quiet, factors) -> None:
    model, data = EnergySwings(factors.Bowl()).double(), make_data().to(dtype=torch.float64)
    method = MCMC(Langevin(MALA(0.5)), num_samples=300, warmup_steps=100, num_chains=4)
    posterior = fit(model, data, method, trainer=quiet)
    mean, cov, _ = exact(model, data)
    scale = cov.diagonal(dim1=-2, dim2=-1).sqrt()
    size = effective_sample_size(posterior.sites["start"], sample_dim=1, chain_dim=0)
    assert size.min() > 150
    scores = (posterior.sites["start"].mean((0, 1)) - mean) / (scale / size.sqrt())
    assert scores.abs().max() < 4.5


def test_variational_inference_learns_the_energy(quiet) -> None:
    torch.manual_seed(0)
    model, data = EnergySwings(EnergyMLP(2, (8, 8)), num_steps=5), make_data(6)
    before = {name: value.clone() for name, value in model.state_dict().items() if "energy" in name}
    posterior = fit(model, data, SVI(num_steps=4), trainer=quiet)
    after = model.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())
    assert forecast(posterior, data, horizon=2, num_samples=3).samples.isfinite().all()


def test_the_model_keeps_the_contract() -> None:
    torch.manual_seed(0)
    model = EnergySwings(EnergyMLP(2, (8, 8)), num_steps=4)
    report = check_model(model, make_data(5), slow=True)
    assert not report.names("failed")
    assert "density_matches_sampler" in report.names("not applicable")


def test_the_evidence_of_the_test_is_right(factors) -> None:
    """Against quadrature over the initial state."""
    model, data = EnergySwings(factors.Bowl()).double(), make_data(2).to(dtype=torch.float64)
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[:, None].expand(-1, 2, -1)
    with torch.no_grad():
        joint = series_log_prob(model, data, {"start": grid})
        tilted = model.prior(data).tilted(grid)
    evidence = joint.logsumexp(0) - tilted.logsumexp(0)
    torch.testing.assert_close(evidence, exact(model, data)[2], rtol=1e-6, atol=0)
