"""`SequenceELBO` is Pyro's own loss where a model has sites alone, and adds the named terms of one that has some."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

import pyro_seq as ps
from pyro_seq.model import local_parameters


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        yield


def loss_and_gradients(loss, model, data):
    model.zero_grad()
    torch.manual_seed(0)
    value = loss.loss_and_grads(model.model, model.guide, data)
    return value, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def twisted() -> tuple[ps.ODE2VAE, ps.Sequences]:
    """A model with both path terms in double precision, and data."""
    torch.manual_seed(0)
    data = ps.Sequences(torch.randn(5, 6, 2, dtype=torch.float64))
    field = ps.BayesianMLP(4, 2, (3,))
    model = ps.ODE2VAE((2,), 2, vector_field=field, has_path_kl=True, has_instant_encoder=True).double()
    model.take_units(data)
    return model, data


@pytest.mark.parametrize("is_part", [False, True])
def test_it_is_the_loss_of_pyro_where_sites_are_all(toy, is_part):
    model, data = toy.make_lines().double(), toy.make_data().to(dtype=torch.float64)
    model.take_units(data)
    data = data.minibatch(torch.tensor([1, 4])) if is_part else data
    expected, slopes = loss_and_gradients(Trace_ELBO(max_plate_nesting=1), model, data)
    found, own_slopes = loss_and_gradients(ps.SequenceELBO(model, analytic_kl=False), model, data)
    assert found == pytest.approx(expected, rel=1e-12)
    for name, slope in slopes.items():
        torch.testing.assert_close(own_slopes[name], slope, rtol=1e-9, atol=1e-12)


def test_terms_of_the_model_count_with_their_weights():
    model, data = twisted()
    plain, _ = loss_and_gradients(Trace_ELBO(max_plate_nesting=1), model, data)
    torch.manual_seed(0)
    with local_parameters(), torch.no_grad():
        guide_trace = poutine.trace(model.guide).get_trace(data)
        model_trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(data)
        terms = {name: float(term.sum()) for name, term in model.regulariser(data, model_trace, guide_trace).items()}
    loss = ps.SequenceELBO(model, analytic_kl=False, scales={"path_kl": 0.3})
    found, _ = loss_and_gradients(loss, model, data)
    assert found == pytest.approx(plain + 0.3 * terms["path_kl"] + terms["instant_encoder"], rel=1e-10)
    torch.manual_seed(0)
    assert loss.loss(model.model, model.guide, data) == pytest.approx(found, rel=1e-12)


def test_schedules_count_its_steps_and_pyro_trains_the_model(toy):
    model, data, seen = toy.make_lines(), toy.make_data(), []
    model.take_units(data)

    def weight(step: int) -> float:
        seen.append(step)
        return 1.0

    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.03}), ps.SequenceELBO(model, scales={"line": weight}))
    losses = [svi.step(data) for _ in range(60)]
    assert seen == list(range(60))
    svi.evaluate_loss(data)
    assert seen[-1] == 60
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_it_trains_to_what_fit_trains_to(toy, quiet):
    data, models = toy.make_data(), [toy.make_lines(), toy.make_lines()]
    models[0].take_units(data)
    svi = SVI(models[0].model, models[0].guide, pyro.optim.Adam({"lr": 0.03}), ps.SequenceELBO(models[0]))
    torch.manual_seed(1)
    for _ in range(300):
        svi.step(data)
    ps.fit(models[1], data, ps.SVI(num_steps=300, learning_rate=0.03), trainer=quiet)
    first, second = (ps.reconstruct(ps.GuidePosterior(model), data, num_samples=300).mean for model in models)
    assert float((first - second).square().mean()) < 0.01 * float(data.values.var())


def test_functions_of_another_model_are_refused(toy):
    model, other, data = toy.make_lines(), toy.make_lines(), toy.make_data()
    with pytest.raises(ps.DataError, match="functions of its model"):
        ps.SequenceELBO(model).loss(other.model, other.guide, data)
    with pytest.raises(ps.DataError, match="`model` must be a `SequenceModel`"):
        ps.SequenceELBO(model.model)
