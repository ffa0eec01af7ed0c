"""Predictions that need no model, which `evaluate_baselines` and `backtest` compare with those of a model."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.metrics import (
    NormalForecast,
    drift,
    exponential_smoothing,
    linear_interpolation,
    nearest_series,
    seasonal_naive,
    training_mean,
)

_ENTRIES = 2**22  # of observations that are forecast at a time: 32 megabytes per tensor of this size
NEAREST = "nearest training series"
_NEEDS = {
    "drift": "two seen values of each entry",
    "seasonal naive": "a seen value of each entry in each season",
    "exponential smoothing": "a seen value of each entry",
}


def point_predictions(train: Sequences, given: Sequences) -> dict[str, Tensor]:
    r"""Predictions without intervals by name, (series, time, \*obs) on the grid of `given`; NaN where unknown."""
    grid = given.times.shape[-1]
    mean = training_mean(train, given, fill=torch.nan)
    predictions = {"training mean": mean, "last frame": _last_seen(given, mean)}
    if not given.horizon:
        predictions["linear interpolation"] = linear_interpolation(given, fill=mean[:, :1])
    if train.num_steps >= grid:
        predictions[NEAREST] = nearest_series(train, given.seen(), grid, fill=mean[0, 0])
    return predictions


def classical_forecasts(train: Sequences, given: Sequences, period: int | None) -> dict[str, NormalForecast]:
    """Forecasts with intervals by name, over the horizon; NaN where unknown, and `shortfall` says why.

    In the last frame, the mean of `train` replaces entries that a series has never shown, as in `point_predictions`.
    Series are forecast a few at a time, because each needs several tensors of the size of the data.
    """
    size = max(1, _ENTRIES // max(1, given.values[0].numel()))
    parts = [_rivals(given[start : start + size], period) for start in range(0, len(given), size)]
    rivals = {
        name: NormalForecast(*map(torch.cat, zip(*(part[name] for part in parts), strict=True))) for name in parts[0]
    }
    mean, naive = training_mean(train, given, fill=torch.nan)[:, given.num_steps :], rivals["last frame"]
    return rivals | {"last frame": NormalForecast(torch.where(naive.mean.isnan(), mean, naive.mean), naive.scale)}


def _rivals(given: Sequences, period: int | None) -> dict[str, NormalForecast]:
    seasonal = {} if period is None else {"seasonal naive": seasonal_naive(given, period)}
    return {
        "last frame": seasonal_naive(given),
        "drift": drift(given),
        "exponential smoothing": exponential_smoothing(given),
    } | seasonal


def shortfall(name: str, forecast: NormalForecast, scored: Tensor) -> str:
    r"""Text that says what a forecast lacks at `scored` entries (series, horizon, \*obs); empty if nothing."""
    missing = (forecast.mean.isnan() & scored).flatten(1).any(1)
    if name not in _NEEDS or not bool(missing.any()):
        return ""
    return f"needs {_NEEDS[name]}; {int(missing.sum())} of {len(missing)} series show less"


def _last_seen(given: Sequences, fill: Tensor) -> Tensor:
    """The most recent seen frame at every step of the grid; `fill` before the first."""
    frames, latest = [], fill[:, 0].to(given.values)
    for step in range(given.num_steps):
        latest = torch.where(given.entry_mask[:, step], given.values[:, step], latest)
        frames.append(latest)
    return torch.stack(frames + [latest] * given.horizon, 1)
