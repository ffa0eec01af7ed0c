"""`ChEES` against the exact posterior of a linear Gaussian model, its figures, starts, interrupts and errors."""

from __future__ import annotations

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

import pyro_seq as ps
from pyro_seq._random import isolated_rng
from pyro_seq.infer import chees
from pyro_seq.infer.joint_target import JointTarget
from pyro_seq.model import local_parameters
from pyro_seq.ops.hamiltonian import hamiltonian_step
from pyro_seq.posterior import reading

SHORT = ps.MCMC(ps.ChEES(), num_samples=6, warmup_steps=4, num_chains=3)


@pytest.fixture(scope="module")
def fitted(toy) -> ps.StoredPosterior:
    data, model = toy.make_data(2).to(dtype=torch.float64), toy.make_lines().double()
    method = ps.MCMC(ps.ChEES(full_mass=True), num_samples=60, warmup_steps=60, num_chains=12)
    return ps.fit(model, data, method, seed=1, trainer=ps.Trainer(progress=False))


def test_exact_posterior(toy, fitted) -> None:
    mean, cov = toy.exact_posterior(fitted.model, fitted.data)
    assert fitted.global_sites == {"drift"} and fitted.sites["line"].shape == (12, 60, 2, 2)
    draws = torch.cat([fitted.sites["drift"], fitted.sites["line"].flatten(2)], -1)
    for latent in range(draws.shape[-1]):
        values, scale = draws[..., latent].numpy(), float(cov[latent, latent].sqrt())
        size, spread = float(arviz.ess(values)), float(arviz.ess((values - values.mean()) ** 2))
        assert size > 200 and float(arviz.rhat(values)) < 1.05
        assert abs(values.mean() - float(mean[latent])) < 4.5 * scale / size**0.5
        assert abs(values.var() / scale**2 - 1) < 4.5 * (2 / spread) ** 0.5


def test_figures(fitted) -> None:
    found = fitted.sample_stats
    assert set(found) == {"acceptance_rate", "lp", "energy", "step_size", "n_steps", "diverging"}
    assert all(figures.shape == (12, 60) for figures in found.values())
    assert 0.75 < float(found["acceptance_rate"].mean()) < 0.99 and not bool(found["diverging"].any())
    assert len(found["step_size"].unique()) == 1 and len(found["n_steps"].unique()) > 1
    kinetic = found["energy"][:, 1:] + found["lp"][:, :-1]  # half a chi-square of as many degrees as latents
    dim, count = 1 + 2 * 2, kinetic.numel()
    assert float(kinetic.min()) > 0 and abs(float(kinetic.mean()) - dim / 2) < 5 * (dim / 2 / count) ** 0.5
    assert bool((arviz.bfmi(ps.to_arviz(fitted, fitted.data)) > 0.3).all())
    values = {name: value[2, 7] for name, value in fitted.sites.items()}
    with pyro.settings.context(module_local_params=True):
        trace = pyro.poutine.trace(pyro.poutine.condition(fitted.model.model, data=values)).get_trace(fitted.data)
    torch.testing.assert_close(found["lp"][2, 7], trace.log_prob_sum().detach())


# ---------------------------------------------------------------------- ranks


def spring() -> ps.ODE2VAE:
    """A field of three weights, in units of its own."""
    field, emission = ps.BayesianMLP(2, 1, ()), ps.GaussianEmission(torch.nn.Identity(), initial_scale=0.3)
    model = ps.ODE2VAE((1,), 1, vector_field=field, emission=emission, time_step=0.4)
    model.take_units(GRID)
    return model


GRID = ps.Sequences(torch.tensor([-1.0, 1.0])[:, None, None].expand(2, 4, 1))  # of unit 1, and centre 0


