"""The model of the study of the Nile: a path distribution as the observation site, under every verb and method."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from benchmarks.studies import kalman_nile as nile
from pyro_seq.diagnostics import to_arviz
from pyro_seq.testing import check_model

QUIET = ps.Trainer(progress=False)


@pytest.fixture(scope="module")
def chains():
    torch.manual_seed(0)
    _, gaps = nile.load()
    model = nile.LocalTrend(nile.UNITS[1]).double()
    return ps.fit(model, gaps, ps.MCMC(ps.NUTS(), num_samples=10, warmup_steps=10), trainer=QUIET)


@pytest.mark.parametrize("order", [1, 2])
def test_model_keeps_the_rules(order):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    walks = 100 * torch.randn(4, 9, 1, generator=generator).cumsum(1) + 1000
    report = check_model(nile.LocalTrend(nile.UNITS[order]), ps.Sequences(walks))
    assert not report.names("failed"), str(report)


@pytest.mark.parametrize(("order", "known"), [(1, (15098.5, 1469.2)), (2, (14678.0, 1752.8, 0.0))])
def test_maximum_likelihood(order, known):
    whole, _ = nile.load()
    variances, likelihood = nile.maximise(whole, order)
    assert variances.tolist() == pytest.approx(known, rel=1e-4, abs=1e-3)
    reference, best = nile.maximise_by_statsmodels(whole, order)
    assert likelihood == pytest.approx(best, abs=1e-6)
    assert variances.tolist() == pytest.approx(reference.tolist(), rel=1e-3, abs=1e-3)


def test_verbs_on_stored_draws(chains):
    _, gaps = nile.load()
    scales = chains.draws(gaps, 5)["scales"]
    path = chains.model.path(scales, gaps)
    filled = ps.impute(chains, gaps, num_samples=5)
    hidden = ~gaps.mask[0]
    assert filled.samples[:, :, ~hidden].eq(gaps.values[:, ~hidden]).all()
    torch.testing.assert_close(filled.emission_means[:, :, hidden], path.replicate(gaps.values).mean[:, :, hidden])
    assert filled.latents["states"].shape == (5, 1, 100, 1)
    future = ps.forecast(chains, gaps, horizon=3, num_samples=5)
    torch.testing.assert_close(future.emission_means, path.future(gaps.values, 3).mean)
    with pytest.raises(ps.UnsupportedError):
        ps.sample(chains, gaps)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")  # of ten draws
def test_arviz_has_states_and_the_exact_likelihood(chains):
    _, gaps = nile.load()
    idata = to_arviz(chains, gaps.extend(horizon=2))
    assert idata["posterior"]["scales"].dims == ("chain", "draw", "component")
    assert idata["posterior"]["states"].dims == ("chain", "draw", "series", "time", "state")
    scales = chains.draws(gaps, 10)["scales"]
    known = chains.model.path(scales, gaps).log_prob(gaps.values)
    found = torch.tensor(idata["log_likelihood"]["x"].values).squeeze(0)
    torch.testing.assert_close(found, known, check_dtype=False)
    result = nile.leave_one_out(chains, gaps, 10)
    assert -600 < result["loo"] < -400


def test_svi_loss_stays_above_the_smallest():
    """Minus the bound is at least minus the largest log-likelihood, and the divergence of the scales only adds."""
    torch.manual_seed(0)
    whole, _ = nile.load()
    model = nile.LocalTrend(nile.UNITS[1]).double()
    method = ps.SVI(num_steps=60, learning_rate=0.05, num_particles=4)
    posterior = ps.fit(model, whole, method, trainer=QUIET)
    assert posterior.history["loss"][-1] < posterior.history["loss"][0]
    assert posterior.history["loss"][-1] > 633.4646
