"""`refine`: chains on top of a guide give the exact posterior, intervals that hold, and a file."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from tests.swings import Swings, exact_posterior, make_data

F64 = torch.float64


def test_draws_are_exact_given_what_all_series_share(toy):
    data, model = toy.make_data(3).to(dtype=F64), toy.make_lines().double()
    count = 500
    kernel = ps.Langevin(start="guide")
    posterior = ps.refine(ps.GuidePosterior(model), kernel, num_steps=150, num_chains=count, spacing=1)
    draws = posterior.draws(data, count, seed=1)
    drift, lines = draws["drift"], draws["line"]
    assert drift.shape == (count, 1, 1) and lines.shape == (count, 3, 2)
    by_guide = torch.distributions.Normal(model.drift_loc, model.drift_log_scale.exp()).cdf(drift).flatten().detach()
    assert abs(float(by_guide.mean()) - 0.5) < 4.5 / (12 * count) ** 0.5

    mean, cov = toy.exact_posterior(model, data)
    slope = cov[1:, :1] / cov[0, 0]
    given = mean[1:] + (drift[:, 0] - mean[0]) @ slope.mT
    law = torch.distributions.MultivariateNormal(torch.zeros_like(mean[1:]), cov[1:, 1:] - slope @ cov[:1, 1:])
    scores = torch.linalg.solve_triangular(law.scale_tril, (lines.flatten(1) - given).mT, upper=False)
    assert float(scores.mean(1).abs().max()) < 4.5 / count**0.5
    assert float((scores.square().mean(1) - 1).abs().max()) < 4.5 * (2 / count) ** 0.5


def test_new_series_are_inferred_exactly_and_intervals_hold(assert_rng_untouched):
    model, data = Swings(), make_data(60, 6)
    mean, cov = exact_posterior(model, data)
    starts = torch.distributions.MultivariateNormal(mean, cov)
    torch.manual_seed(0)
    truth = model.path(starts.sample(), data).detach()  # what a posterior that is right must cover
    seen = ps.Sequences(data.values, data.mask, data.times)
    guide = ps.GuidePosterior(model)
    with assert_rng_untouched():
        refined = ps.refine(guide, num_chains=20)
        shares = []
        for posterior in (guide, refined):
            paths = ps.reconstruct(posterior, seen, num_samples=200).emission_means
            low, high = torch.quantile(paths, torch.tensor([0.05, 0.95], dtype=F64), 0)
            shares.append(((low <= truth) & (truth <= high)).double().mean((1, 2)))
    assert float(shares[0].mean()) < 0.5
    assert abs(float(shares[1].mean()) - 0.9) < 4.5 * float(shares[1].std()) / 60**0.5 + 0.02


def test_file_holds_it(tmp_path, toy):
    posterior = ps.refine(ps.GuidePosterior(toy.make_lines(), history={"loss": [1.0]}), num_steps=3, num_chains=2)
    ps.save(posterior, tmp_path / "refined.pt")
    again = ps.load(tmp_path / "refined.pt", toy.make_lines())
    assert isinstance(again, ps.ChainPosterior) and again.history == {"loss": [1.0]}
    first, second = (one.draws(toy.make_data(2), 4) for one in (posterior, again))
    assert torch.equal(first["line"], second["line"]) and torch.equal(first["drift"], second["drift"])


def test_what_it_cannot_refine_is_refused(toy):
    model, data = toy.make_lines(), toy.make_data(2)
    stored = ps.StoredPosterior(model, data, {"line": torch.zeros(1, 1, 2, 2)})
    with pytest.raises(ps.UnsupportedError, match="Got StoredPosterior"):
        ps.refine(stored)
    with pytest.raises(ps.DataError, match="`kernel` must be a `Langevin"):
        ps.refine(ps.GuidePosterior(model), ps.NUTS())
    with pytest.raises(ps.DataError, match="`num_chains`"):
        ps.refine(ps.GuidePosterior(model), num_chains=0)
    assert ps.refine(ps.refine(ps.GuidePosterior(model)), num_steps=7).num_steps == 7


def test_draws_from_the_prior_run_no_chain(toy, monkeypatch):
    data, model = toy.make_data(3), toy.make_lines()
    posterior = ps.refine(ps.GuidePosterior(model), num_steps=3, num_chains=4, spacing=1)
    whole, alone = posterior.draws(data, 6, seed=5), posterior.shared_draws(data, 6, seed=5)
    assert alone.keys() == {"drift"} and torch.equal(alone["drift"], whole["drift"])
    drawn = ps.sample(posterior, data, num_samples=6)
    monkeypatch.delattr(type(posterior), "shared_draws")
    assert torch.equal(drawn.samples, ps.sample(posterior, data, num_samples=6).samples)
    monkeypatch.undo()
    monkeypatch.setattr(ps.Langevin, "chains", lambda *_: pytest.fail("a chain ran"))
    ps.sample(posterior, data, num_samples=6)
