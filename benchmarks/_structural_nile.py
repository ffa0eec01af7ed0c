"""The flow of the Nile by Hamiltonian chains, beside dynamax with blackjax: one posterior, equal numbers of draws.

The same prior, the same number of draws in all, and by NUTS the same warm-up and chains; ChEES has four times as many
chains, a third of the steps of warm-up, and a quarter of the draws of each. Ours has a start of which nothing is known,
dynamax one with a wide variance, which is the same to more digits than draws can tell. Seconds are of processor time,
those of dynamax with compiling and without.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

import pyro_seq as ps
from benchmarks._structural_cases import QUIET
from benchmarks._structural_speed import require
from pyro_seq.diagnostics.arviz import chain_diagnostics
from pyro_seq.nn.components import Level

WIDE = 1e4  # variance of the start, in variances of the series


class Plan(NamedTuple):
    """Steps of warm-up, draws of a chain, chains."""

    warmup_steps: int
    num_samples: int
    num_chains: int


def compare(plan: Plan, dynamax: str | None = None) -> list[dict]:
    """Rows of ours, and of dynamax in an environment whose Python is given."""
    data = ps.datasets.nile()
    data = ps.Sequences(data.values.double(), times=data.times)
    model = ps.StructuralSeries(Level()).double()
    model.take_units(data)
    # as many draws in all; the chains share one warm-up
    many = Plan(plan.warmup_steps // 3, plan.num_samples * plan.num_chains // 16, 16)
    rows = [
        by_ours("ChEES", ps.ChEES(full_mass=True), model, data, many),
        by_ours("NUTS", ps.NUTS(full_mass=True), model, data, plan),
    ]
    if dynamax is not None:
        rows += by_dynamax(dynamax, model, data, plan)
    reference = rows[-1]
    for row in rows:
        row["apart"] = apart(row, reference)
    return rows


def by_ours(name: str, kernel: ps.NUTS | ps.ChEES, model: ps.StructuralSeries, data: ps.Sequences, plan: Plan) -> dict:
    """Chains from starts near 0."""
    start = time.process_time()
    posterior = ps.fit(model, data, ps.MCMC(kernel, **plan._asdict()), trainer=QUIET)
    seconds = time.process_time() - start
    divergences = int(posterior.sample_stats["diverging"].sum())
    return row_of(f"StructuralSeries, {name}", posterior.sites["coordinates"].numpy(), seconds, plan, divergences)


def row_of(name: str, draws: np.ndarray, seconds: float, plan: Plan, divergences: int) -> dict:
    """Figures of the worst coordinate, moments of both."""
    columns = {f"c{number}": (("chain", "draw"), draws[..., number]) for number in range(draws.shape[-1])}
    figures = {key: found.to_array().values for key, found in chain_diagnostics(xr.Dataset(columns)).items()}
    flat = draws.reshape(-1, draws.shape[-1])
    return {
        "by": name,
        **plan._asdict(),
        "rhat": float(figures["rhat"].max()),
        "ess_bulk": float(figures["ess_bulk"].min()),
        "ess_tail": float(figures["ess_tail"].min()),
        "divergences": divergences,
        "seconds": seconds,
        "ess_per_second": float(figures["ess_bulk"].min()) / seconds,
        "mean": flat.mean(0).tolist(),
        "deviation": flat.std(0).tolist(),
        "error": (flat.std(0) / np.sqrt(figures["ess_bulk"])).tolist(),
    }


def apart(row: dict, other: dict) -> float:
    """Largest difference of means, in Monte Carlo standard errors of it."""
    error = np.hypot(row["error"], other["error"])
    return float(np.abs((np.array(row["mean"]) - np.array(other["mean"])) / error).max())


DYNAMAX = """
import json, sys, time
import numpy as np, jax, jax.numpy as jnp, blackjax
jax.config.update("jax_enable_x64", True)
from dynamax.linear_gaussian_ssm.inference import (
    ParamsLGSSM, ParamsLGSSMDynamics, ParamsLGSSMEmissions, ParamsLGSSMInitial, lgssm_filter
)
given = np.load(sys.argv[1])
warmup_steps, num_samples, num_chains = (int(number) for number in given["plan"])
values, one = jnp.asarray(given["values"]), jnp.ones((1, 1))
logs, floors, (centre, wide) = jnp.asarray(given["logs"]), jnp.asarray(given["floors"]), given["start"]

