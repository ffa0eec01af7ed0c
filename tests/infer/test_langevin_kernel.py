"""`LangevinKernel` under Pyro's own `MCMC`: conjugate posteriors, the kernel contract, and what it does in trouble."""

from __future__ import annotations

import json
import pickle
from typing import Any

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC
from torch import Tensor

from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.infer.langevin_kernel import LangevinKernel
from pyro_seq.ops.langevin import MALA, ULA, initial_state, step

F64 = torch.float64
COUNTS = torch.tensor([3.0, 5.0, 2.0, 4.0], dtype=F64)
VALUES = torch.tensor([0.3, 1.9, 1.1, 0.2, 1.4], dtype=F64)


def conjugate() -> None:
    """A normal mean with known noise, and a Poisson rate under a Gamma prior: one real and one positive latent."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(1, dtype=F64), 2.0).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0, dtype=F64), 0.5))
    with pyro.plate("values", len(VALUES)):
        pyro.sample("x", dist.Normal(mean, 0.7), obs=VALUES)
    with pyro.plate("counts", len(COUNTS)):
        pyro.sample("n", dist.Poisson(rate), obs=COUNTS)


def quadratic(params: dict[str, Tensor]) -> Tensor:
    return 0.5 * sum(value.square().sum() for value in params.values())


def run_chain(kernel: LangevinKernel, *, seed: int = 0, draws: int = 20, warmup: int = 0, **options: Any) -> MCMC:
    pyro.set_rng_seed(seed)
    chain = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True, **options)
    chain.run()
    return chain


@pytest.fixture(scope="module")
def two_chains() -> MCMC:
    with torch.random.fork_rng(), pytest.warns(UserWarning, match=r".*") as record:
        chain = run_chain(LangevinKernel(conjugate), seed=2, draws=600, warmup=150, num_chains=2, mp_context=None)
        import warnings

        warnings.warn("no cores to spare", stacklevel=1)  # Pyro warns where there is one core only
    assert all("sequentially" in str(one.message) or "no cores" in str(one.message) for one in record)
    return chain


def test_conjugate_posterior(two_chains: MCMC) -> None:
    precision = 1 / 4 + len(VALUES) / 0.49
    shape, rate = 2 + float(COUNTS.sum()), 0.5 + len(COUNTS)
    exact = {
        "mean": (float(VALUES.sum()) / 0.49 / precision, precision**-0.5),
        "rate": (shape / rate, shape**0.5 / rate),
    }
    draws = two_chains.get_samples(group_by_chain=True)
    figures = two_chains.diagnostics()
    for name, (mean, scale) in exact.items():
        values = draws[name].reshape(2, 600).numpy()
        size = float(arviz.ess(values))
        assert size > 100 and float(figures[name]["r_hat"]) < 1.05
        assert abs(values.mean() - mean) < 4.5 * scale / size**0.5
        spread = float(arviz.ess((values - values.mean()) ** 2))
        assert abs(values.var() / scale**2 - 1) < 4.5 * (3 / spread) ** 0.5  # the kurtosis of this Gamma is 3.3


def test_diagnostics_reach_pyro_and_arviz(two_chains: MCMC) -> None:
    figures = two_chains.diagnostics()
    assert {"divergences", "acceptance rate", "step size", "frozen"} <= figures.keys()
    assert figures["divergences"].keys() == {"chain 0", "chain 1"}
    assert all(0.45 < rate < 0.75 for rate in figures["acceptance rate"].values())
    assert not any(figures["frozen"].values())
    idata = arviz.from_pyro(two_chains, log_likelihood=False)
    assert idata["sample_stats"]["diverging"].shape == (2, 600)
    assert idata["posterior"]["rate"].shape == (2, 600)


def test_a_step_is_the_step_of_the_library() -> None:
    kernel = LangevinKernel(potential_fn=quadratic, sampler=MALA(1.3))
    kernel.initial_params = start = {"b": torch.ones(2, 1, dtype=F64), "a": -torch.ones((), dtype=F64)}
    kernel.setup(0)
    pyro.set_rng_seed(3)
    noise, uniform = torch.randn(1, 3, dtype=F64), torch.rand(1, dtype=F64)
    pyro.set_rng_seed(3)
    got = kernel.sample(start)

    def potential(value: Tensor) -> Tensor:
        return 0.5 * value.square().sum(-1)

    vector = torch.tensor([[-1.0, 1.0, 1.0]], dtype=F64)  # names in alphabetical order
    wanted = step(potential, initial_state(potential, vector, 1.3), MALA(1.3), noise, uniform).value[0]
    assert torch.equal(torch.cat([got["a"].reshape(1), got["b"].flatten()]), wanted)
    assert not torch.equal(wanted, vector[0])
    assert torch.equal(start["b"], torch.ones(2, 1, dtype=F64))


def test_initial_params_are_honoured() -> None:
    start = {"mean": torch.tensor([[0.5], [-0.5]], dtype=F64), "rate": torch.tensor([1.0, 1.5], dtype=F64)}
    kernel = LangevinKernel(conjugate, sampler=MALA(1e-9))
    with pytest.warns(UserWarning):
        import warnings

        warnings.warn("no cores to spare", stacklevel=1)
        chain = run_chain(kernel, draws=2, num_chains=2, initial_params=start)
    draws = chain.get_samples(group_by_chain=True)
    torch.testing.assert_close(draws["mean"][:, 0], start["mean"], rtol=0, atol=1e-6)
    torch.testing.assert_close(draws["rate"][:, 0], start["rate"].exp(), rtol=1e-6, atol=0)


def test_potential_functions_need_no_model() -> None:
    start = {"z": torch.zeros(3, dtype=F64)}
    chain = run_chain(LangevinKernel(potential_fn=quadratic), draws=50, warmup=50, initial_params=start)
    assert chain.get_samples()["z"].shape == (50, 3)
    assert chain.get_samples()["z"].std() > 0.3


def test_chains_forget_the_one_before() -> None:
    kernel = LangevinKernel(conjugate)
    first = run_chain(kernel, warmup=60, seed=5).get_samples()
    assert kernel.initial_params is None and kernel.diagnostics()["divergences"] == []
    again = run_chain(kernel, warmup=60, seed=5).get_samples()
    assert torch.equal(first["rate"], again["rate"])


def test_warm_up_adapts_steps_and_scales() -> None:
    width = torch.tensor([0.1, 1.0, 5.0], dtype=F64)
    kernel = LangevinKernel(potential_fn=lambda params: 0.5 * (params["z"] / width).square().sum(), sampler=MALA(0.01))
    kernel.initial_params = params = {"z": width.clone()}
    kernel.setup(500)
    pyro.set_rng_seed(0)
    for _ in range(501):
        params = kernel.sample(params)
    assert kernel._warm_up.is_over
    relative = (kernel._state.scale[0] / width).log()
    assert relative.abs().max() < 0.7  # a factor of two, where the widths differ by 50
    size = kernel._state.step_size.clone()
    kernel.sample(params)
    assert torch.equal(kernel._state.step_size, size)


def test_logging_is_json_and_kernels_pickle() -> None:
    kernel = LangevinKernel(conjugate)
    assert pickle.loads(pickle.dumps(kernel)).model is conjugate
    pyro.set_rng_seed(1)
    kernel.setup(10)
    params = kernel.sample(kernel.initial_params)
    assert set(json.loads(json.dumps(kernel.logging()))) == {"step size", "acc. prob"}
    twin = pickle.loads(pickle.dumps(kernel))
    draws = []
    for one in (kernel, twin):
        pyro.set_rng_seed(2)
        draws.append(one.sample(params)["rate"])
    assert torch.equal(*draws)


def walled(params: dict[str, Tensor]) -> Tensor:
    if bool(params["z"] < 0):
        raise NumericalError("no energy here")
    return quadratic(params)


def test_regions_without_energies_are_divergences() -> None:
    start = {"z": torch.full((1,), 0.5, dtype=F64)}
    chain = run_chain(LangevinKernel(potential_fn=walled, sampler=MALA(1.0)), draws=60, initial_params=start)
    draws, where = chain.get_samples()["z"], chain.diagnostics()["divergences"]["chain 0"]
    assert (draws > 0).all() and 0 < len(where) < 60 and where == sorted(set(where)) and max(where) < 60
    assert all(torch.equal(draws[i], draws[i - 1]) for i in where if i)
    stopped = run_chain(LangevinKernel(potential_fn=walled, sampler=ULA(1.0)), draws=60, initial_params=start)
    assert stopped.diagnostics()["frozen"]["chain 0"] and len(stopped.diagnostics()["divergences"]["chain 0"]) == 1
    with pytest.raises(NumericalError, match="initial_params"):
        run_chain(LangevinKernel(potential_fn=walled), initial_params={"z": -start["z"]})


def test_arguments() -> None:
    with pytest.raises(DataError, match="either"):
        LangevinKernel()
    with pytest.raises(DataError, match="either"):
        LangevinKernel(conjugate, quadratic)
    with pytest.raises(UnsupportedError, match="no latent"):
        LangevinKernel(lambda: None).setup(0)
