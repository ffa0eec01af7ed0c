"""Chains over a field of three weights: `ChEES` beside importance sampling, and its speed beside that of NUTS.

Springs of two series whose acceleration has three random weights, so that each posterior has seven entries. Importance
sampling proposes from a Student t distribution at the highest point, which knows nothing of the chains. Processor
seconds of this process, in which both kernels run in turn from draws of one guide; warm-ups count.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import arviz
import torch
from torch import Tensor, nn

import pyro_seq as ps
from benchmarks._measure import Row, options, report
from pyro_seq.infer.joint_target import JointTarget
from pyro_seq.posterior import reading

NUM_CHAINS = 16
DEGREES = 5.0  # of freedom, of the proposal
PACKAGES = ("torch", "pyro-ppl", "arviz")
QUIET = ps.Trainer(progress=False)


class Moments(NamedTuple):
    """Means and deviations of the weights, and the Monte Carlo errors of both."""

    mean: Tensor
    deviation: Tensor
    mean_error: Tensor
    deviation_error: Tensor


def main() -> None:
    quick = options("chains", __doc__).quick
    num_sets, num_steps = (2, 60) if quick else (10, 200)
    gaps = torch.stack([gap_of(seed, num_steps, 4_000 if quick else 40_000) for seed in range(num_sets)])
    worst = float(gaps.max())
    data, model = spring(0)
    lengths = _lengths(num_steps) | {"start": guide_of(model, data, 10 * num_steps)}
    library = speed(model, data, ps.MCMC(ps.ChEES(full_mass=True), **lengths, num_chains=NUM_CHAINS))
    baseline = speed(model, data, ps.MCMC(ps.NUTS(full_mass=True), **lengths))
    rows = [
        Row(
            "effective draws a second, ChEES and NUTS", library, "1/s", baseline, library / baseline, 10.0, *[None] * 3
        ),
        Row("largest gap to importance sampling, in its error", worst, "1", None, None, None, *[None] * 3),
    ]
    share = float((gaps < 3).double().mean())
    notes = [f"{share:.3f} of {gaps.numel()} means and deviations over {num_sets} data sets lie within 3 errors."]
    report("chains", rows, notes=notes, packages=PACKAGES)


def spring(seed: int, *, num_series: int = 2, num_steps: int = 10) -> tuple[ps.Sequences, ps.ODE2VAE]:
    """Damped springs with noise, and a model whose field has a weight for position and velocity, and a bias."""
    generator = torch.Generator().manual_seed(seed)
    times = 0.4 * torch.arange(float(num_steps))
    start = torch.randn(num_series, 2, generator=generator)
    turn = math.sqrt(1.5 - 0.15**2)
    wave = start[:, :1] * torch.cos(turn * times) + (start[:, 1:] + 0.15 * start[:, :1]) / turn * torch.sin(
        turn * times
    )
    values = (-0.15 * times).exp() * wave + 0.1 * torch.randn(wave.shape, generator=generator)
    data = ps.Sequences(values[..., None], times=times)
    torch.manual_seed(seed)
    field, emission = ps.BayesianMLP(2, 1, ()), ps.GaussianEmission(nn.Identity(), initial_scale=0.2)
    model = ps.ODE2VAE((1,), 1, vector_field=field, emission=emission, time_step=0.4)
    model.take_units(data)
    return data.to(dtype=torch.float64), model.double()


def gap_of(seed: int, num_steps: int, num_proposals: int) -> Tensor:
    """Means and deviations by chains minus those by importance sampling, in units of their joint error, (6,)."""
    data, model = spring(seed)
    lengths = _lengths(num_steps) | {"start": guide_of(model, data, 10 * num_steps)}
    method = ps.MCMC(ps.ChEES(full_mass=True), **lengths, num_chains=NUM_CHAINS)
    chains = chain_moments(ps.fit(model, data, method, seed=seed, trainer=QUIET).sites["weights"])
    exact = importance_moments(model, data, num_proposals, seed)
    means = (chains.mean - exact.mean).abs() / torch.hypot(chains.mean_error, exact.mean_error)
    errors = torch.hypot(chains.deviation_error, exact.deviation_error)
    return torch.cat([means, (chains.deviation - exact.deviation).abs() / errors])


def chain_moments(draws: Tensor) -> Moments:
    """Of draws (chain, draw, weight)."""
    mean, deviation = draws.mean((0, 1)), draws.flatten(0, 1).std(0)
    entries = [draws[..., entry].numpy() for entry in range(draws.shape[-1])]
    sizes = mean.new_tensor([float(arviz.ess(entry)) for entry in entries])
    errors = mean.new_tensor([float(arviz.mcse(entry, method="sd")) for entry in entries])
    return Moments(mean, deviation, deviation / sizes.sqrt(), errors)


def importance_moments(model: ps.SequenceModel, data: ps.Sequences, num_proposals: int, seed: int) -> Moments:
    """By weighted draws of a Student t distribution at the highest point, as wide as the curvature says."""
    generator = torch.Generator().manual_seed(seed + 1_000)
    with reading(model):
        target = JointTarget(model, data)
        mode = highest(target)
        precision = torch.autograd.functional.hessian(lambda vector: target(vector[None])[0], mode)
        factor = torch.linalg.cholesky(torch.linalg.inv(precision))
        dim = target.num_entries
        normal = torch.randn(num_proposals, dim, dtype=torch.float64, generator=generator)
        chi = torch.randn(num_proposals, int(DEGREES), dtype=torch.float64, generator=generator).square().mean(-1)
        vectors = mode + normal / chi.sqrt()[:, None] @ factor.mT
        distance = normal.square().sum(-1) / chi
        with torch.no_grad():
            energies = torch.cat([target(part) for part in vectors.split(1_000)])
        draws = target.split(vectors)["weights"]
    log_weight = (-energies + 0.5 * (DEGREES + dim) * torch.log1p(distance / DEGREES)).nan_to_num(nan=-torch.inf)
    weight = log_weight.softmax(0)[:, None]
    mean = (weight * draws).sum(0)
    square = (draws - mean).square()
    variance = (weight * square).sum(0)
    mean_error = (weight.square() * square).sum(0).sqrt()
    spread = (weight.square() * (square - variance).square()).sum(0).sqrt()
    return Moments(mean, variance.sqrt(), mean_error, spread / (2 * variance.sqrt()))


def highest(target: JointTarget) -> Tensor:
    """Where the energy is lowest, from the best of 64 draws of a cube."""
    generator = torch.Generator().manual_seed(0)
    starts = 2 * torch.rand(64, target.num_entries, dtype=torch.float64, generator=generator) - 1
    with torch.no_grad():
        vector = starts[target(starts).nan_to_num(nan=torch.inf).argmin()].clone().requires_grad_()
    search = torch.optim.LBFGS([vector], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def energy() -> float:
        search.zero_grad()
        value = target(vector[None])[0]
        value.backward()
        return float(value.detach())

    with torch.enable_grad():
        search.step(energy)
    return vector.detach()


def guide_of(model: ps.ODE2VAE, data: ps.Sequences, num_steps: int) -> ps.GuidePosterior:
    """Where chains start: some draws of the prior lie in a false mode, a hundred nats down, and chains stay there."""
    model.emission.requires_grad_(False)  # so that the posterior stays what it is
    return ps.fit(model, data, ps.SVI(num_steps=num_steps, learning_rate=1e-2), trainer=QUIET)


def speed(model: ps.SequenceModel, data: ps.Sequences, method: ps.MCMC) -> float:
    """Effective draws of the worst weight a processor second, warm-up included."""
    begun = time.process_time()
    draws = ps.fit(model, data, method, seed=1, trainer=QUIET).sites["weights"]
    seconds = time.process_time() - begun
    return min(float(arviz.ess(draws[..., entry].numpy())) for entry in range(draws.shape[-1])) / seconds


def _lengths(num_steps: int) -> dict[str, Any]:
    return {"num_samples": num_steps, "warmup_steps": num_steps}


if __name__ == "__main__":
    main()
