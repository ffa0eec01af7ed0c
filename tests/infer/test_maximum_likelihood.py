"""`MaximumLikelihood`: exact on linear-Gaussian models, orderly where chains or energies misbehave."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_seq.data import Sequences
from pyro_seq.diagnostics.arviz import to_arviz
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.checkpoint import load, save
from pyro_seq.infer.fit import fit
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.maximum_likelihood import MaximumLikelihood
from pyro_seq.model import SequenceModel
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.models.recurrent_vae import RecurrentVAE
from pyro_seq.nn.bayesian import DeterministicField
from pyro_seq.nn.energy import EnergyMLP, PersistentChains
from pyro_seq.nn.flow import Flow
from pyro_seq.ops.langevin import MALA, ULA
from pyro_seq.ops.odeint import Dopri5
from pyro_seq.predict.evaluate import Reconstruction, evaluate
from pyro_seq.predict.verbs import forecast, impute
from pyro_seq.training.schedules import Cosine
from pyro_seq.training.views import CyclicShift, GrowingLength, RandomGaps, RandomSteps, RandomWindows

# ---------------------------------------------------------------------- learning


def test_factor_analysis_reaches_the_exact_maximum(quiet, factors) -> None:
    """Probabilistic principal components, whose maximum is known in closed form."""
    data = factors.make_data(150, num_steps=1)
    method = MaximumLikelihood(
        num_steps=500,
        chain_steps=3,
        num_chains=2,
        learning_rate=0.03,
        schedule=Cosine(500, final=0.01),
        preconditioner=GaussNewton(),
        average=0.98,
    )
    model = factors.Factors()
    start = float(factors.evidence(model, data).mean())
    fit(model, data, method, trainer=quiet)
    # the mean is known to be zero, so second moments are about zero
    values, eye = data.values[:, 0].double(), torch.eye(factors.OBS_DIM, dtype=torch.float64)
    levels, axes = torch.linalg.eigh(values.mT @ values / len(values))
    (small, large), main = levels.split(2), axes[:, 2:]
    best = main @ (large - small.mean()).diag() @ main.mT + small.mean() * eye
    highest = dist.MultivariateNormal(torch.zeros_like(values[0]), best).log_prob(values).mean()
    gap = float(highest - factors.evidence(model, data).mean())
    assert start < highest - 0.5
    assert -1e-5 < gap < 3e-3
    found = (model.weight @ model.weight.mT + (2 * model.log_scale).exp() * eye).detach()
    assert (found - best).norm() < 0.05 * best.norm()


@pytest.mark.slow
def test_a_guide_that_learns_from_draws_has_the_posterior_marginals(quiet, factors) -> None:
    """The bound would give the conditional variances, which are smaller where entries are correlated."""
    data, model = factors.make_data(200, num_steps=1), factors.Factors()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.7], [0.7, 1.0], [0.6, 0.6], [0.0, 0.5]]))
    method = MaximumLikelihood(
        num_steps=400,
        chain_steps=5,
        kernel=Langevin(MALA(0.8), start="guide"),
        guide_loss="draws",
        preconditioner=GaussNewton(),
        learning_rate=1e-9,
        guide_learning_rate=0.03,
        schedule=Cosine(400, final=0.01),
        average=0.98,
    )
    posterior = fit(model, data, method, trainer=quiet)
    assert posterior.history["draws"][-1] < posterior.history["draws"][0]
    with torch.no_grad():
        loc, log_scale = model.encoder(data.values[:, 0]).chunk(2, -1)
        weight, precision = model.weight, (-2 * model.log_scale).exp()
        covariance = torch.linalg.inv(torch.eye(factors.DIM) + precision * weight.mT @ weight)
        deviation, conditional = covariance.diagonal().sqrt(), torch.linalg.inv(covariance).diagonal().rsqrt()
        gap = (loc - precision * data.values[:, 0] @ weight @ covariance) / deviation
    assert (conditional < 0.85 * deviation).all()
    # a regression on 200 series with 3 coefficients each: sqrt(3 / 200) of noise in their mean, less by averaging
    assert gap.square().mean().sqrt() < 0.15
    assert (log_scale.exp().mean(0) / deviation - 1).abs().max() < 0.08


@pytest.mark.slow
def test_energy_learns_the_aggregated_posterior(quiet, factors) -> None:
    """Two clumps on a line: the learned prior has their moments, by quadrature of its density."""
    source = torch.Generator().manual_seed(1)
    side = torch.randint(0, 2, (400, 1, 1), generator=source) * 2.0 - 1
    clean = 0.8 * side + 0.3 + 0.4 * torch.randn(400, 1, 1, generator=source)
    data = Sequences(clean + 0.1 * torch.randn(400, 1, 1, generator=source))
    torch.manual_seed(0)
    options = {"sampler": MALA(1.0), "prior_steps": 10, "chains": PersistentChains(400, 1, refresh=0.02)}
    model = factors.Factors(EnergyMLP(1, (16, 16)), dim=1, obs_dim=1, **options)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.log_scale.fill_(math.log(0.1))
    model.weight.requires_grad_(False)
    model.log_scale.requires_grad_(False)
    schedule = Cosine(250, final=0.05)
    method = MaximumLikelihood(
        num_steps=250, batch_size=200, chain_steps=3, energy_learning_rate=0.01, schedule=schedule
    )
    posterior = fit(model, data, method, trainer=quiet)
    grid = torch.linspace(-6, 6, 2001)
    with torch.no_grad():
        shares = model.prior(data).tilted(grid[:, None]).softmax(0)
    # within a tenth, of which prior chains that start anew from the base now and then are a part
    assert float((shares * grid).sum()) == pytest.approx(float(clean.mean()), abs=0.1)
    for power in (2, 4):
        moment = float((shares * grid**power).sum())
        assert moment == pytest.approx(float(clean.pow(power).mean()), rel=0.1)
    valley = (grid - 0.3).abs() < 0.2
    assert float(shares[valley].sum()) < 0.09  # 0.05 in the data, 0.15 under the base
    assert abs(posterior.history["factor_energy_gap"][-1]) < 1


METHODS = {
    "cold": {"is_persistent": False},
    "prior": {"kernel": Langevin(start="prior"), "is_persistent": False},
    "persistent": {},
    "unadjusted": {"kernel": Langevin(ULA(0.1))},
    "encoder": {"kernel": Langevin(start="guide"), "is_persistent": False},
    "encoder first": {"kernel": Langevin(start="guide"), "warmup_steps": 5},
    "gauss-newton": {"preconditioner": GaussNewton(), "num_chains": 2},
}


@pytest.mark.parametrize("name", METHODS)
def test_starts(quiet, name: str, tmp_path, factors) -> None:
    data = factors.make_data()
    model = factors.Factors(EnergyMLP(factors.DIM, (4,)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    method = MaximumLikelihood(num_steps=12, batch_size=5, chain_steps=2, inference_steps=10, **METHODS[name])
    posterior = fit(model, data, method, trainer=quiet)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"weight", "log_scale"} < moved and any("energy" in name for name in moved)
    assert ("encoder.weight" in moved) == method.has_guide
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(posterior, ChainPosterior) and posterior.status == "completed"
    assert {"loss", "x", "factor", "acceptance", "divergent", "frozen", "factor_energy_gap"} <= posterior.history.keys()
    assert all(math.isfinite(value) for value in posterior.history["loss"])


def test_posterior_serves_every_verb(quiet, tmp_path, factors) -> None:
    data = factors.make_data()
    kernel = Langevin(MALA(0.3), start="guide", num_candidates=3)
    method = MaximumLikelihood(num_steps=5, batch_size=5, inference_steps=50, kernel=kernel)
    posterior = fit(factors.Factors(), data, method, trainer=quiet)
    assert forecast(posterior, data[:3], horizon=2, num_samples=4).samples.shape == (4, 3, 2, factors.OBS_DIM)
    assert impute(posterior, data[:3], num_samples=4).samples.isfinite().all()
    assert math.isfinite(evaluate(posterior, data[:3], Reconstruction(), num_samples=4).mse.mean())
    assert to_arviz(posterior, data[:3]).posterior["factor"].shape[-2:] == (3, factors.DIM)
    save(posterior, tmp_path / "file")
    loaded = load(tmp_path / "file", factors.Factors())
    assert loaded.kernel == posterior.kernel and loaded.num_steps == 50 and loaded.history == posterior.history
    assert torch.equal(loaded.draws(data, 3)["factor"], posterior.draws(data, 3)["factor"])
    longer = dataclasses.replace(posterior, num_steps=100, num_chains=2)
    assert longer.draws(data[:2], 2)["factor"].shape == (2, 2, factors.DIM)


def test_validation_is_the_likelihood_at_chains(quiet, factors) -> None:
    data, held_out = factors.make_data(), factors.make_data(7, seed=1)
    method = MaximumLikelihood(num_steps=6, batch_size=5, chain_steps=2, inference_steps=20)
    trainer = dataclasses.replace(quiet, validate_every=3, keep_best=True)
    posterior = fit(factors.Factors(), data, method, validation=held_out, trainer=trainer)
    losses = [loss for loss in posterior.history["validation_loss"] if loss == loss]
    assert len(losses) == 2 and all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: ODE2VAE((4,), 2, vector_field=DeterministicField(nn.Linear(4, 2))), id="ode2vae"),
        pytest.param(lambda: KalmanVAE((4,)), id="kalman_vae"),
    ],
)
def test_models_of_the_library(quiet, model, factors) -> None:
    torch.manual_seed(0)
    data = factors.make_data(6, num_steps=6)
    method = MaximumLikelihood(num_steps=8, batch_size=4, chain_steps=2, inference_steps=10)
    posterior = fit(model(), data, method, trainer=quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten steps of adaptation
        assert forecast(posterior, data[:2], horizon=2, num_samples=2).samples.isfinite().all()


# ---------------------------------------------------------------------- steps, rates, resuming


def test_each_group_has_its_own_learning_rate(quiet, factors) -> None:
    """The first step of Adam is as long as the learning rate, in every entry."""
    model = factors.Factors(EnergyMLP(factors.DIM, (4,)))
    before = {name: value.clone() for name, value in model.named_parameters()}
    method = MaximumLikelihood(
        num_steps=1,
        learning_rate=1e-2,
        energy_learning_rate=1e-3,
        guide_learning_rate=1e-4,
        kernel=Langevin(start="guide"),
        optimizer=functools.partial(torch.optim.Adam, eps=1e-12),
    )
    fit(model, factors.make_data(), method, trainer=quiet)
    moved = {name: (value - before[name]).abs().max().item() for name, value in model.named_parameters()}
    rates = {"weight": 1e-2, "log_scale": 1e-2, "encoder.weight": 1e-4, "encoder.bias": 1e-4}
    for name, distance in moved.items():
        assert distance == pytest.approx(rates.get(name, 1e-3), rel=0.01), name


@pytest.mark.parametrize("stop", [3, 9])
def test_resumed_run_has_the_same_bits(quiet, tmp_path, stop: int, factors) -> None:
    """With persistent chains of both kinds, a warm-up that ends between, averages and views."""
    data = factors.make_data(10, num_steps=6)
    method = MaximumLikelihood(
        num_steps=15,
        batch_size=4,
        chain_steps=2,
        kernel=Langevin(start="guide"),
        warmup_steps=6,
        average=0.9,
        views=(RandomSteps(count=3, keep=2),),
    )

    def build() -> factors.Factors:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return factors.Factors(EnergyMLP(factors.DIM, (4,)), chains=PersistentChains(8, factors.DIM))

    whole = fit(build(), data, method, seed=3, trainer=quiet)
    options = dataclasses.replace(quiet, directory=tmp_path)
    fit(build(), data, dataclasses.replace(method, num_steps=stop), seed=3, trainer=options)
    resumed = fit(build(), data, method, seed=3, trainer=dataclasses.replace(options, resume=True))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert torch.equal(whole.draws(data, 2)["factor"], resumed.draws(data, 2)["factor"])


# ---------------------------------------------------------------------- what goes wrong, and what the user sees


def test_a_series_without_any_density_is_left_out(quiet, factors) -> None:
    """One series has values so large that its energy overflows: the rest of the batch is learned from."""
    data = factors.make_data(8)
    values = data.values.clone()
    values[2] = 1e30
    model = factors.Factors()
    method = MaximumLikelihood(num_steps=5, batch_size=None)
    posterior = fit(model, dataclasses.replace(data, values=values), method, trainer=quiet)
    assert posterior.history["frozen"][-1] == 5 and posterior.history["skipped"][-1] == 0
    assert all(value.isfinite().all() for value in model.parameters())


def test_steps_a_hundred_times_too_long(quiet, factors) -> None:
    data = factors.make_data()
    with pytest.warns(UserWarning, match="could not move"):
        posterior = fit(
            factors.Factors(), data, MaximumLikelihood(num_steps=40, kernel=Langevin(MALA(30.0))), trainer=quiet
        )
    history = posterior.history
    assert history["divergent"][0] > 100 and history["acceptance"][0] < 0.05
    assert history["acceptance"][-1] > 0.4 and history["divergent"][-1] == history["divergent"][-2]
    with pytest.warns(UserWarning, match="ULA keeps its step size"):
        posterior = fit(
            factors.Factors(), data, MaximumLikelihood(num_steps=3, kernel=Langevin(ULA(30.0))), trainer=quiet
        )
    assert posterior.history["frozen"][-1] == 3 * len(data)


def test_a_drifting_prior_raises_the_alarm(quiet, factors) -> None:
    """Prior chains that hardly move, under an energy that learns fast."""
    model = factors.Factors(EnergyMLP(factors.DIM, (16,)), sampler=ULA(1e-3), prior_steps=1)
    method = MaximumLikelihood(num_steps=150, batch_size=6, chain_steps=3, energy_learning_rate=0.1)
    with pytest.warns(UserWarning, match="Lower the learning rate of the energy"):
        posterior = fit(model, factors.make_data(), method, trainer=quiet)
    gaps, far = posterior.history["factor_energy_gap"], posterior.history["factor_deviation"]
    assert abs(gaps[-1]) > 10 or far[-1] > 8


def test_energies_can_be_kept_small(quiet, factors) -> None:
    sizes = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model = factors.Factors(EnergyMLP(factors.DIM, (16,)))
        method = MaximumLikelihood(num_steps=60, chain_steps=2, energy_learning_rate=0.02, energy_penalty=weight)
        fit(model, factors.make_data(), method, trainer=quiet)
        where = torch.randn(200, factors.DIM, generator=torch.Generator().manual_seed(0))
        sizes.append(float(model.energy(where).std().detach()))
    assert sizes[1] < 0.5 * sizes[0]


def test_an_energy_that_does_not_learn_has_neither_penalty_nor_drift(quiet, factors) -> None:
    model = factors.Factors(EnergyMLP(factors.DIM, (16,)))
    model.energy.requires_grad_(False)
    before = [parameter.clone() for parameter in model.energy.parameters()]
    method = MaximumLikelihood(num_steps=3, chain_steps=2, energy_penalty=1.0)
    history = fit(model, factors.make_data(), method, trainer=quiet).history
    assert not [name for name in history if "energy_gap" in name]
    assert all(torch.equal(old, new) for old, new in zip(before, model.energy.parameters(), strict=True))


class Levels(SequenceModel):
    """A constant level seen through noise: nothing to train."""

    dims: ClassVar = {"level": ("state",)}

    def model(self, data: Sequences) -> None:
        with self.series(data):
            level = pyro.sample("level", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
            path = level[..., None, :].expand(*level.shape[:-1], data.times.shape[-1], 1)
            self.observe(lambda state: dist.Normal(state, 1.0), path, data)


def test_refusals(quiet, toy, factors) -> None:
    def without_guide() -> SequenceModel:
        model = factors.Factors()
        model.has_guide = False
        return model

    method = MaximumLikelihood(num_steps=2)
    with pytest.raises(DataError, match="no parameters to train"):
        fit(Levels(), Sequences(torch.zeros(3, 2, 1)), method, trainer=quiet)
    with pytest.raises(UnsupportedError, match="all series share"):
        fit(toy.make_lines(), toy.make_data(), method, trainer=quiet)
    with pytest.raises(UnsupportedError, match="adaptive"):
        field = DeterministicField(nn.Linear(4, 2))
        fit(
            ODE2VAE((4,), 2, vector_field=field, flow=Flow(2, solver=Dopri5())),
            factors.make_data(),
            method,
            trainer=quiet,
        )
    for options in ({"kernel": Langevin(start="guide")}, {"warmup_steps": 3}):
        with pytest.raises(UnsupportedError, match="need a guide"):
            fit(without_guide(), factors.make_data(), MaximumLikelihood(num_steps=2, **options), trainer=quiet)
    fit(without_guide(), factors.make_data(), method, trainer=quiet)


@pytest.mark.parametrize(
    "view", [RandomWindows(2), CyclicShift(), lambda data, step, generator: data], ids=["windows", "shift", "own"]
)
def test_chains_do_not_persist_under_views_that_may_move_series(view, quiet, factors) -> None:
    with pytest.raises(DataError, match=r"`views\[1\]` must leave .* `is_persistent=False`"):
        MaximumLikelihood(num_steps=2, views=[RandomGaps(), view])
    method = MaximumLikelihood(num_steps=2, views=[RandomGaps(), view], is_persistent=False, chain_steps=1)
    fit(factors.Factors(), factors.make_data(), method, trainer=quiet)


def test_chains_of_paths_do_not_persist_under_views_of_other_lengths(quiet) -> None:
    data = Sequences(torch.rand(4, 6, 2))
    kernel = Langevin(MALA(1e-3))
    method = MaximumLikelihood(num_steps=2, chain_steps=1, kernel=kernel, views=[GrowingLength(3, full_at=2)])
    with pytest.raises(
        UnsupportedError, match=r"3 steps and 6 latents a series, the training set 12, for RecurrentVAE"
    ):
        fit(RecurrentVAE((2,), 2, hidden_dim=4), data, method, trainer=quiet)
    fit(RecurrentVAE((2,), 2, hidden_dim=4), data, dataclasses.replace(method, is_persistent=False), trainer=quiet)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_steps", 0),
        ("chain_steps", 0),
        ("num_chains", 0),
        ("warmup_steps", -1),
        ("batch_size", 0),
        ("kernel", MALA()),
        ("kernel", Langevin(start={"factor": torch.zeros(1, 2, 2)})),
        ("learning_rate", 0.0),
        ("energy_learning_rate", None),
        ("guide_learning_rate", -1.0),
        ("guide_loss", "chains"),
        ("average", 1.0),
        ("energy_penalty", -1.0),
        ("views", (3,)),
        ("preconditioner", 1.0),
    ],
    ids=str,
)
def test_options_are_checked(option: str, value: object) -> None:
    with pytest.raises(DataError, match=option):
        MaximumLikelihood(**{"num_steps": 2} | {option: value})
