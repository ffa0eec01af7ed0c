"""`MCMC(Langevin())`: chains of every series at once, against exact posteriors and against each other."""

from __future__ import annotations

from typing import ClassVar

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq.data import Sequences
from pyro_seq.diagnostics.convergence import summary
from pyro_seq.errors import DataError, NumericalError
from pyro_seq.infer.chains import ChainRun
from pyro_seq.infer.fit import fit
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.mcmc import MCMC
from pyro_seq.model import SequenceModel
from pyro_seq.ops.langevin import MALA, ULA
from pyro_seq.posterior import reading
from pyro_seq.predict.verbs import forecast, impute
from pyro_seq.training.trainer import Trainer
from tests.swings import F64, Swings, exact_posterior, make_data


def draw(model: SequenceModel, data: Sequences, kernel: Langevin, *, num_chains: int = 2, seed: int = 0, **plan):
    sizes = {"num_samples": 5, "warmup_steps": 0} | plan
    with reading(model):
        return kernel.chains(model, data, ChainRun(num_chains=num_chains, seed=seed, **sizes))


@pytest.fixture(scope="module")
def fitted():
    method = MCMC(Langevin(MALA(0.5)), num_samples=400, warmup_steps=120, num_chains=4)
    return fit(Swings(), make_data(), method, seed=1, trainer=Trainer(progress=False))


# ---------------------------------------------------------------------- exactness


def test_exact_posterior_of_every_series(fitted) -> None:
    mean, cov = exact_posterior(fitted.model, fitted.data)
    gap = fitted.sites["start"] - mean
    assert gap.shape == (4, 400, 5, 2)
    products = gap[..., [0, 0, 1]] * gap[..., [0, 1, 1]]
    statistics = torch.cat([gap, products], -1)
    truth = torch.cat([torch.zeros_like(mean), cov[:, [0, 0, 1], [0, 1, 1]]], -1)
    scores = []
    for series in range(5):
        for entry in range(5):
            values = statistics[..., series, entry].numpy()
            size = float(arviz.ess(values))
            assert size > 150
            scores.append((values.mean() - float(truth[series, entry])) / (values.std() / size**0.5))
    scores = torch.tensor(scores)
    assert scores.abs().max() < 4.5 and 0.3 < scores.square().mean() < 2.5


def test_a_positive_latent_has_its_conjugate_posterior(quiet) -> None:
    class Rates(SequenceModel):
        dims: ClassVar = {"rate": ()}

        def model(self, data: Sequences) -> None:
            with self.series(data):
                rate = pyro.sample("rate", dist.Gamma(data.values.new_tensor(2.0), 0.5))
                self.observe(lambda level: dist.Poisson(level), rate[..., None, None].expand(*rate.shape, 3, 1), data)

    values = torch.tensor([[0, 1, 0], [4, 7, 5]], dtype=F64)[..., None]
    method = MCMC(Langevin(), num_samples=500, warmup_steps=150, num_chains=4)
    posterior = fit(Rates(), Sequences(values), method, seed=2, trainer=quiet)
    for series, total in enumerate((1, 16)):
        draws = posterior.sites["rate"][..., series].numpy()
        size = float(arviz.ess(draws))
        shape, rate = 2 + total, 3.5
        assert size > 150 and (draws > 0).all()
        assert abs(draws.mean() - shape / rate) < 4.5 * shape**0.5 / rate / size**0.5


