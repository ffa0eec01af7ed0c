"""Forecasts of the benchmark's series from many origins, and chains on what comes before the last."""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

import pyro_seq as ps
from benchmarks._structural_cases import QUIET, Case
from pyro_seq.diagnostics.arviz import chain_diagnostics

KERNELS = {"nuts": ps.NUTS(full_mass=True), "chees": ps.ChEES(full_mass=True)}
ORIGINS, AHEAD = {"co2": 8, "passengers": 10}, {"co2": 52, "passengers": 12}  # a year ahead


def backtest_of(series: str, case: Case) -> list[dict]:
    """Scores by predictor over all origins and steps: ours by maximum likelihood, its baselines, and statsmodels."""
    data = case.data()
    start = time.process_time()
    found = ps.backtest(
        lambda: ps.StructuralSeries(case.components).double(),
        data,
        ps.Mode(has_prior=False, num_starts=1),
        horizon=AHEAD[series],
        cutoffs=ORIGINS[series],
        period=case.season,
        num_samples=500,
        trainer=QUIET,
    )
    seconds = time.process_time() - start
    table = found.table(by=())
    names = ["rmse", "mae", "crps", "coverage_50", "coverage_90", "count"]
    rows = [
        {"series": series, "by": row["predictor"], **{name: float(row[name]) for name in names}}
        for _, row in table.iterrows()
    ]
    rows[0] |= {"seconds": seconds, "cutoffs": list(found.cutoffs)}
    return [*rows, by_statsmodels(series, case, data, found.cutoffs)]


def by_statsmodels(series: str, case: Case, data: ps.Sequences, cutoffs: tuple[int, ...]) -> dict:
    """The same model from the same origins, each at the maximum that it finds from its own start."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    values = torch.where(data.mask, data.values[..., 0], torch.nan)[0].numpy()
    start, errors, inside = time.process_time(), [], []
    for cutoff in cutoffs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = UnobservedComponents(values[:cutoff], use_exact_diffuse=True, **case.options)
            ahead = model.fit(disp=False, maxiter=500).get_forecast(AHEAD[series])
        low, high = np.asarray(ahead.conf_int(alpha=0.1)).T
        truth = values[cutoff : cutoff + AHEAD[series]]
        seen = ~np.isnan(truth)
        errors.append((np.asarray(ahead.predicted_mean) - truth)[seen])
        inside.append(((truth >= low) & (truth <= high))[seen])
    misses, held = np.concatenate(errors), np.concatenate(inside)
    return {
        "series": series,
        "by": "UnobservedComponents",
        "rmse": float(np.sqrt(np.mean(misses**2))),
        "mae": float(np.mean(np.abs(misses))),
        "coverage_90": float(held.mean()),
        "count": len(misses),
        "seconds": time.process_time() - start,
    }


class Sampling(NamedTuple):
    """How chains are run, with a dense mass matrix; from a guide of so many steps of `SVI` where these are not 0."""

    kernel: str
    warmup_steps: int
    num_samples: int
    num_chains: int
    start_steps: int


def chains_of(series: str, case: Case, plan: Sampling) -> dict:
    """Chains on all but the last two years, how well they mixed, and their forecast of these."""
    data = case.data()
    train = data.first(data.num_steps - case.horizon)
    model = ps.StructuralSeries(case.components).double()
    start = time.process_time()
    guide = None
    if plan.start_steps:
        guide = ps.fit(model, train, ps.SVI(num_steps=plan.start_steps, learning_rate=0.05), trainer=QUIET)
    steps = {"num_samples": plan.num_samples, "warmup_steps": plan.warmup_steps, "num_chains": plan.num_chains}
    posterior = ps.fit(model, train, ps.MCMC(KERNELS[plan.kernel], **steps, start=guide), trainer=QUIET)
    return row_of(series, case, plan, model, posterior, time.process_time() - start)


def row_of(
    series: str,
    case: Case,
    plan: Sampling,
    model: ps.StructuralSeries,
    posterior: ps.StoredPosterior,
    seconds: float,
) -> dict:
    """How well chains mixed, by the worst parameter, and what they say of the last two years."""
    data = case.data()
    train = data.first(data.num_steps - case.horizon)
    draws = posterior.sites["coordinates"].numpy()
    columns = {name: (("chain", "draw"), draws[..., number]) for number, name in enumerate(model.names)}
    figures = chain_diagnostics(xr.Dataset(columns))
    worst = {name: found.to_array() for name, found in figures.items()}
    ahead = ps.forecast(posterior, train, times=data.times[-case.horizon :], num_samples=200)
    low, high = ahead.quantile([0.05, 0.95])
    truth, seen = data.values[:, -case.horizon :], data.entry_mask[:, -case.horizon :]
    return {
        "series": series,
        "by": f"StructuralSeries, {type(KERNELS[plan.kernel]).__name__}",
        "chains": draws.shape[0],
        "warmup_steps": plan.warmup_steps,
        "num_samples": draws.shape[1],
        "start_steps": plan.start_steps,
        "rhat": float(worst["rhat"].max()),
        "ess_bulk": float(worst["ess_bulk"].min()),
        "ess_tail": float(worst["ess_tail"].min()),
        "divergences": int(posterior.sample_stats["diverging"].sum()),
        "seconds": seconds,
        "rmse": float((ahead.mean - truth)[seen].square().mean().sqrt()),
        "coverage_90": float(((truth >= low) & (truth <= high))[seen].double().mean()),
    } | {name: float(torch.as_tensor(value).median()) for name, value in shown(model, posterior).items()}


def shown(model: ps.StructuralSeries, posterior: ps.StoredPosterior) -> dict[str, torch.Tensor]:
    """Parameters in the unit of the data, all draws."""
    return model.parameters_at(posterior.sites["coordinates"])
