"""The vector field at chosen states: along a draw, along the mean, and where there is none."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.diagnostics import field_at, rate_at, to_arviz
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField
from pyro_seq.nn.flow import Flow
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