def test_log_density_is_the_model_s(fitted) -> None:
    value = fitted.sites["start"][1, 7]
    with pyro.settings.context(module_local_params=True), torch.no_grad():
        trace = pyro.poutine.trace(pyro.poutine.condition(fitted.model.model, data={"start": value})).get_trace(
            fitted.data
        )
    trace.compute_log_prob()
    expected = trace.nodes["start"]["log_prob"] + trace.nodes["x"]["log_prob"]
    torch.testing.assert_close(fitted.sample_stats["lp"][1, 7], expected, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------- independence


@pytest.mark.parametrize("index", [[3], [0, 1, 3], [4, 2, 0, 3, 1]], ids=["alone", "removed", "permuted"])
@pytest.mark.parametrize("sampler", [MALA(0.3), ULA(0.1)], ids=["MALA", "ULA"])
def test_series_get_the_draws_that_they_get_in_any_company(index: list[int], sampler) -> None:
    data, plan = make_data(), {"num_samples": 30, "warmup_steps": 60, "num_chains": 3}
    whole = draw(Swings(), data, Langevin(sampler), **plan)
    part = draw(Swings(), data.minibatch(torch.tensor(index)), Langevin(sampler), **plan)
    assert torch.equal(part.sites["start"], whole.sites["start"][:, :, index])
    for name, figures in part.sample_stats.items():
        assert torch.equal(figures, whole.sample_stats[name][..., index])


def test_a_permuted_data_set_gives_permuted_draws(quiet) -> None:
    data, order = make_data(), torch.tensor([2, 0, 4, 1, 3])
    method = MCMC(Langevin(), num_samples=10, warmup_steps=50, num_chains=2)
    first, second = (fit(Swings(), part, method, trainer=quiet) for part in (data, data.minibatch(order)))
    assert torch.equal(second.sites["start"], first.sites["start"][:, :, order])


# ---------------------------------------------------------------------- trouble


def test_a_chain_that_blows_up_leaves_the_others_alone() -> None:
    model, data = Swings(growth=1.0), make_data()
    start = 0.2 * torch.randn(3, 5, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    ill = start.clone()
    ill[1, 2] = 40.0  # leaves the finite numbers within the first interval
    plan = {"num_samples": 20, "num_chains": 3}
    with pytest.raises(NumericalError):
        model.path(ill, data)
    clean = draw(model, data, Langevin(MALA(0.05), start={"start": start}), **plan)
    with pytest.warns(UserWarning, match=r"14 of 15 chains[\s\S]*\[1, 2\]"):
        spoilt = draw(model, data, Langevin(MALA(0.05), start={"start": ill}), **plan)
    good = torch.ones(3, 5, dtype=torch.bool)
    good[1, 2] = False
    drawn = [chains.sites["start"].transpose(1, 2) for chains in (spoilt, clean)]
    assert torch.equal(drawn[0][good], drawn[1][good])
    assert (drawn[0][1, 2] == 40.0).all()
    assert torch.equal(spoilt.sample_stats["is_frozen"][:, 0], ~good)
    with pytest.raises(NumericalError, match="No starting point"):
        draw(model, data, Langevin(start={"start": torch.full_like(start, 40.0)}), **plan)


def test_bad_starts_are_drawn_again() -> None:
    class Cliff(Swings):
        def path(self, start: Tensor, data: Sequences) -> Tensor:
            return super().path(torch.where(start[..., :1] < 0, torch.nan, start), data)

    chains = draw(Cliff(), make_data(), Langevin(MALA(0.1)), num_chains=4)
    assert not chains.sample_stats["is_frozen"].any()
    assert (chains.sites["start"][..., 0] > 0).all()


def test_steps_far_too_large_are_reported() -> None:
    model, data = Swings(), make_data()
    with pytest.warns(UserWarning, match=r"10 chains accept less than [\d.]*: adapt or reduce"):
        adjusted = draw(model, data, Langevin(MALA(50.0)), num_samples=20)
    assert adjusted.sample_stats["acceptance_rate"].mean() < 0.05
    with pytest.warns(UserWarning, match="0 of 10 chains ran to the end"):
        unadjusted = draw(model, data, Langevin(ULA(500.0)), num_samples=20)
    assert unadjusted.sample_stats["is_frozen"].all()
    assert (unadjusted.sample_stats["diverging"].sum(1) == 1).all()
    assert unadjusted.sites["start"].isfinite().all()


@pytest.mark.parametrize("start", ["normal", "prior"])
def test_global_latents_move_with_those_of_the_series(toy, quiet, start: str) -> None:
    """Against the exact posterior; the gradient of what all share is the sum over series."""
    data, model = toy.make_data(2).to(dtype=torch.float64), toy.make_lines().double()
    model.emit.weight.data.mul_(0.05)  # of a posterior that is not much narrower than the prior in any direction
    method = MCMC(Langevin(start=start), num_samples=300, warmup_steps=100, num_chains=16)
    posterior = fit(model, data, method, trainer=quiet)
    assert posterior.global_sites == {"drift"} and posterior.sites["drift"].shape == (16, 300, 1)
    assert all(figures.shape == (16, 300) for figures in posterior.sample_stats.values())
    mean, cov = toy.exact_posterior(model, data)
    draws = torch.cat([posterior.sites["drift"], posterior.sites["line"].flatten(2)], -1)
    for latent in range(draws.shape[-1]):
        values, scale = draws[..., latent].numpy(), float(cov[latent, latent].sqrt())
        size = float(arviz.ess(values))
        assert size > 60 and abs(values.mean() - float(mean[latent])) < 4.5 * scale / size**0.5
        spread = float(arviz.ess((values - values.mean()) ** 2))
        assert abs(values.var() / scale**2 - 1) < 4.5 * (2 / spread) ** 0.5


def test_joint_chains_start_at_values_and_at_picked_draws_of_the_guide(toy, quiet) -> None:
    data, model = toy.make_data(2), toy.make_lines()
    start = {"drift": torch.ones(3, 1), "line": torch.ones(3, 2, 2)}
    for kernel in (Langevin(start=start), Langevin(start="guide", num_candidates=8)):
        sites = fit(model, data, MCMC(kernel, num_samples=2, warmup_steps=0, num_chains=3), trainer=quiet).sites
        assert sites["line"].shape == (3, 2, 2, 2) and sites["line"].isfinite().all()
    wrong = Langevin(start=start | {"drift": torch.ones(3, 2)})
    with pytest.raises(DataError, match=r"`values\['drift'\]` must be \(chain, \*\(1,\)\). Got \(3, 2\)"):
        fit(model, data, MCMC(wrong, num_samples=2, warmup_steps=0, num_chains=3), trainer=quiet)


def test_minibatches_are_refused(quiet) -> None:
    method = MCMC(Langevin(), num_samples=2, warmup_steps=2)
    with pytest.raises(DataError, match="whole data set"):
        fit(Swings(), make_data().minibatch(torch.arange(2)), method, trainer=quiet)


# ---------------------------------------------------------------------- manners


def test_statistics_and_export(fitted) -> None:
    stats = fitted.sample_stats
    assert set(stats) == {"acceptance_rate", "lp", "step_size", "diverging", "is_frozen"}
    assert all(figures.shape == (4, 400, 5) for figures in stats.values())
    assert 0.5 < float(stats["acceptance_rate"].mean()) < 0.75
    idata = ps.to_arviz(fitted, fitted.data)
    assert idata["sample_stats"]["diverging"].dims == ("chain", "draw", "series")
    table = summary(idata, ["start"])
    assert len(table) == 10 and (table["rhat"] < 1.05).all() and (table["ess_bulk"] > 100).all()


def test_verbs(fitted) -> None:
    data = fitted.data
    assert forecast(fitted, data, horizon=2, num_samples=6).samples.shape == (6, 5, 2, 2)
    filled = impute(fitted, data, num_samples=6).samples
    assert torch.equal(filled[:, data.entry_mask], data.values[data.entry_mask].expand(6, -1))


def test_model_and_random_state_stay_as_they_were(quiet, assert_rng_untouched) -> None:
    model = Swings().train()
    model.rate.requires_grad_(False)
    method = MCMC(Langevin(start="prior"), num_samples=3, warmup_steps=3, num_chains=2)
    with assert_rng_untouched():
        first, again, other = (fit(model, make_data(), method, seed=seed, trainer=quiet) for seed in (3, 3, 4))
    assert model.training and not model.rate.requires_grad and model.rate.grad is None
    assert torch.equal(first.sites["start"], again.sites["start"])
    assert not torch.equal(first.sites["start"], other.sites["start"])
    assert len(pyro.get_param_store()) == 0


def test_starts_and_thinning() -> None:
    model, data = Swings(), make_data()
    still = MALA(1e-9)
    given = torch.randn(2, 5, 2, dtype=F64, generator=torch.Generator().manual_seed(4))
    placed = draw(model, data, Langevin(still, start={"start": given}), num_samples=1).sites["start"]
    torch.testing.assert_close(placed[:, 0], given, rtol=0, atol=1e-6)
    guided = draw(model, data, Langevin(still, start="guide"), num_samples=1, num_chains=50).sites["start"]
    assert ((guided[:, 0] - data.values[:, 0]).mean(0).abs() < 5 * 0.1 / 50**0.5).all()
    full = draw(model, data, Langevin(MALA(0.3)), num_samples=12).sites["start"]
    thinned = draw(model, data, Langevin(MALA(0.3), thinning=3), num_samples=4).sites["start"]
    assert torch.equal(thinned, full[:, 2::3])


def test_noise_and_starts_are_independent() -> None:
    """One stream for both would make them the same numbers. Data that say nothing leave the noise of a step alone."""
    data, size, num_chains = make_data(), 0.5, 400
    data = data.hide(torch.ones_like(data.mask))
    moves = {}
    for length in (1e-9, size):
        kernel = Langevin(ULA(length), has_scale=False)
        moves[length] = draw(Swings(), data, kernel, num_samples=1, num_chains=num_chains).sites["start"].flatten()
    start = moves[1e-9]
    noise = (moves[size] - (1 - size**2 / 2) * start) / size  # the prior is a standard normal
    pair = torch.corrcoef(torch.stack([start, noise]))
    assert abs(float(pair[0, 1])) < 4.5 / len(start) ** 0.5
    assert float(noise.std()) == pytest.approx(1.0, abs=4.5 / (2 * len(start)) ** 0.5)


def test_what_a_model_prepares_is_worked_out_once() -> None:
    class Prepared(Swings):
        count = 0

        def prepare(self, data: Sequences) -> Sequences:
            if "shift" in (data.context or {}):
                return data
            self.count += 1
            return data._with(context={"shift": data.values.mean((1, 2))})

        def path(self, start: Tensor, data: Sequences) -> Tensor:
            return super().path(start + self.prepare(data).context["shift"][:, None], data)

    model = Prepared()
    draw(model, make_data(), Langevin(MALA(0.1)), num_samples=4)
    assert model.count == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Langevin(MALA),
        lambda: Langevin(start="posterior"),
        lambda: Langevin(thinning=0),
        lambda: Langevin(start="guide", num_candidates=0),
        lambda: Langevin(num_candidates=2),
    ],
)
def test_arguments(make) -> None:
    with pytest.raises(DataError):
        make()


