"""ODELEBM: exact posteriors where everything is linear, what each part may touch, four ways to learn, the contract."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.fit import fit
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.maximum_likelihood import MaximumLikelihood
from pyro_seq.infer.mcmc import MCMC
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.models.ode_lebm import ODELEBM
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField
from pyro_seq.nn.emission import BernoulliEmission, GaussianEmission
from pyro_seq.nn.energy import EnergyMLP, PersistentChains
from pyro_seq.nn.energy_tilt import EnergyTilt
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.mlp import MLPDecoder
from pyro_seq.nn.ode_rnn import ODERNNEncoder, RNNEncoder
from pyro_seq.ops.langevin import MALA
from pyro_seq.ops.odeint import RK4, Dopri5
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing import check_model
from pyro_seq.training.trainer import Trainer

F64 = torch.float64
STATE, STATIC, DYNAMIC, OBS = 2, 1, 1, 3
QUIET = Trainer(progress=False, accelerator="cpu")


class Bowl(nn.Module):
    """A quadratic energy: the prior stays Gaussian, of precision 1 + tilt and mean push / (1 + tilt)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.linspace(0.2, 1.0, dim))
        self.push = nn.Parameter(torch.linspace(0.8, -0.5, dim))

    def forward(self, value: Tensor) -> Tensor:
        return (0.5 * self.tilt * value.square() - self.push * value).sum(-1)


def linear_model(has_energy: bool = False, step_size: float | None = 0.1) -> ODELEBM:
    """A linear field of state and dynamic part, a linear decoder of state and static part."""
    torch.manual_seed(1)
    model = ODELEBM(
        (OBS,),
        STATE,
        static_dim=STATIC,
        dynamic_dim=DYNAMIC,
        flow=Flow(STATE, order=1, solver=RK4(step_size)),
        vector_field=DeterministicField(nn.Linear(STATE + DYNAMIC, STATE, bias=False)),
        emission=GaussianEmission(nn.Linear(STATE + STATIC, OBS)),
        initial_prior=EnergyTilt(Bowl(STATE + STATIC + DYNAMIC)) if has_energy else None,
        time_step=1.0,
    )
    model.load_state_dict(model.state_dict())  # weights that come with their units: these are 1
    return model.double()


def irregular(num_series: int = 4, num_steps: int = 6, obs: int = OBS) -> Sequences:
    """Times of each series, hidden steps and hidden entries."""
    source = torch.Generator().manual_seed(2)
    values = torch.randn(num_series, num_steps, obs, dtype=F64, generator=source)
    times = (0.05 + 0.5 * torch.rand(num_series, num_steps, dtype=F64, generator=source)).cumsum(-1)
    mask = torch.rand(num_series, num_steps, obs, generator=source) < 0.7
    mask[0, -2:] = False
    return Sequences(values, times=times, mask=mask)