def p_values(num_sets: int) -> list[float]:
    """Of the ranks of each true weight among draws of 16 chains, over data sets of 2 series that the model made."""
    model, found = spring(), []
    method = ps.MCMC(ps.ChEES(), num_samples=12, warmup_steps=40, num_chains=16)
    for seed in range(num_sets):
        with local_parameters(), isolated_rng(seed), torch.no_grad():  # the prior of the weights, not the guide's
            made = pyro.poutine.trace(pyro.poutine.uncondition(model.model)).get_trace(GRID).nodes
        data, truth = ps.Sequences(made["x"]["value"]), made["weights"]["value"]
        posterior = ps.fit(model, data, method, seed=seed, trainer=ps.Trainer(progress=False))
        found.append((posterior.sites["weights"][:, 3::4].flatten(0, 1) < truth).double().mean(0))
    return [float(stats.kstest(ranks.numpy(), "uniform").pvalue) for ranks in torch.stack(found, 1)]


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.filterwarnings("ignore:`data` lie far outside")
def test_ranks_are_uniform() -> None:
    assert min(p_values(200)) > 1e-3 / 3


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.filterwarnings("ignore:`data` lie far outside")
def test_without_the_metropolis_step_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path begins with a third of the momentum that it should have, and every end is taken."""

    def wrong(*args: object) -> object:
        *others, noise, uniform = args
        return hamiltonian_step(*others, 0.3 * noise, torch.zeros_like(uniform))  # type: ignore[arg-type]

    monkeypatch.setattr(chees, "hamiltonian_step", wrong)
    assert max(p_values(60)) < 1e-3


# ---------------------------------------------------------------------- manners


def test_verbs_seeds_and_files(toy, quiet, assert_rng_untouched, tmp_path) -> None:
    data = toy.make_data(2)
    with assert_rng_untouched():
        first, again = (ps.fit(toy.make_lines(), data, SHORT, seed=3, trainer=quiet) for _ in range(2))
    other = ps.fit(toy.make_lines(), data, SHORT, seed=4, trainer=quiet)
    assert torch.equal(first.sites["line"], again.sites["line"])
    assert not torch.equal(first.sites["line"], other.sites["line"])
    assert not torch.equal(first.sites["line"][0], first.sites["line"][1])
    ahead = ps.forecast(first, data, horizon=2, num_samples=5).samples
    ps.save(first, tmp_path / "chains.pt")
    loaded = ps.load(tmp_path / "chains.pt", toy.make_lines(1))
    assert ahead.shape == (5, 2, 2, 2)
    assert torch.equal(ps.forecast(loaded, data, horizon=2, num_samples=5).samples, ahead)
    assert torch.equal(loaded.sample_stats["n_steps"], first.sample_stats["n_steps"])
    assert len(pyro.get_param_store()) == 0


def test_chains_start_at_a_fit_in_units_of_its_spread(toy, quiet) -> None:
    """Without a warm-up the first step already fits draws that are a thousandth wide."""

    class Narrow:
        def draws(self, data: ps.Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
            generator = torch.Generator().manual_seed(seed)
            line = 2.0 + 1e-3 * torch.randn(num_samples, 2, 2, generator=generator)
            return {"drift": 5.0 + 1e-3 * torch.randn(num_samples, 1, 1, generator=generator), "line": line}

    method = ps.MCMC(ps.ChEES(), num_samples=1, warmup_steps=0, num_chains=4, start=Narrow())
    drift = ps.fit(toy.make_lines(), toy.make_data(2), method, trainer=quiet).sites["drift"]
    assert drift.shape == (4, 1, 1) and bool(((drift - 5.0).abs() < 0.1).all())


def test_one_chain_that_cannot_start_tries_again(quiet) -> None:
    class Roots(ps.SequenceModel):
        def model(self, data: ps.Sequences) -> None:
            level = pyro.sample("level", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
            with self.series(data):
                path = level.sqrt()[..., None, :].expand(*level.shape[:-1], data.num_steps, 1)
                self.observe(lambda states: dist.Normal(states, 1.0), path, data)

    data = ps.Sequences(torch.ones(2, 3, 1))
    assert bool((ps.fit(Roots(), data, SHORT, trainer=quiet).sites["level"] > 0).all())


def test_no_start_at_all_names_what_was_tried(toy, quiet) -> None:
    class Nowhere(toy.Lines):
        def model(self, data: ps.Sequences) -> None:
            super().model(data)
            pyro.factor("nowhere", torch.tensor(torch.nan))

    model, data = Nowhere(), toy.make_data(2)
    with pytest.raises(ps.NumericalError, match=r"chain 0, among draws from cubes around 0.*start=fit"):
        ps.fit(model, data, SHORT, trainer=quiet)
    method = ps.MCMC(ps.ChEES(), num_samples=1, warmup_steps=0, num_chains=2, start=ps.GuidePosterior(model))
    with pytest.raises(ps.NumericalError, match=r"chain 0, among 3 draws of `start`.*Fit for longer"):
        ps.fit(model, data, method, trainer=quiet)


def test_interrupts_keep_what_there_is(toy, quiet) -> None:
    count, at = 0, 0

    class Interrupted(toy.Lines):
        def model(self, data: ps.Sequences) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise KeyboardInterrupt
            super().model(data)

    torch.manual_seed(0)
    model, data = Interrupted(), toy.make_data(2)
    whole, total = ps.fit(model, data, SHORT, trainer=quiet).sites["line"], count
    count, at = 0, total - 1
    with pytest.warns(UserWarning, match=r"Kept are \d draws of each of 3 chains, where 6 of 3"):
        begun = ps.fit(model, data, SHORT, trainer=quiet).sites["line"]
    assert 0 < begun.shape[1] < 6 and torch.equal(begun, whole[:, : begun.shape[1]])
    count, at = 0, 4
    with pytest.raises(KeyboardInterrupt):
        ps.fit(model, data, SHORT, trainer=quiet)


def test_many_chains_are_the_chains_alone(toy) -> None:
    """The energy of a batch is that of each chain by itself, with a bad one among them."""
    model, data = toy.make_lines().double(), toy.make_data(3).to(dtype=torch.float64)
    with reading(model):
        target = JointTarget(model, data)
        vector = torch.randn(5, target.num_entries, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        vector[2] = torch.nan
        energy = target(vector)
        assert energy.isnan().tolist() == [False, False, True, False, False]
        torch.testing.assert_close(energy, torch.cat([target(part) for part in vector.split(1)]), equal_nan=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ps.ChEES(target_accept=1.0),
        lambda: ps.ChEES(max_leapfrogs=0),
        lambda: ps.ChEES(max_leapfrogs=2.5),
    ],
)
def test_arguments(make) -> None:
    with pytest.raises(ps.DataError, match="must be"):
        make()


def test_one_chain_is_too_few(toy, quiet) -> None:
    with pytest.raises(ps.DataError, match=r"`num_chains` must be at least 2 for `ChEES`.*Got 1"):
        ps.fit(toy.make_lines(), toy.make_data(2), ps.MCMC(ps.ChEES(), num_samples=1, warmup_steps=1), trainer=quiet)
