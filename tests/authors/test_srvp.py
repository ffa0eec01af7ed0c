"""SRVP against Delasalles' code (srvp.py, train.py): the chain, its divergences, the loss and its gradients.

The comparison begins at the codes of frames and ends at decoded frames, which the files give.
"""

from __future__ import annotations

from types import SimpleNamespace

import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective, joint_traces
from pyro_seq.models.srvp import SRVP
from pyro_seq.nn import transition
from pyro_seq.nn.emission import PixelEmission
from tests.authors.golden import Noise, assert_equal, assert_other, fill, gradients, load, part

pytestmark = pytest.mark.data

FRAME = (1, 4, 4)
PARTS = ("content", "encoder", "noise_prior", "transition")
CASES = [("1e-4", 1), ("1e-4", 2), ("1e-8", 1), ("1e-8", 2)]


class Given(nn.Module):
    """In place of a network on frames: rows that are given, one for each frame, whatever it reads."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows
        self.code_dim = rows.shape[-1]


class GivenCodes(Given):
    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.rows, ()


class GivenLogits(Given):
    has_skips = False

    def forward(self, latent: Tensor) -> Tensor:
        return self.rows


class GivenArchitecture:
    """Codes and logits of the file as an architecture."""

    def __init__(self, golden) -> None:
        self.codes = GivenCodes(golden["codes"].flatten(0, 1))
        self.logits = GivenLogits(golden["decoded_means"].logit().flatten(0, 1))

    def encoder(self, obs_shape: tuple[int, ...]) -> nn.Module:
        return self.codes

    def decoder(self, dim: int, obs_shape: tuple[int, ...]) -> nn.Module:
        return self.logits


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load("srvp")


def make_model(golden, num_substeps: int) -> SRVP:
    model = SRVP(
        FRAME,
        3,
        noise_dim=2,
        content_dim=6,
        num_frames=3,
        hidden_dim=12,
        num_substeps=num_substeps,
        architecture=GivenArchitecture(golden),
        emission=PixelEmission(scale=float(golden["observation_scale"])),
    )
    for name in PARTS:
        fill(getattr(model, name), golden, f"{name}.")
    return model


def follow(golden, floor: str, num_substeps: int, **scales: float) -> SimpleNamespace:
    """The objective, and traces of guide and model, at the noise and the floor of deviations of the file."""
    model, data = make_model(golden, num_substeps), Sequences(golden["frames"])
    standard = torch.cat([torch.zeros(3, 1, 2).double(), golden["standard_noise"]], 1)  # the first leads to no frame
    noise = {"initial": golden["standard_initial"], "noise": standard}
    with pytest.MonkeyPatch.context() as patch, pyro.settings.context(module_local_params=True):
        patch.setattr(transition, "_FLOOR", float(floor))
        with Noise(**noise):
            loss = Objective(model, scales={"noise": 2.0, **scales})(data)
        with Noise(**noise):
            drawn, guided = joint_traces(model, model.prepare(data), 1)
        posterior, prior = guided.nodes["noise"]["fn"], drawn.nodes["noise"]["fn"]
        path = drawn.nodes["noise"]["value"]
        return SimpleNamespace(
            model=model,
            data=data,
            loss=loss,
            drawn=drawn,
            encoded=posterior.encoded,
            given=prior.conditionals(path),
            initial=guided.nodes["initial"],
            noise=path,
            states=drawn.nodes["states"]["value"],
            future=future(golden, prior, path),
        )


def future(golden, prior, path: Tensor) -> dict[str, Tensor]:
    ahead = prior.future(path, 3)
    noise = ahead.follow(golden["standard_future"])
    return {"future_noise": noise, "future_states": ahead.states(noise)}


def theirs(golden, floor: str, num_substeps: int) -> dict[str, Tensor]:
    return part(golden, f"floor_{floor}.substeps_{num_substeps}.")


def later(normal) -> SimpleNamespace:
    """Moments of the noise that leads to a frame, all but the first row."""
    return SimpleNamespace(loc=normal.loc[:, 1:], scale=normal.scale[:, 1:])


@pytest.mark.parametrize(("floor", "num_substeps"), CASES)
def test_what_the_encoder_says(golden, floor, num_substeps):
    run, expected = follow(golden, floor, num_substeps), part(golden, f"floor_{floor}.")
    first, noise = run.initial["fn"].base_dist, later(run.encoded)
    prior = run.model.initial_prior.distribution(torch.zeros(3).double())
    found = {
        "initial": run.initial["value"],
        "initial_loc": first.loc,
        "initial_scale": first.scale,
        "kl_initial": kl_divergence(run.initial["fn"], prior.expand((3,))),
        "noise_loc": noise.loc,
        "noise_scale": noise.scale,
    }
    assert_equal(found, expected)
    content = run.model.prepare(run.data).context["content"]
    assert_equal({"content_of_last_3": content}, golden)


@pytest.mark.parametrize(("floor", "num_substeps"), CASES)
def test_the_chain_and_its_future(golden, floor, num_substeps):
    run, expected = follow(golden, floor, num_substeps), theirs(golden, floor, num_substeps)
    prior = later(run.given)
    found = {
        "states": run.states,
        "noise": run.noise[:, 1:],
        "prior_loc": prior.loc,
        "prior_scale": prior.scale,
        "kl_noise": kl_divergence(run.encoded, run.given).sum(-1)[:, 1:],
    }
    assert_equal(found | run.future, expected)
    norms = expected["residual_norms"].unflatten(-1, (5, num_substeps)).sum(-1)
    assert_equal({"residual": run.drawn.nodes["residual"]["value"][:, 1:]}, {"residual": norms})


@pytest.mark.parametrize(("floor", "num_substeps"), CASES)
def test_each_term_of_the_loss(golden, floor, num_substeps):
    run, expected = follow(golden, floor, num_substeps), theirs(golden, floor, num_substeps)
    sums = {
        "x": golden["negative_log_likelihood"],
        "initial": golden[f"floor_{floor}.kl_initial"],
        "noise": expected["kl_noise"],
        "residual": expected["residual_norms"],
    }
    assert set(run.loss.terms) == set(sums)
    assert_equal(run.loss.terms, {name: term.sum() / 3 for name, term in sums.items()})
    assert_equal({"loss": run.loss.total}, expected)


def test_each_gradient_of_the_loss(golden):
    run, expected = follow(golden, "1e-4", 2), part(golden, "floor_1e-4.substeps_2.gradient.")
    found = gradients(run.loss.total, run.model)
    assert {name for name in found if not name.startswith("content.")} == set(expected)
    assert_equal({name: gradient for name, gradient in found.items() if name in expected}, expected)


# ------------------------------------------------------------------ conventions, each broken on purpose


def test_the_floor_of_deviations_shows(golden):
    """Theirs is 1e-8, ours 1e-4: the one number in which the chain differs from their code."""
    assert transition._FLOOR == 1e-4
    run, expected = follow(golden, "1e-4", 2), theirs(golden, "1e-8", 2)
    assert_other(run.states, expected["states"], 1e-5)
    assert_other(run.loss.total, expected["loss"], 1e-6)


def test_a_number_of_substeps_shows(golden):
    assert_other(follow(golden, "1e-4", 1).states, theirs(golden, "1e-4", 2)["states"], 1e-3)


def test_the_prior_of_the_noise_reads_the_state_before(golden):
    run, expected = follow(golden, "1e-4", 1), theirs(golden, "1e-4", 1)
    assert_other(run.model.noise_prior(run.states[:, 1:]).loc, expected["prior_loc"], 1e-3)
    assert_equal({"prior_loc": run.model.noise_prior(run.states[:, :-1]).loc}, expected)


def test_the_noise_of_a_frame_knows_the_frame(golden):
    run = follow(golden, "1e-4", 1)
    assert_other(run.encoded.loc[:, :-1], golden["floor_1e-4.noise_loc"], 1e-3)


@pytest.mark.parametrize("scales", [{"noise": 1.0}, {"residual": 0.0}, {"initial": 2.0}])
def test_the_weights_of_the_terms_show(golden, scales):
    run = follow(golden, "1e-4", 1, **scales)
    assert_other(run.loss.total, theirs(golden, "1e-4", 1)["loss"], 1e-3)


def test_the_penalty_is_on_norms_not_on_squares(golden):
    run = follow(golden, "1e-4", 1)
    assert_other(run.states.diff(dim=1).square().sum(-1), theirs(golden, "1e-4", 1)["residual_norms"], 1e-2)
