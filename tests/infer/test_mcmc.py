"""`MCMC` against the exact posterior of a linear Gaussian model."""

from __future__ import annotations

import copy

import arviz
import pyro
import pytest
import torch

from pyro_seq.diagnostics import to_arviz
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.mcmc import HMC, MCMC, NUTS
from pyro_seq.model import SequenceModel
from pyro_seq.predict.verbs import forecast, impute


@pytest.fixture(scope="module")
def fitted(toy):
    from pyro_seq.training.trainer import Trainer

    data, model = toy.make_data(2).to(dtype=torch.float64), toy.make_lines().double()
    before = copy.deepcopy(model.state_dict())
    method = MCMC(NUTS(full_mass=True), num_samples=150, warmup_steps=80, num_chains=2)
    posterior = fit(model, data, method, seed=1, trainer=Trainer(progress=False))
    after = {name: value for name, value in model.state_dict().items() if not name.startswith("_seen.")}
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    return posterior


def test_exact_posterior(toy, fitted):
    mean, cov = toy.exact_posterior(fitted.model, fitted.data)
    drift, line = fitted.sites["drift"], fitted.sites["line"]
    assert drift.shape == (2, 150, 1) and line.shape == (2, 150, 2, 2) and fitted.global_sites == {"drift"}
    draws = torch.cat([drift, line.flatten(2)], -1)
    for latent in range(draws.shape[-1]):
        values = draws[..., latent].numpy()
        size = float(arviz.ess(values))
        assert size > 100
        scale = float(cov[latent, latent].sqrt())
        assert abs(values.mean() - float(mean[latent])) < 4.5 * scale / size**0.5
        spread = float(arviz.ess((values - values.mean()) ** 2))
        assert abs(values.var() / scale**2 - 1) < 4.5 * (2 / spread) ** 0.5


def test_statistics(fitted):
    stats = fitted.sample_stats
    assert set(stats) == {"acceptance_rate", "lp", "energy", "step_size", "diverging"}
    assert all(value.shape == (2, 150) for value in stats.values())
    assert 0.6 < float(stats["acceptance_rate"].mean()) <= 1.0 and not bool(stats["diverging"].any())
    assert not torch.equal(fitted.sites["drift"][0], fitted.sites["drift"][1])


def test_log_density_is_the_model_s(fitted):
    """`lp` against a trace of the model at the stored draw, on real-valued latents."""
    chain, draw = 1, 17
    values = {name: value[chain, draw] for name, value in fitted.sites.items()}
    with pyro.settings.context(module_local_params=True):
        conditioned = pyro.poutine.condition(fitted.model.model, data=values)
        expected = pyro.poutine.trace(conditioned).get_trace(fitted.data).log_prob_sum()
    torch.testing.assert_close(fitted.sample_stats["lp"][chain, draw].double(), expected.detach(), rtol=1e-5, atol=1e-4)


def test_energy_is_the_hamiltonian_of_each_path(fitted):
    """Beyond the potential of the draw before it, half a chi-square of as many degrees as there are latents."""
    kinetic = fitted.sample_stats["energy"][:, 1:] + fitted.sample_stats["lp"][:, :-1]
    dim, count = 1 + 2 * 2, kinetic.numel()
    assert float(kinetic.min()) > 0
    assert abs(float(kinetic.mean()) - dim / 2) < 5 * (dim / 2 / count) ** 0.5
    assert abs(float(kinetic.var()) - dim / 2) < 5 * ((dim**2 / 2 + 3 * dim) / count) ** 0.5
    # along a path it is kept, so that what is left at its end is a kinetic energy as well
    assert float((fitted.sample_stats["energy"] + fitted.sample_stats["lp"]).min()) > -1.0
    assert bool((arviz.bfmi(to_arviz(fitted, fitted.data)) > 0.3).all())


def test_energy_of_paths_of_fixed_length(toy, quiet):
    method = MCMC(HMC(path_length=1.0), num_samples=20, warmup_steps=20)
    stats = fit(toy.make_lines(), toy.make_data(2), method, trainer=quiet).sample_stats
    assert bool((stats["energy"][:, 1:] + stats["lp"][:, :-1] > 0).all())


def test_verbs(fitted):
    data = fitted.data
    assert forecast(fitted, data, horizon=2, num_samples=5).samples.shape == (5, 2, 2, 2)
    assert impute(fitted, data, num_samples=5).samples.shape == (5, 2, 9, 2)
    one = forecast(fitted, data[1:], horizon=2, num_samples=5).latents["line"]
    assert torch.equal(one, forecast(fitted, data, horizon=2, num_samples=5).latents["line"][:, 1:])
    with pytest.raises(DataError, match="fitted"):
        forecast(fitted, data.hide(torch.ones(2, 9) > 0), horizon=2, num_samples=5)


def test_hmc_and_seeds(toy, quiet, assert_rng_untouched):
    data, method = toy.make_data(2), MCMC(HMC(path_length=1.0), num_samples=20, warmup_steps=20)
    with assert_rng_untouched():
        first, again = (fit(toy.make_lines(), data, method, seed=3, trainer=quiet) for _ in range(2))
    other = fit(toy.make_lines(), data, method, seed=4, trainer=quiet)
    assert torch.equal(first.sites["line"], again.sites["line"])
    assert not torch.equal(first.sites["line"], other.sites["line"])
    assert len(pyro.get_param_store()) == 0


def test_minibatches_are_refused(toy, quiet):
    data, method = toy.make_data(4), MCMC(NUTS(), num_samples=2, warmup_steps=2)
    with pytest.raises(DataError, match="whole data set"):
        fit(toy.make_lines(), data.minibatch(torch.arange(2)), method, trainer=quiet)
    with pytest.raises(UnsupportedError, match="validation"):
        fit(toy.make_lines(), data, method, validation=data, trainer=quiet)


def test_models_that_have_no_use_for_it(toy, quiet):
    method = MCMC(NUTS(), num_samples=2, warmup_steps=2)

    class Discrete(toy.Lines):
        def model(self, data):
            pyro.sample("coin", pyro.distributions.Bernoulli(0.5))

    class Empty(SequenceModel):
        def model(self, data):
            with self.series(data):
                path = data.values.new_zeros(1, data.num_steps, 2)
                self.observe(lambda states: pyro.distributions.Normal(states, 1.0), path, data)

    with pytest.raises(UnsupportedError, match="'coin'"):
        fit(Discrete(), toy.make_data(2), method, trainer=quiet)
    with pytest.raises(UnsupportedError, match="no latent"):
        fit(Empty(), toy.make_data(2), method, trainer=quiet)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MCMC(NUTS, num_samples=1, warmup_steps=1),
        lambda: MCMC(NUTS(), num_samples=0, warmup_steps=1),
        lambda: MCMC(NUTS(), num_samples=1, warmup_steps=-1),
        lambda: MCMC(NUTS(), num_samples=1, warmup_steps=1, num_chains=0),
        lambda: NUTS(target_accept=1.0),
        lambda: NUTS(max_tree_depth=0),
        lambda: HMC(path_length=0.0),
    ],
)
def test_arguments(make):
    with pytest.raises(DataError):
        make()
