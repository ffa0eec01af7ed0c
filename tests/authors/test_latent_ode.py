"""Latent ODE against Rubanova's code: the recursion of the encoder, the path, and the averages of its loss.

The file holds their recursion with our recurrent unit, head and one step an interval in place of theirs, which are
parts here (see `ODERNNEncoder`).
"""

from __future__ import annotations

from types import SimpleNamespace

import pyro
import pytest
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.infer.objective import joint_traces
from pyro_seq.models.ode_lebm import ODELEBM
from pyro_seq.nn.bayesian import DeterministicField
from pyro_seq.nn.emission import GaussianEmission
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.ode_rnn import ODERNNEncoder
from pyro_seq.ops.odeint import RK4, Euler
from tests.authors.golden import Noise, assert_equal, assert_other, fill, load

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load("latent_ode")


def make_encoder(golden) -> ODERNNEncoder:
    encoder = ODERNNEncoder((2,), 3, hidden_dim=5, field=mlp((5, 7, 5)), solver=Euler()).double()
    for name in ("field", "cell", "head"):
        fill(getattr(encoder, name), golden, f"encoder.{name}.")
    return encoder


def make_model(golden) -> ODELEBM:
    decoder = fill(nn.Linear(3, 2), golden, "decoder.")
    emission = GaussianEmission(decoder, minimum_scale=0.0).double()
    emission.log_scale.data.copy_(golden["observation_scale"].log())
    return ODELEBM(
        (2,),
        3,
        flow=Flow(3, order=1, solver=RK4(step_size=0.002)),
        vector_field=DeterministicField(fill(mlp((3, 7, 3)), golden, "vector_field.")),
        encoder=make_encoder(golden),
        emission=emission,
        time_step=1.0,
    )


@pytest.fixture(scope="module")
@torch.no_grad()
def run(golden) -> SimpleNamespace:
    """Traces of guide and model at the noise of the file, and what they say of each entry."""
    model = make_model(golden)
    data = Sequences(golden["values"], golden["mask"], times=golden["times"])
    with Noise(initial=golden["standard_noise"]), pyro.settings.context(module_local_params=True):
        drawn, guided = joint_traces(model, data, 1)
    path = drawn.nodes["path"]["value"]
    emitted = model.emission(path)
    squares = (emitted.mean - data.values).square()
    return SimpleNamespace(
        drawn=drawn,
        initial=guided.nodes["initial"],
        prior=drawn.nodes["initial"]["fn"],
        path=path,
        emitted=emitted,
        log_likelihood=emitted.log_prob(data.values),
        squares=squares,
    )


def averaged(entries: Tensor, mask: Tensor) -> Tensor:
    """Mean over the seen steps of each variable, then over variables, then over series."""
    return ((entries * mask).sum(1) / mask.sum(1)).mean()


@torch.no_grad()
def test_memory_of_the_encoder(golden):
    times = golden["times"].expand(4, -1)
    found = make_encoder(golden).memories(golden["values"], golden["mask"], times)
    assert_equal({"memories": found}, golden)


def test_first_state(golden, run):
    q = run.initial["fn"].base_dist
    divergence = torch.distributions.kl_divergence(run.initial["fn"], run.prior)
    found = {"initial_loc": q.loc, "initial_scale": q.scale, "initial": run.initial["value"], "kl_initial": divergence}
    assert_equal(found, golden)


def test_path_and_what_is_decoded(golden, run):
    assert_equal({"path": run.path, "decoded_means": run.emitted.mean}, golden)


def test_averages_of_the_loss(golden, run):
    likelihood = averaged(run.log_likelihood, golden["mask"])
    divergence = torch.distributions.kl_divergence(run.initial["fn"].base_dist, run.prior.base_dist).mean()
    found = {
        "averaged_likelihood": likelihood,
        "averaged_kl": divergence,
        "averaged_squared_error": averaged(run.squares, golden["mask"]),
        "loss": divergence - likelihood,
    }
    assert_equal(found, golden)
    # the term of our objective is the sum over seen entries of the same densities
    assert_equal(
        {"log_likelihood": run.drawn.nodes["x"]["log_prob"]},
        {"log_likelihood": (run.log_likelihood * golden["mask"]).sum((1, 2))},
    )


# ------------------------------------------------------------------ conventions, each broken on purpose


@torch.no_grad()
def test_the_encoder_reads_backwards(golden):
    """Read from the first step to the last, or with a field of forward time, the memory is another."""
    encoder, times = make_encoder(golden), golden["times"].expand(4, -1)
    turned = encoder.memories(golden["values"].flip(1), golden["mask"].flip(1), times[:, -1:] - times.flip(1))
    assert_other(turned, golden["memories"], 0.01)
    last = encoder.field[-1]
    last.weight.data.neg_(), last.bias.data.neg_()
    assert_other(encoder.memories(golden["values"], golden["mask"], times), golden["memories"], 0.01)


@torch.no_grad()
def test_hidden_entries_are_told_from_zeros(golden):
    encoder, times = make_encoder(golden), golden["times"].expand(4, -1)
    values = golden["values"] * golden["mask"]
    assert_other(encoder.memories(values, torch.ones_like(golden["mask"]), times), golden["memories"], 0.01)


@torch.no_grad()
def test_steps_without_an_entry_leave_the_memory_alone(golden):
    encoder = make_encoder(golden)
    mask = golden["mask"]
    assert not mask.any(-1).all()
    features = torch.cat([golden["values"] * mask, mask.double()], -1)
    memory, found = torch.zeros(4, 5).double(), []
    for k in range(10, -1, -1):  # the cell reads every step
        memory = encoder.cell(features[:, k], memory)
        found.append(memory)
        memory = memory + (golden["times"][k] - golden["times"][k - 1]) * encoder.field(memory) if k else memory
    assert_other(torch.stack(found, 1), golden["memories"], 0.01)


def test_averages_over_all_entries_at_once_are_others(golden, run):
    mask = golden["mask"]
    together = (run.log_likelihood * mask).sum() / mask.sum()
    assert_other(together, golden["averaged_likelihood"], 1e-3)
    q = torch.distributions.kl_divergence(run.initial["fn"], run.prior)
    assert_other(q.mean(), golden["averaged_kl"], 0.1)  # theirs is divided by the number of entries
