"""ODE2VAE against Yildiz' code (torch_ode2vae_minimal.py, torch_bnn.py): path, densities, each term, each gradient."""

from __future__ import annotations

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective, joint_traces
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.nn.bayesian import BayesianMLP
from pyro_seq.nn.emission import BernoulliEmission
from pyro_seq.nn.encoder import FrameWindow, InitialStateEncoder
from pyro_seq.nn.flow import Flow
from pyro_seq.ops.mlp import ACTIVATIONS
from pyro_seq.ops.odeint import RK4, Dopri5
from tests.authors.golden import Noise, assert_equal, assert_other, fill, gradients, load, part

pytestmark = pytest.mark.data

DIM, SIDE = 3, 4


class Pixels(nn.Module):
    """A trunk whose features are the pixels of the one frame of its window."""

    num_features = SIDE * SIDE

    def forward(self, frames: Tensor, mask: Tensor, gaps: Tensor) -> Tensor:
        return frames.flatten(1)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load("ode2vae")


def field(golden) -> BayesianMLP:
    return fill(BayesianMLP(2 * DIM, DIM, (8, 8), activation=ACTIVATIONS["celu"]), golden, "vector_field.")


def make_model(golden) -> ODE2VAE:
    decoder = nn.Sequential(nn.Linear(DIM, SIDE * SIDE), nn.Unflatten(1, (1, SIDE, SIDE)))
    encoder = InitialStateEncoder(FrameWindow(Pixels(), 1, 2 * DIM))
    model = ODE2VAE(
        (1, SIDE, SIDE),
        DIM,
        flow=Flow(DIM, solver=RK4()),
        vector_field=field(golden),
        encoder=encoder,
        emission=BernoulliEmission(decoder),
        has_path_kl=True,
        has_instant_encoder=True,
    ).double()
    with torch.no_grad():
        decoder[0].load_state_dict(part(golden, "decoder."))
        for name, target in encoder.position.head.named_parameters():
            target.copy_(torch.cat([golden[f"encoder.loc.{name}"], golden[f"encoder.log_scale.{name}"]]))
    return model


@pytest.fixture(scope="module")
def run(golden) -> SimpleNamespace:
    """The model, its traces at the noise of the file, and the terms of the objective, summed over series."""
    model, data = make_model(golden), Sequences(golden["frames"], times=golden["even.times"])
    model.time_scale.fill_(model.time_step)  # the time stamps are model time
    scale = golden["vector_field.log_scale"].exp()
    weights = (golden["weights"] - golden["vector_field.loc"]) / scale
    with Noise(weights=weights, initial=golden["standard_noise"]):
        by_draw = Objective(model, analytic_kl=False)(data).terms
    with Noise(weights=weights, initial=golden["standard_noise"]):
        closed = Objective(model)(data).terms
    with Noise(weights=weights, initial=golden["standard_noise"]), pyro.settings.context(module_local_params=True):
        drawn, guided = joint_traces(model, data, 1)
    # theirs: the divergence of the weights in closed form, that of the states by the draw
    terms = {name: len(golden["frames"]) * term for name, term in (by_draw | {"weights": closed["weights"]}).items()}
    nodes = {name: drawn.nodes[name]["value"] for name in ("weights", "initial", "path")}
    return SimpleNamespace(model=model, data=data, terms=terms, drawn=drawn, guided=guided, **nodes)


def solve(golden, times: str, solver) -> tuple[Tensor, Tensor]:
    """Path, and log density along it."""
    function = field(golden).function(golden["weights"])
    found = Flow(DIM, solver=solver)(function, golden["initial"], golden[times], has_volume=True)
    return found.path, golden["log_q0"][:, None] - found.integral


@pytest.mark.parametrize("grid", ["even", "uneven"])
def test_path_and_density_along_it(golden, grid):
    path, log_q = solve(golden, f"{grid}.times", RK4())
    assert_equal({f"{grid}.path_rk4": path, f"{grid}.log_q_rk4": log_q}, golden)


@pytest.mark.parametrize("grid", ["even", "uneven"])
def test_the_exact_path_is_met_as_closely_as_an_adaptive_solver_is_asked(golden, grid):
    path, log_q = solve(golden, f"{grid}.times", Dopri5(rtol=1e-11, atol=1e-12))
    assert_equal({f"{grid}.path_dopri5": path}, golden, 1e-9)
    assert_equal({f"{grid}.log_q_dopri5": log_q}, golden, 1e-7)  # the divergence of celu layers has kinks


def test_first_state_and_what_is_decoded(golden, run):
    q = run.guided.nodes["initial"]["fn"].base_dist
    found = {"initial_loc": q.loc, "initial_scale": q.scale, "initial": run.initial, "weights": run.weights}
    logits = run.model.emission.decoder(run.path[..., :DIM].flatten(0, 1))
    found["decoded_means"] = torch.sigmoid(logits).unflatten(0, run.path.shape[:2])
    assert_equal(found, golden)


