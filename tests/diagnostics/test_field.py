"""The vector field at chosen states: along a draw, along the mean, and where there is none."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.diagnostics import field_at, rate_at, to_arviz
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.ode_rnn import RNNEncoder
from pyro_seq.predict.verbs import reconstruct
from tests.toy import make_lines


def test_rates_are_velocity_and_field(make_posterior, make_data):
    posterior, states = make_posterior(), torch.randn(3, 4)
    prediction = reconstruct(posterior, make_data(), num_samples=2)
    rates = rate_at(posterior.model, prediction, states)
    assert torch.equal(rates[..., :2], states[:, 2:].expand(2, 3, 2))
    assert torch.equal(rates[..., 2:], field_at(posterior.model, prediction.latents, states))


@pytest.mark.parametrize(
    "field",
    [BayesianMLP(2, 2, (4,), is_bayesian=False), DeterministicField(torch.nn.Linear(2, 2))],
    ids=["fixed", "module"],
)
def test_field_without_random_weights(make_posterior, make_data, field):
    posterior = make_posterior(flow=Flow(2, order=1), vector_field=field)
    states = torch.randn(3, 2)
    values = field_at(posterior.model, reconstruct(posterior, make_data(), num_samples=2), states)
    assert values.shape == (1, 3, 2) and not values.requires_grad
    idata = to_arviz(posterior, make_data(), num_samples=2, probes=states)
    assert idata["posterior"]["field"].shape == (1, 2, 3, 2)


def test_field_refuses_what_has_none(make_posterior):
    with pytest.raises(UnsupportedError, match="vector field"):
        field_at(make_lines(), {}, torch.zeros(1, 2))
    with pytest.raises(DataError, match="'weights'"):
        field_at(make_posterior().model, {}, torch.zeros(1, 4))
    with pytest.raises(ShapeError, match="4 entries"):
        field_at(make_posterior().model, {"weights": torch.zeros(1, 83)}, torch.zeros(1, 3))


def test_fields_under_inputs(make_posterior, make_data):
    """At the mean of the training data where none are named, else at those named, in the unit of the data."""
    field = BayesianMLP(3, 2, (4,), is_bayesian=False)
    encoder = RNNEncoder((3,), 2, input_dim=1)
    posterior = make_posterior(flow=Flow(2, order=1, input_dim=1), vector_field=field, encoder=encoder)
    model, plain, states = posterior.model, make_data(), torch.randn(5, 2)
    told = 10 + 2 * torch.randn(*plain.values.shape[:2], 1, generator=torch.Generator().manual_seed(0))
    data = Sequences(plain.values, times=plain.times, inputs=told)
    model.take_units(data)
    function = field.mean_function()
    expected = function(torch.cat([states, (told[:5, 0] - told.mean()) / told.std(correction=0)], -1))
    torch.testing.assert_close(field_at(model, {}, states, told[:5, 0])[0], expected)
    centre = function(torch.cat([states, torch.zeros(5, 1)], -1))
    torch.testing.assert_close(field_at(model, {}, states)[0], centre)
    torch.testing.assert_close(rate_at(model, {}, states, told.mean().reshape(1))[0], centre)
    with pytest.raises(ShapeError, match=r"`inputs` must be \(input 1,\) or \(probe, input 1\). Got \(3,\)"):
        field_at(model, {}, states, torch.zeros(3))
