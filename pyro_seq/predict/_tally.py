"""Sums of scores over series, of which tables by step, by entry and by cutoff make averages."""

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
    r"""Sums of what is averaged, the squared error for `rmse`, and what they are sums of.

    Attributes:
        totals: Sums over series, (score, \*axes), the first the squared errors.
        counts: How many series they are sums over, alike.
    """

    totals: Tensor
    counts: Tensor

    def scores(self, keep: Sequence[int], names: Sequence[str] = SCORES) -> dict[str, Tensor]:
        """Each score over the axes that are kept, counted from 0; NaN where nothing was scored."""
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
    """A row for each predictor and each value of `by`, some of the axes; the others are averaged over.

    Args:
        tallies: By predictor.
        labels: What the places along each axis are called, the axes in the order of the tallies'.
        by: Names of axes.
        scores: Names of the scores that the tallies hold.

    Raises:
        DataError: When `by` names something else.
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
    r"""What `SCORES` are averages of, for each entry (series, time, \*obs); where it is not scored it may be NaN."""
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
    """Sums over series of the entries in `mask` that have a score, (score, time, entry)."""
    values = torch.stack([*scores]).double().cpu()
    counted = mask.cpu() & (values.isfinite() | values.isneginf())  # a log score may say that it was impossible
    totals, counts = torch.where(counted, values, 0.0).sum(1), counted.sum(1)
    return Tally(*(total.reshape(*total.shape[:2], -1) for total in (totals, counts)))