def test_densities_at_each_time(golden, run):
    start, frames = run.guided.nodes["initial"], golden["frames"]
    opinion = run.model.encoder(frames.flatten(0, 1)[:, None], torch.ones(28, 1, 1, 4, 4).bool(), torch.zeros(28, 1))
    opinion = opinion.base_dist
    encoded = dist.Normal(opinion.loc, opinion.scale).to_event(1).log_prob(run.path.flatten(0, 1))
    found = {
        "log_q0": start["fn"].log_prob(start["value"]),
        "even.log_q_rk4": start["log_prob"][:, None] - run.drawn.nodes["volume"]["value"],
        "log_prior_path": run.model.initial_prior.distribution(torch.zeros(2 * DIM).double()).log_prob(run.path),
        "log_encoder_path": encoded.unflatten(0, frames.shape[:2]),
        "even.path_rk4": run.path,
    }
    assert_equal(found, golden)


def objective(run) -> Tensor:
    return -sum(run.terms[name] for name in ("x", "weights", "initial", "path_kl", "instant_encoder"))


def path_kl(run) -> Tensor:
    """Their sum over all times: the divergence of the first state, and the term of the later ones."""
    first = run.guided.nodes["initial"]["log_prob"] - run.drawn.nodes["initial"]["log_prob"]
    return first + run.model.regulariser(run.data, run.drawn, run.guided)["path_kl"]


def test_each_term_of_the_objective(golden, run):
    by_series = {
        "log_likelihood": run.drawn.nodes["x"]["log_prob"],
        "path_kl": path_kl(run),
        "instant_encoder": run.model.regulariser(run.data, run.drawn, run.guided)["instant_encoder"],
    }
    assert_equal(by_series, golden)
    assert_equal({"weights_kl": run.terms["weights"], "objective": objective(run)}, golden)
    sums = {
        "log_likelihood": -run.terms["x"],
        "path_kl": run.terms["initial"] + run.terms["path_kl"],
        "instant_encoder": run.terms["instant_encoder"],
    }
    assert_equal(sums, {name: golden[name].sum() for name in sums})


def test_each_gradient_of_the_objective(golden, run):
    found = gradients(objective(run), run.model)
    assert set(found) == {
        "vector_field.loc",
        "vector_field.log_scale",
        *(f"encoder.position.head.{name}" for name in ("weight", "bias")),
        *(f"emission.decoder.0.{name}" for name in ("weight", "bias")),
    }
    theirs = part(golden, "gradient.")
    assert_equal({name: found[name] for name in ("vector_field.loc", "vector_field.log_scale")}, theirs)
    for name in ("weight", "bias"):
        loc, log_scale = found[f"encoder.position.head.{name}"].chunk(2)
        assert_equal({f"encoder.loc.{name}": loc, f"encoder.log_scale.{name}": log_scale}, theirs)
        assert_equal({f"decoder.{name}": found[f"emission.decoder.0.{name}"]}, theirs)


# ------------------------------------------------------------------ conventions, each broken on purpose


def test_the_density_of_the_noise_is_not_that_of_the_first_state(golden, run):
    """log q(z0) without the deviations, as their code has it before the repair, spoils each density that uses it."""
    noise = golden["standard_noise"]
    without_scale = dist.Normal(torch.zeros_like(noise), 1.0).to_event(1).log_prob(noise)
    assert_equal({"log_q0": without_scale - golden["initial_scale"].log().sum(-1)}, golden)
    assert_other(without_scale, golden["log_q0"], 0.1)
    shift = without_scale - golden["log_q0"]
    assert_other(path_kl(run) + 7 * shift, golden["path_kl"], 0.1)
    assert_other(golden["instant_encoder"] + 7 * shift, golden["instant_encoder"], 0.1)


def test_velocity_before_position_is_another_path(golden):
    function, first = field(golden).function(golden["weights"]), golden["initial"]
    swapped = torch.cat([first[:, DIM:], first[:, :DIM]], -1)
    path = Flow(DIM)(function, swapped, golden["even.times"]).path
    assert_other(path, golden["even.path_rk4"], 0.1)


def test_another_scheme_is_another_path(golden):
    theirs = golden["even.path_rk4"]
    assert_other(golden["even.path_rk4_three_eighths"], theirs, 1e-5)
    assert_other(solve(golden, "even.times", RK4(step_size=0.05))[0], theirs, 1e-5)


def test_the_volume_has_a_sign(golden):
    log_q = solve(golden, "even.times", RK4())[1]
    assert_other(2 * golden["log_q0"][:, None] - log_q, golden["even.log_q_rk4"], 0.01)


def test_the_first_time_counts_once(golden, run):
    assert_other(run.terms["path_kl"], golden["path_kl"].sum(), 0.01)
