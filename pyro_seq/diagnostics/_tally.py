"""Sums of scores over series, of which a backtest makes averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.metrics import NormalForecast, coverage, crps
from pyro_seq.posterior import Prediction

SCORES = ("rmse", "mae", "crps", "coverage_50", "coverage_90")
AXES = ("cutoff", "horizon", "entry")


class Tally(NamedTuple):
    r"""Sums of what is averaged, the squared error for `rmse`, and what they are sums of.

    Attributes:
        totals: Sums over series, (score, cutoff, horizon, entry), the scores in the order of `SCORES`.
        counts: How many series they are sums over, alike.
    """

    totals: Tensor
    counts: Tensor

    def scores(self, keep: Sequence[int]) -> dict[str, Tensor]:
        """Each score over the kept axes, of cutoff 0, horizon 1 and entry 2; NaN where nothing was scored."""
        summed = [axis + 1 for axis in range(len(AXES)) if axis not in keep]
        totals, counts = (part.sum(summed) if summed else part for part in self)
        means = totals / counts
        return {"rmse": means[0].sqrt(), **dict(zip(SCORES[1:], means[1:], strict=True)), "count": counts[0]}


def scores_of_draws(prediction: Prediction, truth: Tensor) -> list[Tensor]:
    r"""What `SCORES` are averages of, for each entry (series, horizon, \*obs)."""
    draws, axes = prediction.samples, tuple(range(truth.ndim))
    return [
        (prediction.mean - truth).square(),
        (draws.median(0).values - truth).abs(),
        crps(draws, truth, keep=axes),
        coverage(draws, truth, 0.5, keep=axes),
        coverage(draws, truth, 0.9, keep=axes),
    ]


def scores_of_normal(rival: NormalForecast, truth: Tensor) -> list[Tensor]:
    error = rival.mean - truth
    return [error.square(), error.abs(), rival.crps(truth), rival.covers(truth, 0.5), rival.covers(truth, 0.9)]


def summed(scores: list[Tensor], mask: Tensor) -> Tally:
    """Sums over series of the entries in `mask` that have a score, (score, horizon, entry)."""
    values = torch.stack(scores).double().cpu()
    counted = mask.cpu() & values.isfinite()
    totals = torch.where(counted, values, 0.0).sum(1), counted.sum(1)
    return Tally(*(total.reshape(*total.shape[:2], -1) for total in totals))