def test_start_must_have_all_chains() -> None:
    start = {"start": torch.zeros(3, 5, 2, dtype=F64)}
    with pytest.raises(DataError, match="chain 2"):
        draw(Swings(), make_data(), Langevin(start=start))


# ---------------------------------------------------------------------- starts at a fit, interrupts


class Around:
    """A fit whose draws lie around the exact posterior means, with its own spread in each entry."""

    def __init__(self, model: SequenceModel, data: Sequences) -> None:
        self.mean, self.cov = exact_posterior(model, data)

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        law = torch.distributions.MultivariateNormal(self.mean, self.cov)
        torch.manual_seed(seed)
        return {"start": law.sample((num_samples,))}


def test_chains_start_at_draws_of_a_fit_in_units_of_their_spread(quiet) -> None:
    model, data = Swings(), make_data()
    around = Around(model, data)
    still = MCMC(Langevin(MALA(1e-6), has_scale=False), num_samples=1, warmup_steps=0, num_chains=3, start=around)
    found = fit(model, data, still, seed=4, trainer=quiet)
    with torch.random.fork_rng():
        expected = around.draws(data, 100, seed=4)["start"]
    torch.testing.assert_close(found.sites["start"][:, 0], expected[:3], rtol=0, atol=1e-4)
    moving = MCMC(Langevin(), num_samples=200, warmup_steps=0, num_chains=3, start=around)
    stats = fit(model, data, moving, seed=4, trainer=quiet).sample_stats
    assert torch.equal(stats["step_size"], torch.full_like(stats["step_size"], 2 ** (-1 / 6)))
    assert bool((stats["acceptance_rate"].mean((0, 1)) > 0.3).all())  # of widths that differ, without a warm-up
    with pytest.raises(DataError, match="either at a fit"):
        fit(model, data, MCMC(Langevin(start="prior"), num_samples=1, warmup_steps=0, start=around), trainer=quiet)


def test_interrupted_chains_keep_their_draws(quiet) -> None:
    calls, at = [0], [0]

    class Interrupted(Swings):
        def model(self, data: Sequences) -> None:
            calls[0] += 1
            if calls[0] == at[0]:
                raise KeyboardInterrupt
            super().model(data)

    model, data = Interrupted(), make_data()
    method = MCMC(Langevin(MALA(0.05)), num_samples=10, warmup_steps=0)
    whole = fit(model, data, method, trainer=quiet)
    calls[0], at[0] = 0, calls[0] - 3
    with pytest.warns(UserWarning, match="Kept are 6 draws of each of 1 chains, where 10 of 1"):
        cut = fit(model, data, method, trainer=quiet)
    assert torch.equal(cut.sites["start"], whole.sites["start"][:, :6])
    assert all(value.shape[1] == 6 for value in cut.sample_stats.values())
    calls[0], at[0] = 0, 2
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, method, trainer=quiet)
