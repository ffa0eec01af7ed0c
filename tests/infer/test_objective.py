"""The objective against Pyro's own, and its behaviour under minibatches and weights."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI as PyroSVI
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from pyro_seq.errors import DataError
from pyro_seq.infer.objective import Objective
from pyro_seq.training.schedules import WarmUp


def loss_and_gradients(evaluate, model):
    torch.manual_seed(3)
    model.zero_grad()
    loss = evaluate()
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("num_particles", [1, 4])
@pytest.mark.parametrize(("elbo", "analytic_kl"), [(Trace_ELBO, False), (TraceMeanField_ELBO, True)])
def test_equals_pyro(toy, num_particles, elbo, analytic_kl):
    """On the same draws; particles are vectorised in both."""
    data, model = toy.make_data().to(dtype=torch.float64), toy.make_lines().double()
    data = data.hide(torch.rand(8, 9, generator=torch.Generator().manual_seed(0)) < 0.2)
    objective = Objective(model, num_particles=num_particles, analytic_kl=analytic_kl)
    ours = loss_and_gradients(lambda: objective(data).total, model)
    reference = elbo(num_particles=num_particles, vectorize_particles=num_particles > 1, max_plate_nesting=1)
    with pyro.settings.context(module_local_params=True):
        theirs = loss_and_gradients(
            lambda: reference.differentiable_loss(model.model, model.guide, data) / data.num_series, model
        )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_minibatches_partition_the_whole(toy):
    """At fixed draws: noise is switched off by tiny scales."""
    data, model = toy.make_data(8).to(dtype=torch.float64), toy.make_lines().double()
    with torch.no_grad():
        model.encoder.weight[2:].zero_()
        model.encoder.bias[2:] = -40.0
        model.drift_log_scale.fill_(-40.0)
    objective = Objective(model)
    whole = objective(data)
    parts = [objective(data.minibatch(index)) for index in torch.arange(8).split(3)]
    weights = torch.tensor([3.0, 3.0, 2.0]).double() / 8
    for name, term in whole.terms.items():
        joined = sum(weight * part.terms[name] for weight, part in zip(weights, parts, strict=True))
        torch.testing.assert_close(joined, term, rtol=1e-10, atol=1e-10)


def test_scales(toy):
    data, model = toy.make_data(), toy.make_lines()
    objective = Objective(model, scales={"line": 0.5, "drift": WarmUp(10)})
    torch.manual_seed(0)
    loss = objective(data, 3)
    expected = loss.terms["x"] + 0.5 * loss.terms["line"] + 0.3 * loss.terms["drift"]
    torch.testing.assert_close(loss.total, expected)
    with pytest.raises(DataError, match="terms are"):
        Objective(model, scales={"nothing": 1.0})(data)


def test_particles_by_step(toy):
    data, model = toy.make_data(), toy.make_lines()
    seen = []
    objective = Objective(model, num_particles=lambda step: 1 + step)
    for step in (0, 2):
        torch.manual_seed(0)
        seen.append(objective(data, step).total.item())
        torch.manual_seed(0)
        assert seen[-1] == Objective(model, num_particles=1 + step)(data).total.item()
    assert seen[0] != seen[1]


def test_plain_pyro_trains_the_same_model(toy):
    data, model = toy.make_data(), toy.make_lines()
    model.take_units(data)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    method = PyroSVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO(max_plate_nesting=1))
    losses = [method.step(data) for _ in range(100)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    pyro.clear_param_store()
