"""Langevin chains against Pang's code (train_svhn.py): chains of prior and posterior, and the two gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyro_seq.nn.energy import EnergyMLP
from pyro_seq.ops.langevin import ULA, Potential, initial_state, step
from tests.authors.golden import assert_equal, assert_other, fill, gradients, load, part

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load("lebm")


@pytest.fixture(scope="module")
def energy(golden) -> EnergyMLP:
    return fill(EnergyMLP(5, (12, 12)), golden, "energy.")


@pytest.fixture(scope="module")
def generator(golden) -> nn.Module:
    return fill(nn.Sequential(nn.Linear(5, 10), nn.GELU(), nn.Linear(10, 7)), golden, "generator.")


def prior_potential(energy: nn.Module) -> Potential:
    return lambda value: energy(value) + 0.5 * value.square().sum(-1)


def posterior_potential(golden, energy: nn.Module, generator: nn.Module) -> Potential:
    def potential(value: Tensor) -> Tensor:
        misfit = (generator(value) - golden["observations"]).square().sum(-1)
        return misfit / (2 * golden["sigma"] ** 2) + prior_potential(energy)(value)

    return potential


def chain(golden, kind: str, potential: Potential, *, step_size: Tensor | None = None) -> dict[str, Tensor]:
    """States of a chain after each number of steps, with the noise of the file."""
    step_size = golden[f"{kind}_step_size"] if step_size is None else step_size
    state, states = initial_state(potential, golden[f"{kind}_start"], float(step_size)), {}
    for number, noise in enumerate(golden[f"{kind}_noise"], 1):
        state = step(potential, state, ULA(float(step_size)), noise)
        states[f"{kind}_state_{number}"] = state.value
    assert not state.is_frozen.any()
    return states


def test_chains_of_the_prior(golden, energy):
    states = chain(golden, "prior", prior_potential(energy))
    assert_equal({name: states[name] for name in ("prior_state_1", "prior_state_10", "prior_state_60")}, golden)


def test_chains_of_the_posterior(golden, energy, generator):
    states = chain(golden, "posterior", posterior_potential(golden, energy, generator))
    assert_equal({name: states[name] for name in ("posterior_state_1", "posterior_state_20")}, golden)


def test_energies_and_their_gradient(golden, energy):
    means = {
        "mean_energy_prior": energy(golden["prior_state_60"]).mean(),
        "mean_energy_posterior": energy(golden["posterior_state_20"]).mean(),
    }
    assert_equal({"energy_at_prior_start": energy(golden["prior_start"]), **means}, golden)
    found = gradients(means["mean_energy_posterior"] - means["mean_energy_prior"], energy)
    assert_equal(found, part(golden, "gradient.energy."))


def test_gradient_of_the_generator(golden, generator):
    misfit = generator(golden["posterior_state_20"]) - golden["observations"]
    squares = misfit.square().sum(-1).mean()
    assert_equal({"mean_squared_error": squares}, golden)
    assert_equal(gradients(squares, generator), part(golden, "gradient_of_squares.generator."))
    # as the library has it: minus the log likelihood, whose gradient is theirs over 2 sigma^2
    sigma = golden["sigma"]
    normal = torch.distributions.Normal(generator(golden["posterior_state_20"]), sigma)
    surprise = -normal.log_prob(golden["observations"]).sum(-1).mean()
    found = {name: 2 * sigma**2 * gradient for name, gradient in gradients(surprise, generator).items()}
    assert_equal(found, part(golden, "gradient_of_squares.generator."))


# ------------------------------------------------------------------ conventions, each broken on purpose


def test_a_step_of_root_two_s_is_another_chain(golden, energy, generator):
    """z - s g + sqrt(2 s) noise, the step of textbooks, is ours at the step size sqrt(2 s)."""
    kinds = {"prior": prior_potential(energy), "posterior": posterior_potential(golden, energy, generator)}
    for kind, potential in kinds.items():
        states = chain(golden, kind, potential, step_size=(2 * golden[f"{kind}_step_size"]).sqrt())
        assert_other(states[f"{kind}_state_1"], golden[f"{kind}_state_1"], 0.1)


@pytest.mark.parametrize("change", ["sign of the energy", "no base"])
def test_another_target_is_another_chain(golden, energy, change):
    def potential(value: Tensor) -> Tensor:
        base = 0.5 * value.square().sum(-1)
        return base - energy(value) if change == "sign of the energy" else energy(value)

    assert_other(chain(golden, "prior", potential)["prior_state_10"], golden["prior_state_10"], 1e-3)


def test_the_energy_falls_at_the_posterior_and_rises_at_the_prior(golden, energy):
    means = energy(golden["posterior_state_20"]).mean() - energy(golden["prior_state_60"]).mean()
    for name, found in gradients(-means, energy).items():
        assert_other(found, golden[f"gradient.energy.{name}"], 1.0)
