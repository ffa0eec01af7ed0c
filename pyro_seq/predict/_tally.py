"""Sums of scores over series, averaged into tables by step, entry and cutoff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import require
from pyro_seq.metrics import NormalForecast, coverage, crps

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("rmse", "mae", "crps", "coverage_50", "coverage_90")


class Tally(NamedTuple):
    r"""Sums of scores (of the squared error for `rmse`) and the number of terms in each.

    Attributes:
        totals: Sums over series, (score, \*axes); first the squared errors.
        counts: Number of series in each sum, same shape.
    """

    totals: Tensor
    counts: Tensor

    def scores(self, keep: Sequence[int], names: Sequence[str] = SCORES) -> dict[str, Tensor]:
        """Each score over the kept axes, counted from 0; NaN where nothing was scored."""
        over = [axis for axis in range(1, self.totals.ndim) if axis - 1 not in keep]
        totals, counts = (part.sum(over) if over else part for part in self)
        means = totals / counts
        return {"rmse": means[0].sqrt(), **dict(zip(names[1:], means[1:], strict=True)), "count": counts[0]}


def table(
    tallies: Mapping[str, Tally],
    labels: Mapping[str, Sequence],
    by: str | Sequence[str],
    scores: Sequence[str] = SCORES,
) -> pd.DataFrame:
    """One row per predictor and value of `by` (some of the axes), averaged over the other axes.

    Args:
        tallies: Tallies by predictor.
        labels: Labels along each axis, in the order of the axes of the tallies.
        by: Names of the axes to keep.
        scores: Names of the scores in the tallies.

    Raises:
        DataError: When `by` names an unknown axis.
    """
    import pandas as pd

    axes, asked = tuple(labels), (by,) if isinstance(by, str) else tuple(by)
    require(len(set(asked)) == len(asked) and set(asked) <= set(axes), "by", f"some of {axes}", by)
    kept = [axis for axis in axes if axis in asked]
    frames = []
    for predictor, tally in tallies.items():
        averages = tally.scores([axes.index(axis) for axis in kept], scores)
        index = pd.MultiIndex.from_product([[predictor], *(labels[axis] for axis in kept)], names=["predictor", *kept])
        columns = {name: score.flatten().numpy() for name, score in averages.items()}
        frames.append(pd.DataFrame(columns, index=index).astype({"count": int}))
    return pd.concat(frames).reset_index()


def scores_of_draws(mean: Tensor, draws: Tensor, truth: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    r"""The terms averaged in `SCORES`, per entry (series, time, \*obs); may be NaN where not scored."""
    axes = tuple(range(truth.ndim))
    return [
        (mean - truth).square(),
        (draws.median(0).values - truth).abs(),
        crps(draws, truth, keep=axes),
        coverage(draws, truth, 0.5, mask=mask, keep=axes),
        coverage(draws, truth, 0.9, mask=mask, keep=axes),
    ]


def scores_of_normal(rival: NormalForecast, truth: Tensor) -> list[Tensor]:
    error = rival.mean - truth
    return [error.square(), error.abs(), rival.crps(truth), rival.covers(truth, 0.5), rival.covers(truth, 0.9)]


def summed(scores: Sequence[Tensor], mask: Tensor) -> Tally:
    """Sums over series of the scores of entries in `mask`, where they have one, (score, time, entry)."""
    values = torch.stack([*scores]).double().cpu()
    counted = mask.cpu() & (values.isfinite() | values.isneginf())  # a log score is -inf for an impossible value
    totals, counts = torch.where(counted, values, 0.0).sum(1), counted.sum(1)
    return Tally(*(total.reshape(*total.shape[:2], -1) for total in (totals, counts)))
