"""Who trains a model by Pyro alone is told once what that leaves out, and nobody else is told anything."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO

import pyro_seq as ps


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        yield


@contextmanager
def silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def data() -> ps.Sequences:
    return ps.Sequences(20 + torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0)))


def small(**options) -> ps.ODE2VAE:
    torch.manual_seed(0)
    model = ps.ODE2VAE((2,), 2, vector_field=ps.BayesianMLP(4, 2, (3,)), **options)
    model.take_units(data())
    return model


def restarting() -> ps.ODELEBM:
    torch.manual_seed(0)
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2), has_restart_term=True)
    model.take_units(data())
    return model


def trained_by(model: ps.SequenceModel, loss=None) -> SVI:
    return SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-3}), loss or Trace_ELBO(max_plate_nesting=1))


@pytest.mark.parametrize(
    ("build", "term"),
    [
        (lambda: small(has_path_kl=True), "path_kl"),
        (lambda: small(has_instant_encoder=True), "instant_encoder"),
        (restarting, "restart"),
    ],
    ids=["path_kl", "instant_encoder", "restart"],
)
def test_terms_without_a_site_are_named_once(build, term):
    model = build()
    with pytest.warns(UserWarning, match=rf"\['{term}'\].*SequenceELBO\(model\)"):
        trained_by(model).step(data())
    with silence():
        trained_by(model).step(data())
        trained_by(twin := build(), ps.SequenceELBO(twin)).step(data())


def test_missing_units_are_named_once_and_taken_by_two_ways():
    for loss in (lambda model: None, ps.SequenceELBO):
        model = ps.ODE2VAE((2,), 2)
        svi = trained_by(model, loss(model))
        with pytest.warns(UserWarning, match=r"model\.take_units\(train\)"):
            svi.step(data())
        with silence():
            svi.step(data())
    adapted = ps.ODE2VAE((2,), 2)
    adapted.adapt(data())
    with silence():
        trained_by(small()).step(data())
        trained_by(adapted).step(data())


def test_nothing_is_said_to_those_who_do_not_train(quiet):
    model = ps.ODE2VAE((2,), 2, has_path_kl=True)
    with silence():
        Predictive(model.model, guide=model.guide, num_samples=2)(data())
        trained_by(model).evaluate_loss(data())
        pyro.poutine.trace(model.model).get_trace(data())
        ps.fit(model, data(), ps.SVI(num_steps=1), trainer=quiet)


def test_a_look_at_the_terms_changes_nothing():
    losses = []
    for told in (set(), {"terms"}):
        model = small(has_path_kl=True)
        model._told = told
        torch.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses.append([trained_by(model).step(data()) for _ in range(2)])
        pyro.clear_param_store()
    assert losses[0] == losses[1]
