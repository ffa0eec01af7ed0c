"""Structural time series on two classics: two years of weekly CO2 and of monthly airline passengers ahead.

``python -m benchmarks.structural`` fits a trend and a season by maximum likelihood, forecasts the last two years, and
counts what the 90 % intervals hold, beside `UnobservedComponents` of statsmodels, which also brings the CO2 data, with
59 weeks missing, and beside the value of the same season and the last value. ``--nuts`` adds the full posterior.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq.nn.components import Seasonal, Structure, Trend

QUIET = ps.Trainer(progress=False, accelerator="cpu")
# monthly totals of international airline passengers, 1949 to 1960, in thousands (Box and Jenkins, 1976, series G)
PASSENGERS = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140
145 150 178 163 172 178 199 199 184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194
196 196 236 235 229 243 264 272 237 211 180 201 204 188 235 227 234 264 302 293 259 229 203 229
242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374 413 405 355 306 271 306
315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337
360 342 406 396 420 472 548 559 463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""


class Case(NamedTuple):
    """One series, what it is made of, the same for statsmodels, and how far ahead."""

    data: Callable[[], ps.Sequences]
    components: Structure
    options: dict
    horizon: int
    season: int


class Forecast(NamedTuple):
    """Means and 90 % intervals (time,) of what was held back; the log likelihood of what was seen; what it cost."""

    mean: Tensor
    low: Tensor
    high: Tensor
    log_likelihood: float = math.nan
    seconds: float = 0.0


def co2() -> ps.Sequences:
    """Atmospheric CO2 at Mauna Loa, weekly from 1958 to 2001, in parts per million; missing weeks are hidden."""
    from statsmodels.datasets import co2

    return ps.Sequences(co2.load_pandas().data["co2"].to_numpy()[None, :, None])


def passengers() -> ps.Sequences:
    """The logarithm, in which growth and seasons add up."""
    return ps.Sequences(np.log(np.array(PASSENGERS.split(), dtype=np.float64))[None, :, None])


YEAR = 365.25 / 7
CASES = {
    "co2": Case(
        co2,
        Trend() + Seasonal(YEAR, harmonics=2),
        {"level": "lltrend", "freq_seasonal": [{"period": YEAR, "harmonics": 2}]},
        104,
        52,
    ),
    "passengers": Case(
        passengers,
        Trend() + Seasonal(12),
        {"level": "lltrend", "freq_seasonal": [{"period": 12}]},
        24,
        12,
    ),
}


def by_structure(case: Case, data: ps.Sequences, method: ps.Mode | ps.MCMC, num_samples: int = 1000) -> Forecast:
    """All that a user writes, and the log likelihood of the point."""
    train = data.first(data.num_steps - case.horizon)
    model = ps.StructuralSeries(case.components).double()
    posterior = ps.fit(model, train, method, trainer=QUIET)
    ahead = ps.forecast(posterior, train, times=data.times[-case.horizon :], num_samples=num_samples, chunk_size=100)
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


def forecasts(case: Case, *, has_nuts: bool = False) -> Iterator[tuple[str, Forecast]]:
    """Every way, with its processor time."""
    data = case.data()
    ways: dict[str, Callable[[], Forecast]] = {
        "StructuralSeries, maximum likelihood": lambda: by_structure(case, data, ps.Mode(has_prior=False)),
        "StructuralSeries, posterior mode": lambda: by_structure(case, data, ps.Mode()),
        "UnobservedComponents": lambda: by_statsmodels(case, data),
        "same season": lambda: by_season(case, data),
        "last value": lambda: by_last(case, data),
    }
    if has_nuts:
        chains = ps.MCMC(ps.NUTS(), num_samples=200, warmup_steps=200)
        ways["StructuralSeries, NUTS"] = lambda: by_structure(case, data, chains, 200)
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
    parser.add_argument("--nuts", action="store_true", help="also sample the posterior, which takes minutes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| series | by | log likelihood | root mean squared error | 90 % interval covers | s |")
    print("|---|---|---|---|---|---|")
    for series in options.series:
        for name, found in forecasts(CASES[series], has_nuts=options.nuts):
            error, share = scores(CASES[series], found)
            height = "" if math.isnan(found.log_likelihood) else f"{found.log_likelihood:.2f}"
            interval = "" if bool(found.low.isnan().all()) else f"{share:.2f}"
            print(f"| {series} | {name} | {height} | {error:.4f} | {interval} | {found.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