def exact_posterior(model: ODELEBM, data: Sequences, i: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the joint vector of a series, by the matrix exponential and Gaussian algebra."""
    weight = model.vector_field.module.weight.detach()
    generator = torch.zeros(STATE + DYNAMIC, STATE + DYNAMIC, dtype=F64)
    generator[:STATE] = weight
    decoder, scale = model.emission.decoder, model.emission.scale.detach()
    rows, shifts, keep = [], [], data.entry_mask[i]
    for step in range(data.num_steps):
        flow = torch.linalg.matrix_exp((data.times[i, step] - data.times[i, 0]) * generator)[:STATE]
        design = decoder.weight.new_zeros(STATE + STATIC, model.dim)
        design[:STATE, :STATE], design[:STATE, STATE + STATIC :] = flow[:, :STATE], flow[:, STATE:]
        design[STATE:, STATE : STATE + STATIC] = torch.eye(STATIC)
        rows.append((decoder.weight.detach() @ design)[keep[step]])
        shifts.append((data.values[i, step] - decoder.bias.detach())[keep[step]])
    design, shift = torch.cat(rows), torch.cat(shifts)
    precision, push = torch.ones(model.dim, dtype=F64), torch.zeros(model.dim, dtype=F64)
    if isinstance(model.initial_prior, EnergyTilt):
        bowl = model.initial_prior.network
        precision, push = 1 + bowl.tilt.detach(), bowl.push.detach()
    cov = torch.linalg.inv(precision.diag() + design.T @ design / scale**2)
    return cov @ (push + design.T @ shift / scale**2), cov


# ---------------------------------------------------------------- exact posteriors


@pytest.mark.parametrize("has_energy", [False, True], ids=["gaussian", "energy"])
def test_chains_give_the_exact_posterior_of_each_series(has_energy) -> None:
    model, data = linear_model(has_energy, step_size=0.25), irregular()
    draws = fit(model, data, MCMC(Langevin(MALA(0.5)), num_samples=500, warmup_steps=150, num_chains=4), trainer=QUIET)
    drawn = draws.sites["initial"]
    size = effective_sample_size(drawn, sample_dim=1, chain_dim=0)
    assert size.min() > 100
    for i in range(len(data)):
        mean, cov = exact_posterior(model, data, i)
        scale = cov.diagonal().sqrt()
        scores = (drawn[:, :, i].mean((0, 1)) - mean) * size[i].sqrt() / scale
        assert scores.abs().max() < 4.5
        ratio = (drawn[:, :, i] - mean).square().mean((0, 1)) / scale**2
        squares = effective_sample_size((drawn[:, :, i] - mean).square(), sample_dim=1, chain_dim=0)
        assert ((ratio - 1).abs() * (squares / 2).sqrt()).max() < 4.5


def test_new_series_are_inferred_by_chains_at_test_time() -> None:
    model, data = linear_model(step_size=0.25), irregular(2)
    posterior = ChainPosterior(model, Langevin(MALA(0.5)), num_steps=100, num_chains=400, spacing=1)
    drawn = posterior.draws(data, 400, seed=3)["initial"]
    for i in range(len(data)):
        mean, cov = exact_posterior(model, data, i)
        assert ((drawn[:, i].mean(0) - mean).abs() < 4.5 * (cov.diagonal() / 400).sqrt()).all()


class Swing(nn.Module):
    """A damped swing of given stiffness, entry by entry: matrix products round by the number of their rows."""

    def forward(self, state: Tensor) -> Tensor:
        place, speed, stiffness = state.unbind(-1)
        return torch.stack([speed, -(1 + stiffness) * place - 0.2 * speed], -1)


class Sway(nn.Module):
    """Observations of a place and a level, entry by entry."""

    def forward(self, position: Tensor) -> Tensor:
        place, speed, level = position.unbind(-1)
        return torch.stack([place + level, speed, place * level], -1)


OTHERS = pytest.mark.parametrize("index", [[2], [0, 2, 3], [3, 1, 0, 2]], ids=["alone", "removed", "permuted"])


def draws_with_and_without_others(model: ODELEBM, index: list[int]) -> tuple[Tensor, Tensor]:
    data = irregular()
    part = dataclasses.replace(data[index], index=torch.tensor(index), total=len(data))
    posterior = ChainPosterior(model, Langevin(MALA(0.4)), num_steps=10, num_chains=2, spacing=1)
    some, all_of_them = (posterior.draws(one, 6, seed=0)["initial"] for one in (part, data))
    return some, all_of_them[:, index]


@OTHERS
@pytest.mark.parametrize("is_dense", [False, True], ids=["every interval", "even steps"])
def test_other_series_leave_the_draws_of_a_series_bit_equal(is_dense, index) -> None:
    """Under times of each series' own, and so numbers of solver steps."""
    model = linear_model(has_energy=True)
    model.flow.solver = RK4(0.1, is_dense=is_dense)
    model.vector_field, model.emission.decoder = DeterministicField(Swing()), Sway()
    some, same = draws_with_and_without_others(model, index)
    assert torch.equal(some, same)


@OTHERS
def test_under_networks_other_series_change_the_last_bits_at_most(index) -> None:
    torch.manual_seed(0)
    model = ODELEBM((OBS,), STATE, static_dim=1, dynamic_dim=1, initial_prior=EnergyTilt(EnergyMLP(4))).double()
    some, same = draws_with_and_without_others(model, index)
    torch.testing.assert_close(some, same, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- what each part touches


def decoded(model: ODELEBM, data: Sequences, initial: Tensor) -> tuple[Tensor, Tensor]:
    """Path and means of the observations from given joint vectors."""
    chosen = dataclasses.make_dataclass("Chosen", ["model"])(model)
    chosen.draws = lambda data, num_samples, seed=0: {"initial": initial[None]}
    prediction = reconstruct(chosen, data, num_samples=1)
    return prediction.latents["path"][0], prediction.emission_means[0]


def test_static_part_leaves_the_path_and_dynamic_part_leaves_the_emission() -> None:
    torch.manual_seed(0)
    model, data = ODELEBM((OBS,), STATE, static_dim=STATIC, dynamic_dim=DYNAMIC).double(), irregular()
    base = torch.randn(4, model.dim, dtype=F64)
    path, means = decoded(model, data, base)
    look, push = torch.zeros(model.dim, dtype=F64), torch.zeros(model.dim, dtype=F64)
    look[STATE], push[STATE + STATIC] = 1.0, 1.0
    other_path, other_means = decoded(model, data, base + look)
    assert torch.equal(other_path, path)
    assert ((other_means - means).abs().amax(-1) > 1e-6).all()
    other_path, other_means = decoded(model, data, base + push)
    assert torch.equal(other_path[:, 0], path[:, 0]) and torch.equal(other_means[:, 0], means[:, 0])
    assert ((other_path - path)[:, 1:].abs().amax(-1) > 1e-6).all()
    static = base[:, STATE : STATE + STATIC, None].mT.expand(-1, data.num_steps, -1)
    emitted = model.emission(torch.cat([other_path, static], -1)).mean
    torch.testing.assert_close(other_means, emitted, rtol=1e-12, atol=1e-12)


def test_parts_are_found_in_the_draws() -> None:
    model, data = linear_model(), irregular()
    prediction = forecast(ChainPosterior(model, num_steps=5), data, horizon=2, num_samples=3)
    initial = prediction.latents["initial"]
    assert torch.equal(prediction.latents["static"], initial[..., STATE : STATE + STATIC])
    assert torch.equal(prediction.latents["dynamic"], initial[..., STATE + STATIC :])
    assert prediction.latents["path"].shape == (3, 4, 8, STATE)
    assert model.coords(data)["latent"] == ["position_0", "position_1", "static_0", "dynamic_0"]


def test_a_second_order_flow_takes_a_dynamic_part() -> None:
    model, data = ODELEBM((OBS,), 1, dynamic_dim=2, flow=Flow(1)).double(), irregular()
    path, _ = decoded(model, data, torch.randn(4, 4, dtype=F64))
    assert model.dim == 4 and path.shape == (4, 6, 2)


def test_even_steps_give_nearly_the_path_of_every_interval() -> None:
    data, initial = irregular(), torch.randn(4, STATE + STATIC + DYNAMIC, dtype=F64)
    fine, dense = linear_model(step_size=0.01), linear_model()
    dense.flow.solver = RK4(step_size=0.05, is_dense=True)
    torch.testing.assert_close(decoded(dense, data, initial), decoded(fine, data, initial), rtol=1e-5, atol=1e-5)


def test_shifted_and_rescaled_times_give_the_same_objective() -> None:
    data, losses = irregular(), []
    for times in (data.times, 1e4 + data.times, 3600 * data.times):
        moved = dataclasses.replace(data, times=times)
        torch.manual_seed(2)
        model = ODELEBM((OBS,), 4, encoder=ODERNNEncoder((OBS,), 4, hidden_dim=6)).double()
        model.adapt(moved)
        torch.manual_seed(3)
        losses.append(Objective(model)(moved).total.detach())
    torch.testing.assert_close(torch.stack(losses), losses[0].expand(3), rtol=1e-9, atol=0)


# ---------------------------------------------------------------- priors


def test_prior_draws_follow_the_energy() -> None:
    model = linear_model(has_energy=True)
    model.encoder = RNNEncoder((OBS,), model.dim).double()
    drawn = sample(GuidePosterior(model), irregular(20), num_samples=100).latents["initial"].flatten(0, 1)
    precision = 1 + model.initial_prior.network.tilt.detach()
    mean, number = model.initial_prior.network.push.detach() / precision, len(drawn)
    assert ((drawn.mean(0) - mean).abs() < 4.5 / (number * precision).sqrt()).all()
    assert ((drawn.var(0) * precision - 1).abs() < 4.5 * (2 / number) ** 0.5).all()


def test_a_constant_energy_is_the_gaussian_prior() -> None:
    data, losses = irregular(), []
    for energy in (None, EnergyMLP(4, (5,))):
        torch.manual_seed(2)
        model = ODELEBM((OBS,), 4, encoder=RNNEncoder((OBS,), 4, hidden_dim=6)).double()
        if energy is not None:
            model.initial_prior = EnergyTilt(energy.double(), num_steps=2)
        for parameter in () if energy is None else energy.parameters():
            parameter.data.zero_()
        torch.manual_seed(3)
        losses.append(Objective(model, analytic_kl=False)(data).total.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0)


def test_penalty_is_that_of_the_chains_that_normalise() -> None:
    energy = EnergyTilt(EnergyMLP(4, (5,)), num_steps=2, has_penalty=True)
    model, data = ODELEBM((OBS,), 4, encoder=RNNEncoder((OBS,), 4), initial_prior=energy).double(), irregular()
    with torch.no_grad():
        assert float(Objective(model)(data).terms["energy_penalty"]) > 0
    term = Objective(model, scales={"energy_penalty": 0.1})(data).terms["energy_penalty"]
    gradients = torch.autograd.grad(term, list(energy.parameters()))
    assert all(bool((gradient != 0).any()) for gradient in gradients)


# ---------------------------------------------------------------- learning: {Gaussian, energy} x {SVI, Langevin}


@pytest.mark.parametrize("has_energy", [False, True], ids=["gaussian", "energy"])
@pytest.mark.parametrize(
    "method",
    [SVI(num_steps=3), MaximumLikelihood(num_steps=3, chain_steps=2, inference_steps=10)],
    ids=["svi", "langevin"],
)
def test_four_calls(method, has_energy) -> None:
    data = irregular().to(dtype=torch.float32)
    energy = EnergyTilt(EnergyMLP(4), num_steps=3, chains=PersistentChains(20, 4)) if has_energy else None
    encoder = RNNEncoder((OBS,), 4, hidden_dim=6) if isinstance(method, SVI) else None
    model = ODELEBM((OBS,), 3, static_dim=1, encoder=encoder, initial_prior=energy)
    before = {name: value.clone() for name, value in model.named_parameters()}
    posterior = fit(model, data, method, trainer=QUIET)
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert forecast(posterior, data, horizon=2, num_samples=3).samples.isfinite().all()
    assert sample(posterior, data, num_samples=3).emission_means.shape == (3, 4, 6, OBS)
    filled = impute(posterior, data, num_samples=3).samples
    assert torch.equal(filled[:, data.entry_mask], data.values[data.entry_mask].expand(3, -1))


def test_chains_of_series_are_given_the_random_weights_of_the_guide() -> None:
    field = BayesianMLP(3, 2, (5,))
    model = ODELEBM(
        (OBS,), 2, dynamic_dim=1, vector_field=field, encoder=RNNEncoder((OBS,), 3), emission=normal_around(2)
    )
    data = irregular().to(dtype=torch.float32)
    posterior = fit(model, data, SVI(num_steps=2), trainer=QUIET)
    assert forecast(posterior, data, horizon=1, num_samples=3).latents["weights"].shape == (3, field.num_weights)
    latents = forecast(ChainPosterior(model, num_steps=5), data, horizon=1, num_samples=2).latents
    assert latents["weights"].shape == (2, field.num_weights) and latents["initial"].shape[:2] == (2, data.num_series)


# ---------------------------------------------------------------- errors


def test_without_an_encoder_there_is_no_guide() -> None:
    model, data = ODELEBM((OBS,), 2), irregular().to(dtype=torch.float32)
    with pytest.raises(UnsupportedError, match=r"no encoder.*`SVI` needs one.*MaximumLikelihood"):
        fit(model, data, SVI(num_steps=2), trainer=QUIET)
    with pytest.raises(UnsupportedError, match="no encoder"):
        GuidePosterior(model).draws(data, 2)


def test_errors_name_the_argument() -> None:
    data = irregular()
    with pytest.raises(UnsupportedError, match="fixed-step solver. Got Dopri5"):
        ODELEBM((OBS,), 2, flow=Flow(2, order=1, solver=Dopri5()))
    with pytest.raises(DataError, match=r"joint vector of state 2, static part 1 and dynamic part 0, together 3"):
        ODELEBM((OBS,), 2, static_dim=1, encoder=RNNEncoder((OBS,), 2))
    with pytest.raises(DataError, match="Got no encoder"):
        ODELEBM((OBS,), 2, has_restart_term=True)
    with pytest.raises(DataError, match="not negative"):
        ODELEBM((OBS,), 2, static_dim=-1)
    posterior = ChainPosterior(linear_model())
    with pytest.raises(ShapeError, match=r"observations of shape \(3,\)"):
        forecast(posterior, irregular(obs=4), horizon=1)
    with pytest.raises(ShapeError, match=r"`data.inputs` must have 0 entries a step, the `input_dim` of the flow"):
        reconstruct(posterior, dataclasses.replace(data, inputs=torch.zeros(4, 6, 1, dtype=F64)))


# ---------------------------------------------------------------- the contract


def normal_around(dim: int) -> GaussianEmission:
    return GaussianEmission(MLPDecoder(dim, (OBS,), (6,)))


def bernoulli_around(dim: int) -> BernoulliEmission:
    return BernoulliEmission(MLPDecoder(dim, (OBS,), (6,)))


NONE, STATIC_PART, DYNAMIC_PART, BOTH = (0, 0), (1, 0), (0, 1), (2, 1)


@pytest.mark.parametrize(
    ("parts", "has_energy", "kind", "emission"),
    [
        *[(parts, False, RNNEncoder, normal_around) for parts in (NONE, STATIC_PART, DYNAMIC_PART, BOTH)],
        *[(parts, True, ODERNNEncoder, normal_around) for parts in (NONE, STATIC_PART, DYNAMIC_PART, BOTH)],
        (BOTH, True, RNNEncoder, bernoulli_around),
        (BOTH, False, ODERNNEncoder, bernoulli_around),
        (BOTH, True, None, normal_around),
        (NONE, False, None, bernoulli_around),
    ],
)
def test_contract(parts, has_energy, kind, emission) -> None:
    static_dim, dynamic_dim = parts
    dim = 2 + static_dim + dynamic_dim
    model = ODELEBM(
        (OBS,),
        2,
        static_dim=static_dim,
        dynamic_dim=dynamic_dim,
        vector_field=BayesianMLP(2 + dynamic_dim, 2, (5,), is_bayesian=False),
        initial_prior=EnergyTilt(EnergyMLP(dim, (4,)), num_steps=2) if has_energy else None,
        encoder=None if kind is None else kind((OBS,), dim, hidden_dim=5),
        emission=emission(2 + static_dim),
    )
    report = check_model(model, Sequences(torch.rand(4, 6, OBS)))
    skipped = {"device_follows_the_data"} | (set() if kind else {"sites_match", "guide_ignores_the_horizon"})
    assert set(report.names("not applicable")) <= skipped


def test_contract_with_images_times_of_each_series_and_persistent_chains() -> None:
    energy = EnergyTilt(EnergyMLP(3, (4,)), num_steps=2, chains=PersistentChains(9, 3), has_penalty=True)
    flow = Flow(2, order=1, solver=RK4(0.3, is_dense=True))
    parts = {"flow": flow, "initial_prior": energy, "encoder": ODERNNEncoder((1, 6, 6), 3)}
    model = ODELEBM((1, 6, 6), 2, static_dim=1, has_restart_term=True, **parts)
    times = (0.1 + torch.rand(4, 6, dtype=F64)).cumsum(-1)
    report = check_model(model, Sequences(torch.rand(4, 6, 1, 6, 6), times=times))
    assert set(report.names("not applicable")) <= {"device_follows_the_data", "shared_times_equal_repeated"}
