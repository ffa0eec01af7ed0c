"""The best, the worst and the mean of many samples, which need not be in memory at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError

_NORMAL_QUANTILE = 1.96  # of the central 95 %


class Interval(NamedTuple):
    """A mean over series and half the width of its 95 % interval."""

    mean: Tensor
    half_width: Tensor


class SampleScores(NamedTuple):
    """Scores of one metric over the samples of each series.

    Attributes:
        best: Scores of the sample that is best over the whole series, (series, time).
        worst: Scores of the sample that is worst over the whole series, (series, time).
        mean: Mean over all samples, (series, time).
        best_sample: Which sample is best, (series,).
        worst_sample: Which sample is worst, (series,).
        num_samples: Number of samples.
    """

    best: Tensor
    worst: Tensor
    mean: Tensor
    best_sample: Tensor
    worst_sample: Tensor
    num_samples: int

    def interval(self, which: str = "best") -> Interval:
        """Mean of `best`, `worst` or `mean` over time, then over series."""
        return mean_interval(getattr(self, which).nanmean(1))

    def curve(self, which: str = "best") -> Interval:
        """Mean over series at each step, (time,)."""
        return mean_interval(getattr(self, which))


def mean_interval(values: Tensor) -> Interval:
    r"""Mean over series, with the normal approximation of its 95 % interval, :math:`\pm 1.96\, s / \sqrt n`.

    Args:
        values: (series, ...); NaN where a series was not scored.

    Returns:
        Mean and half width, (...); the half width of a single series is NaN.
    """
    scored = ~values.isnan()
    count = scored.sum(0)
    mean = values.nanmean(0)
    squares = torch.where(scored, (values - mean).square(), values.new_zeros(())).sum(0)
    spread = torch.where(count > 1, squares / (count - 1).clamp(min=1), torch.nan)
    return Interval(mean, _NORMAL_QUANTILE * (spread / count).sqrt())


class BestOf:
    """Collects the scores of samples chunk by chunk and keeps only those of the best and the worst, and the mean.

    The best sample of a series is the one whose score, averaged over time, is best. It is chosen per metric, so
    different metrics may have different best samples. The best of n improves with n and rewards spread: compare only at
    equal n.

    Args:
        is_larger_better: True for scores such as PSNR and SSIM; False for errors and distances.

    Example:
        >>> scores = torch.tensor([[[1.0, 2.0]], [[5.0, 0.0]], [[0.0, 1.0]]])  # three samples of a series of two steps
        >>> best_of = BestOf(is_larger_better=True)
        >>> best_of.add(scores[:2])
        >>> best_of.add(scores[2:])
        >>> best_of.result().best, best_of.result().mean
        (tensor([[5., 0.]]), tensor([[2., 1.]]))
    """

    def __init__(self, *, is_larger_better: bool) -> None:
        self.is_larger_better = is_larger_better
        self.num_samples = 0
        self._total: Tensor | None = None  # (series, time)
        self._best: _Kept | None = None
        self._worst: _Kept | None = None

    def add(self, scores: Tensor) -> None:
        """Add scores (sample, series, time); NaN where nothing was scored, at the same places in every sample."""
        if scores.ndim != 3 or len(scores) == 0 or (self._total is not None and self._total.shape != scores.shape[1:]):
            raise ShapeError(
                f"`scores` must be (sample, series, time), alike in all chunks. Got {tuple(scores.shape)}."
            )
        numbers = torch.arange(self.num_samples, self.num_samples + len(scores), device=scores.device)
        chunk = _Kept(scores, numbers[:, None].expand(scores.shape[:2]))
        self._best = _extreme(self._best, chunk, is_largest=self.is_larger_better)
        self._worst = _extreme(self._worst, chunk, is_largest=not self.is_larger_better)
        self._total = scores.sum(0) if self._total is None else self._total + scores.sum(0)
        self.num_samples += len(scores)

    def result(self) -> SampleScores:
        """The scores over all samples so far."""
        if self._total is None or self._best is None or self._worst is None:
            raise DataError("`result` needs samples. Call `add` first.")
        best, worst, mean = self._best, self._worst, self._total / self.num_samples
        return SampleScores(best.scores[0], worst.scores[0], mean, best.numbers[0], worst.numbers[0], self.num_samples)


class _Kept(NamedTuple):
    """Scores (sample, series, time) and the samples' numbers (sample, series)."""

    scores: Tensor
    numbers: Tensor


def _extreme(kept: _Kept | None, chunk: _Kept, *, is_largest: bool) -> _Kept:
    """The sample of each series with the largest or smallest mean over time; ties go to the first."""
    scores, numbers = chunk if kept is None else (torch.cat(pair) for pair in zip(kept, chunk, strict=True))
    means = scores.nanmean(-1).nan_to_num(0.0)  # without scores all samples tie
    chosen = means.argmax(0) if is_largest else means.argmin(0)
    series = torch.arange(scores.shape[1], device=scores.device)
    return _Kept(scores[chosen, series][None], numbers[chosen, series][None])
