"""The Bayesian vector field: density of its weights, one function per draw, closed-form trace."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_seq.errors import DataError
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField


def field(**options) -> BayesianMLP:
    return BayesianMLP(4, 2, (7, 5), **options).double()


def test_divergence_of_the_weights_is_the_closed_form():
    random_field = field(initial_scale=0.3, prior_scale=0.8)
    prior = poutine.trace(random_field.prior).get_trace().nodes["weights"]["fn"]
    posterior = poutine.trace(random_field.posterior).get_trace().nodes["weights"]["fn"]
    loc, variance, prior_variance = random_field.loc.detach(), 0.3**2, 0.8**2
    expected = (
        0.5 * ((loc**2 + variance) / prior_variance - 1 - torch.log(torch.tensor(variance / prior_variance))).sum()
    )
    divergence = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(divergence, expected.to(divergence), rtol=1e-6, atol=0)


def test_one_scale_each_or_one_for_all():
    each, tied = field(), field(has_tied_scale=True)
    assert each.log_scale.shape == (each.num_weights,)
    assert tied.log_scale.shape == ()
    assert each.num_weights == 4 * 7 + 7 + 7 * 5 + 5 + 5 * 2 + 2


@pytest.mark.parametrize("plate_axis", [False, True])
def test_several_functions_at_once_equal_a_loop(plate_axis):
    random_field = field()
    weights = torch.randn(3, random_field.num_weights, dtype=torch.float64)
    states = torch.randn(3, 6, 4, dtype=torch.float64)
    together = random_field.function(weights[:, None] if plate_axis else weights)
    values, traces = together(states), together.divergence(states, slice(2, 4))
    for draw in range(3):
        alone = random_field.function(weights[draw])
        torch.testing.assert_close(values[draw], alone(states[draw]), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(traces[draw], alone.divergence(states[draw], slice(2, 4)), rtol=1e-12, atol=1e-12)


def test_trace_equals_the_one_of_the_jacobian():
    function = field().mean_function()
    states = torch.randn(6, 4, dtype=torch.float64)
    jacobian = torch.stack([torch.autograd.functional.jacobian(function, state) for state in states])
    expected = torch.diagonal(jacobian[:, :, 2:], dim1=1, dim2=2).sum(-1)
    torch.testing.assert_close(function.divergence(states, slice(2, 4)), expected, rtol=1e-12, atol=1e-12)


def test_a_module_as_a_field_has_the_same_trace_as_the_closed_form():
    random_field = field(is_bayesian=False)
    function = random_field.mean_function()
    module = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    linear_layers = [layer for layer in module if isinstance(layer, nn.Linear)]
    for layer, (weight, bias) in zip(linear_layers, function.layers, strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    states = torch.randn(6, 4, dtype=torch.float64)
    wrapped = DeterministicField(module).prior()
    torch.testing.assert_close(wrapped(states), function(states), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        wrapped.divergence(states, slice(2, 4)), function.divergence(states, slice(2, 4)), rtol=1e-12, atol=1e-12
    )


def test_without_random_weights_there_is_no_site_and_no_scale():
    fixed = field(is_bayesian=False)
    trace = poutine.trace(lambda: (fixed.prior(), fixed.posterior())).get_trace()
    assert "weights" not in trace.nodes
    assert {name for name, _ in fixed.named_parameters()} == {"loc"}
    state = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(fixed.prior()(state), fixed.mean_function()(state))


def test_weights_are_drawn_once_for_all_series():
    random_field = field()

    def model():
        function = random_field.prior()
        with pyro.plate("series", 5, dim=-1):
            pyro.sample("initial", dist.Normal(torch.zeros(4, dtype=torch.float64), 1.0).to_event(1))
        return function

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["weights"]["value"].shape == (random_field.num_weights,)
    assert trace.nodes["weights"]["cond_indep_stack"] == ()


def test_impossible_scales_are_refused():
    with pytest.raises(DataError, match="`prior_scale` and `initial_scale` must be positive"):
        field(prior_scale=0.0)
