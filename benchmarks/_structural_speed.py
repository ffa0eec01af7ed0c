"""One likelihood and its gradient of a level, a slope and a season of many series, beside the parts that others offer.

The same values first: those of statsmodels to nine digits with an exactly diffuse start, those of dynamax, which has
none, with a wide one, beside our own filter with the same. The gradient of statsmodels is its `score`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks._measure import interleave
from pyro_seq.nn.components import Seasonal, Trend
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter

PERIOD, WIDE = 12, 1e4  # of the start of each state, where it is not diffuse: a variance
SCALES = {"trend_level_scale": 0.3, "trend_slope_scale": 0.02, "seasonal_scale": 0.05, "noise_scale": 1.0}


def made_up(num_series: int, num_steps: int) -> ps.Sequences:
    """Series that such a model could have made, but for their level of about 0."""
    source = torch.Generator().manual_seed(0)
    steps = torch.arange(num_steps).double()
    walk = 0.3 * torch.randn(num_series, num_steps, generator=source).double().cumsum(1)
    season = torch.sin(2 * torch.pi * (steps / PERIOD + torch.rand(num_series, 1, generator=source).double()))
    return ps.Sequences((walk + season + torch.randn(walk.shape, generator=source).double())[..., None])


def with_gradient(height: Callable[[], Tensor], *leaves: Tensor) -> Tensor:
    """The value; the gradient is computed and dropped."""
    value = height()
    torch.autograd.grad(value, leaves)
    return value.detach()


def compare(num_series: int = 100, num_steps: int = 500, repeats: int = 7, dynamax: str | None = None) -> list[dict]:
    """Seconds of each way, in a fixed order: ours, our filter with matrices at hand, and the peers that there are."""
    data = made_up(num_series, num_steps)
    model = ps.StructuralSeries(Trend() + Seasonal(PERIOD)).double()
    model.take_units(data)
    coordinates = model.coordinates_of(SCALES).requires_grad_()
    ready = model.system(coordinates.detach(), data)
    cov, noise = ready.transition_cov.clone().requires_grad_(), ready.observation_cov.clone().requires_grad_()
    known = ready._replace(transition_cov=cov, observation_cov=noise)
    wide = known._replace(
        initial_cov=WIDE * torch.eye(PERIOD + 1).double(), initial_mean=torch.zeros(PERIOD + 1).double(), diffuse=None
    )
    ways = {
        "StructuralSeries": lambda: with_gradient(
            lambda: model.path(coordinates, data).log_prob(data.values).sum(), coordinates
        ),
        "kalman_filter, matrices at hand": lambda: with_gradient(lambda: height(data, known), cov, noise),
        "kalman_filter, wide start": lambda: with_gradient(lambda: height(data, wide), cov, noise),
    }
    values = {name: float(way()) for name, way in ways.items()}
    require(values["StructuralSeries"], values["kalman_filter, matrices at hand"], 1e-10)
    rows = [
        {"by": name, "value": values[name], "seconds": timing.cpu, "spread": timing.spread}
        for name, timing in interleave(ways, repeats).items()
    ]
    rows.append(by_statsmodels(data, rows[0]["value"]))
    if dynamax is not None:
        rows.append(by_dynamax(dynamax, data, wide, rows[2]["value"], repeats))
    return [{**row, "times ours": row["seconds"] / rows[0]["seconds"]} for row in rows]


def height(data: ps.Sequences, parameters: LinearGaussianParameters) -> Tensor:
    """The log likelihood of all series."""
    return kalman_filter(data.values, parameters).log_likelihood.sum()


def by_statsmodels(data: ps.Sequences, expected: float) -> dict:
    """One series after the other: `loglike`, and `score` by its default."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    variances = np.square(
        [SCALES[name] for name in ("noise_scale", "trend_level_scale", "trend_slope_scale", "seasonal_scale")]
    )
    models = [
        UnobservedComponents(
            series.numpy(), level="lltrend", freq_seasonal=[{"period": PERIOD}], use_exact_diffuse=True
        )
        for series in data.values[..., 0]
    ]
    models[0].loglike(variances), models[0].score(variances)
    start = time.process_time()
    value = sum(model.loglike(variances) for model in models)
    middle = time.process_time()
    for model in models:
        model.score(variances)
    end = time.process_time()
    require(value, expected, 1e-9)
    return {"by": "statsmodels, loglike and score", "value": value, "seconds": end - start, "loglike": middle - start}


DYNAMAX = """
import json, sys, time
import numpy as np, jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from dynamax.linear_gaussian_ssm.inference import (
    ParamsLGSSM, ParamsLGSSMDynamics, ParamsLGSSMEmissions, ParamsLGSSMInitial, lgssm_filter
)
given, repeats = np.load(sys.argv[1]), int(sys.argv[2])
values = jnp.asarray(given["values"])

def height(parts):
    cov, noise = parts
    size = cov.shape[0]
    params = ParamsLGSSM(
        initial=ParamsLGSSMInitial(mean=jnp.zeros(size), cov=jnp.asarray(given["initial"])),
        dynamics=ParamsLGSSMDynamics(
            weights=jnp.asarray(given["transition"]), bias=jnp.zeros(size), input_weights=jnp.zeros((size, 0)), cov=cov
        ),
        emissions=ParamsLGSSMEmissions(
            weights=jnp.asarray(given["observation"]), bias=jnp.zeros(1), input_weights=jnp.zeros((1, 0)), cov=noise
        ),
    )
    return jax.vmap(lambda series: lgssm_filter(params, series).marginal_loglik)(values).sum()

both = jax.jit(jax.value_and_grad(height))
parts = (jnp.asarray(given["cov"]), jnp.asarray(given["noise"]))
value = jax.block_until_ready(both(parts))[0]
seconds = []
for _ in range(repeats):
    start = time.process_time()
    jax.block_until_ready(both(parts))
    seconds.append(time.process_time() - start)
print(json.dumps({"value": float(value), "seconds": float(np.median(seconds))}))
"""


def by_dynamax(python: str, data: ps.Sequences, wide: LinearGaussianParameters, expected: float, repeats: int) -> dict:
    """In an environment of its own, whose Python is given; compiled, on one thread, without the time of compiling."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.npz"
        arrays = {
            "values": data.values,
            "transition": wide.transition.squeeze(0),
            "observation": wide.observation,
            "cov": wide.transition_cov.squeeze(0),
            "noise": wide.observation_cov.reshape(1, 1),
            "initial": wide.initial_cov,
        }
        np.savez(file, **{name: array.detach().numpy() for name, array in arrays.items()})
        flags = {
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
            "JAX_PLATFORMS": "cpu",
        }
        found = subprocess.run(
            [python, "-c", DYNAMAX, str(file), str(repeats)], capture_output=True, text=True, check=True, env=flags
        )
    row = json.loads(found.stdout.splitlines()[-1])
    require(row["value"], expected, 1e-8)
    return {"by": "dynamax, wide start", **row}


def require(found: float, expected: float, tolerance: float) -> None:
    """Stop where two ways disagree."""
    if not abs(found - expected) <= tolerance * abs(expected):
        raise SystemExit(f"Values differ: {found} and {expected}.")


if __name__ == "__main__":
    for row in compare(dynamax=sys.argv[1] if len(sys.argv) > 1 else None, repeats=3):
        print(row)
