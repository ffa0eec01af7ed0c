"""More faults of the public code of ODE2VAE, each shown absent; the others are in `test_ode2vae.py`."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.nn.bayesian import BayesianMLP
from pyro_seq.nn.emission import GaussianEmission
from pyro_seq.nn.mlp import MLPDecoder
from pyro_seq.predict.evaluate import Forecasting


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e4])
def test_noise_may_be_small_in_any_unit_and_differ_between_entries(unit: float) -> None:
    emission = GaussianEmission(MLPDecoder(2, (3,))).double()
    data = Sequences(unit * torch.randn(20, 10, 3, dtype=torch.float64))
    emission.adapt(data)
    with torch.no_grad():
        emission.log_scale.copy_(torch.tensor([0.01, 0.1, 2.0]).log())
    noise = emission(torch.zeros(2, dtype=torch.float64)).scale / data.values.std((0, 1))
    expected = torch.tensor([0.01, 0.1, 2.0]) + emission.minimum_scale
    torch.testing.assert_close(noise.detach(), expected.double(), rtol=0.01, atol=0)


def test_weight_of_the_divergence_of_the_weights_is_what_one_asks_for() -> None:
    """The paper's weight q / |W|, with the right number of weights."""
    model = ODE2VAE((3,), 2, vector_field=BayesianMLP(4, 2, (6, 5)))
    assert model.vector_field.num_weights == sum(
        p.numel() for p in (torch.empty(4 * 6 + 6), torch.empty(6 * 5 + 5), torch.empty(5 * 2 + 2))
    )
    data = Sequences(torch.rand(4, 5, 3))
    weight = model.flow.dim / model.vector_field.num_weights
    losses = []
    for scales in ({}, {"weights": weight}):
        torch.manual_seed(0)
        loss = Objective(model, scales=scales)(data)
        losses.append(float(loss.total.detach()))
    term = float(loss.terms["weights"].detach())
    assert math.isclose(losses[0] - losses[1], (1 - weight) * term, rel_tol=1e-4)


def test_forecasts_are_scored_on_frames_that_were_not_encoded() -> None:
    data = Sequences(torch.rand(2, 9, 3))
    task = Forecasting(num_observed=3)
    assert task.given(data).num_steps == 3 and task.given(data).horizon == 6
    assert task.scored(data).shape == (2, 6, 3)


def test_activations_are_those_that_were_passed() -> None:
    model = ODE2VAE((3,), 2, emission=GaussianEmission(MLPDecoder(2, (3,), (7, 7), torch.nn.ELU)))
    kinds = {type(part) for part in model.emission.decoder.modules() if not list(part.children())}
    assert torch.nn.ELU in kinds and torch.nn.Tanh not in kinds and torch.nn.ReLU not in kinds