def log_density(coordinates):
    level, noise = (floors + jnp.exp(logs + 2.0 * coordinates)) ** 2
    params = ParamsLGSSM(
        initial=ParamsLGSSMInitial(mean=jnp.full(1, centre), cov=wide * one),
        dynamics=ParamsLGSSMDynamics(weights=one, bias=jnp.zeros(1), input_weights=jnp.zeros((1, 0)), cov=level * one),
        emissions=ParamsLGSSMEmissions(
            weights=one, bias=jnp.zeros(1), input_weights=jnp.zeros((1, 0)), cov=noise * one
        ),
    )
    return lgssm_filter(params, values).marginal_loglik - 0.5 * jnp.sum(coordinates**2)

def chain(key):
    start_key, warm_key, draw_key = jax.random.split(key, 3)
    start = jax.random.uniform(start_key, (2,), minval=-2.0, maxval=2.0)
    warmup = blackjax.window_adaptation(blackjax.nuts, log_density, is_mass_matrix_diagonal=False)
    (state, parameters), _ = warmup.run(warm_key, start, num_steps=warmup_steps)
    step = blackjax.nuts(log_density, **parameters).step
    def move(state, key):
        state, info = step(key, state)
        return state, (state.position, info.is_divergent, info.num_integration_steps)
    return jax.lax.scan(move, state, jax.random.split(draw_key, num_samples))[1]

keys = jax.random.split(jax.random.PRNGKey(0), num_chains)
start = time.process_time()
compiled = jax.jit(jax.vmap(chain)).lower(keys).compile()
middle = time.process_time()
draws, divergent, steps = jax.block_until_ready(compiled(keys))
end = time.process_time()
np.save(sys.argv[2], np.asarray(draws))
print(json.dumps({"compiling": middle - start, "running": end - middle, "divergences": int(divergent.sum()),
                  "at_zero": float(log_density(jnp.zeros(2))), "leapfrogs": float(steps.mean())}))
"""


def by_dynamax(python: str, model: ps.StructuralSeries, data: ps.Sequences, plan: Plan) -> list[dict]:
    """The same density and prior; compiled as a whole with all chains side by side, on one thread."""
    scales = [
        torch.stack(list(model.parameters_at(torch.full((2,), place).double()).values())) for place in (-40.0, 0.0)
    ]
    floors, medians = scales  # what a coordinate of minus 40 leaves
    with tempfile.TemporaryDirectory() as folder:
        given, drawn = Path(folder) / "model.npz", Path(folder) / "draws.npy"
        np.savez(
            given,
            plan=np.array(plan),
            values=data.values[0].numpy(),
            logs=(medians - floors).log().detach().numpy(),
            floors=floors.detach().numpy(),
            start=np.array([float(model.units.centre), WIDE * float(model.units.spread) ** 2]),
        )
        flags = {
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
            "JAX_PLATFORMS": "cpu",
        }
        found = subprocess.run(
            [python, "-c", DYNAMAX, str(given), str(drawn)], capture_output=True, text=True, check=True, env=flags
        )
        draws = np.load(drawn)
    told = json.loads(found.stdout.splitlines()[-1])
    ours = float(model.path(torch.zeros(2).double(), data).log_prob(data.values).detach())
    wide = WIDE * float(model.units.spread) ** 2
    require(told["at_zero"] + 0.5 * math.log(wide), ours, 1e-5)  # of a start that is wide, not unknown
    names = {"with compiling": told["compiling"] + told["running"], "compiled": told["running"]}
    return [
        row_of(f"dynamax and blackjax, NUTS, {name}", draws, seconds, plan, told["divergences"]) | told
        for name, seconds in names.items()
    ]
