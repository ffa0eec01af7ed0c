"""Structural time series on two classics: two years of weekly CO2 and of monthly airline passengers ahead.

``python -m benchmarks.structural`` fits a trend and a season by maximum likelihood, forecasts the last two years, and
counts what the 90 % intervals hold, beside `UnobservedComponents` of statsmodels, which also brings the CO2 data, with
59 weeks missing, and beside the value of the same season and the last value. ``--chains nuts`` or ``chees`` samples the
full posterior and says how well the chains mixed, ``--backtest`` forecasts from many origins, ``--speed`` times the
likelihood, ``--nile`` chains of the Nile beside those of dynamax with blackjax; their numbers go to
``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks import _structural_nile, _structural_origins, _structural_speed
from benchmarks._measure import RESULTS
from benchmarks._structural_cases import CASES, QUIET, Case
from benchmarks._structural_origins import KERNELS


class Forecast(NamedTuple):
    """Means and 90 % intervals (time,) of what was held back; the log likelihood of what was seen; what it cost."""

    mean: Tensor
    low: Tensor
    high: Tensor
    log_likelihood: float = math.nan
    seconds: float = 0.0


def by_structure(case: Case, data: ps.Sequences, method: ps.Mode, num_samples: int = 1000) -> Forecast:
    """All that a user writes, and the log likelihood of the point."""
    train = data.first(data.num_steps - case.horizon)
    model = ps.StructuralSeries(case.components).double()
    posterior = ps.fit(model, train, method, trainer=QUIET)
    ahead = ps.forecast(posterior, train, times=data.times[-case.horizon :], num_samples=num_samples)
    low, high = ahead.quantile([0.05, 0.95])
    height = math.nan
    if isinstance(posterior, ps.PointPosterior):
        path = model.path(posterior.sites["coordinates"], train)
        height = float(path.log_prob(train.values).detach())
    return Forecast(ahead.mean[0, :, 0], low[0, :, 0], high[0, :, 0], height)


def by_statsmodels(case: Case, data: ps.Sequences) -> Forecast:
    """The same model by statsmodels, at the maximum that it finds from its own start."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    values = torch.where(data.mask, data.values[..., 0], torch.nan)[0, : -case.horizon].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = UnobservedComponents(values, use_exact_diffuse=True, **case.options).fit(disp=False, maxiter=500)
    ahead = fitted.get_forecast(case.horizon)
    low, high = ahead.conf_int(alpha=0.1).T
    parts = (torch.as_tensor(np.asarray(part)) for part in (ahead.predicted_mean, low, high))
    return Forecast(*parts, float(fitted.llf))


def by_season(case: Case, data: ps.Sequences) -> Forecast:
    """The last observed value of the same season."""
    known = data.values[0, : -case.horizon, 0]
    seen = data.mask[0, : -case.horizon]
    steps = torch.arange(len(known))
    ahead = torch.arange(len(known), data.num_steps)[:, None]
    same = (steps % case.season == ahead % case.season) & seen
    mean = known[torch.where(same, steps, -1).amax(-1)]
    return Forecast(mean, torch.full_like(mean, torch.nan), torch.full_like(mean, torch.nan))


def by_last(case: Case, data: ps.Sequences) -> Forecast:
    """The last observed value."""
    known, seen = data.values[0, : -case.horizon, 0], data.mask[0, : -case.horizon]
    mean = known[seen][-1].expand(case.horizon)
    return Forecast(mean, torch.full_like(mean, torch.nan), torch.full_like(mean, torch.nan))


def forecasts(case: Case) -> Iterator[tuple[str, Forecast]]:
    """Every way, with its processor time."""
    data = case.data()
    ways: dict[str, Callable[[], Forecast]] = {
        "StructuralSeries, maximum likelihood": lambda: by_structure(case, data, ps.Mode(has_prior=False)),
        "StructuralSeries, posterior mode": lambda: by_structure(case, data, ps.Mode()),
        "UnobservedComponents": lambda: by_statsmodels(case, data),
        "same season": lambda: by_season(case, data),
        "last value": lambda: by_last(case, data),
    }
    for name, way in ways.items():
        start = time.process_time()
        found = way()
        yield name, found._replace(seconds=time.process_time() - start)


def scores(case: Case, found: Forecast) -> tuple[float, float]:
    """Root mean squared error, and the share of observed values inside the intervals."""
    data = case.data()
    truth, seen = data.values[0, -case.horizon :, 0], data.mask[0, -case.horizon :]
    error = float((found.mean - truth)[seen].square().mean().sqrt())
    return error, float(((truth >= found.low) & (truth <= found.high))[seen].double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", nargs="+", choices=list(CASES), default=list(CASES), help="which series")
    parser.add_argument("--chains", choices=list(KERNELS), help="sample the posterior instead, which takes minutes")
    parser.add_argument("--draws", type=int, nargs=3, default=[300, 500, 4], help="warm-up, draws of a chain, chains")
    parser.add_argument("--start", type=int, default=0, help="steps of SVI, from whose guide chains start; none if 0")
    parser.add_argument("--backtest", action="store_true", help="forecast from many origins instead")
    parser.add_argument("--speed", action="store_true", help="time the likelihood and its gradient instead")
    parser.add_argument("--nile", action="store_true", help="chains of the Nile beside others instead")
    parser.add_argument("--dynamax", metavar="PYTHON", help="of an environment with dynamax, for --speed; and blackjax")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        keep("speed", _structural_speed.compare(dynamax=options.dynamax))
    elif options.nile:
        keep("nile", _structural_nile.compare(_structural_nile.Plan(*options.draws), options.dynamax))
    elif options.chains:
        plan = _structural_origins.Sampling(options.chains, *options.draws, options.start)
        for series in options.series:
            keep(f"{options.chains}_{series}", [_structural_origins.chains_of(series, CASES[series], plan)])
    elif options.backtest:
        for series in options.series:
            keep(f"backtest_{series}", _structural_origins.backtest_of(series, CASES[series]))
    else:
        two_years(options.series)


def keep(name: str, rows: list[dict]) -> None:
    """Print rows, and write them to a file of results."""
    command = " ".join(["python -m benchmarks.structural", *(word for word in sys.argv[1:] if "/" not in word)])
    for row in rows:
        print({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    text = json.dumps({"command": command, "rows": rows}, indent=1)
    (RESULTS / f"structural_{name}.json").write_text(text + "\n")


def two_years(chosen: list[str]) -> None:
    """The table of one origin."""
    print("| series | by | log likelihood | root mean squared error | 90 % interval covers | s |")
    print("|---|---|---|---|---|---|")
    for series in chosen:
        for name, found in forecasts(CASES[series]):
            error, share = scores(CASES[series], found)
            height = "" if math.isnan(found.log_likelihood) else f"{found.log_likelihood:.2f}"
            interval = "" if bool(found.low.isnan().all()) else f"{share:.2f}"
            print(f"| {series} | {name} | {height} | {error:.4f} | {interval} | {found.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
