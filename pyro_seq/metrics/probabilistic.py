"""Scores of a sampled predictive distribution against the truth: CRPS, energy score, interval coverage.

`samples` has one sample axis in front of the truth's axes. `mask` and `keep` are those of `pyro_seq.metrics.pointwise`.
Sample-based scores depend on the number of samples; `is_fair=True` removes that dependence in expectation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.ops.stats import crps_empirical
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics._scoring import Axes, as_mask, as_samples, average

_MAX_DISTANCES = 2**24  # pairwise distances held at once: 128 MB in double precision


def crps(samples: Any, truth: Any, *, mask: Any | None = None, keep: Axes = (), is_fair: bool = False) -> Tensor:
    r"""Continuous ranked probability score of every single entry; smaller is better.

    .. math::

        \mathrm{CRPS} = \mathbb{E}|X - y| - \tfrac{1}{2} \mathbb{E}|X - X'|

    in the units of the data; the absolute error for a single sample. Cost: one sort, S log S in the number S of
    samples.

    Args:
        samples: Draws (sample, series, time, \*obs).
        truth: (series, time, \*obs).
        mask: True where scored, over leading axes of `truth`.
        keep: Axes of `truth` that are not averaged.
        is_fair: Average `|X - X'|` over pairs of different samples only. The score of S samples then has the
            expectation of the score of their distribution; without it the expectation is too large by
            `E|X - X'| / (2 S)`.

    Returns:
        The score.

    Raises:
        ShapeError: When shapes do not fit, or `is_fair` with one sample.

    References:
        Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation; Ferro (2014), Fair
        scores for ensemble forecasts.
    """
    samples, truth = as_samples(samples, truth)
    score = crps_empirical(samples, truth)
    if is_fair:
        spread = (samples - truth).abs().mean(0) - score
        score = score - spread * _unfairness(samples)
    return average(score, as_mask(mask, truth), keep)


def energy_score(
    samples: Any, truth: Any, event_dims: int, *, mask: Any | None = None, keep: Axes = (), is_fair: bool = False
) -> Tensor:
    r"""Energy score, the CRPS for vectors: also scores the dependence between the entries of an event.

    .. math::

        \mathrm{ES} = \mathbb{E}\|X - y\| - \tfrac{1}{2} \mathbb{E}\|X - X'\|

    with the Euclidean norm over the last `event_dims` axes. Hidden entries are left out of the norm, which scores the
    marginal of the seen ones; an event without seen entries is not scored. Cost: S^2 distances per event, computed in
    chunks.

    Args:
        samples: Draws (sample, series, time, \*obs).
        truth: (series, time, \*obs).
        event_dims: Number of last axes that form one event: the axes of an observation for one score per step, one more
            for whole paths, 0 for the CRPS.
        mask: True where scored, over leading axes of `truth`.
        keep: Axes of `truth`, in front of the event, that are not averaged.
        is_fair: As for `crps`.

    Returns:
        The score; smaller is better.

    Raises:
        ShapeError: When shapes do not fit, or `is_fair` with one sample.

    References:
        Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation.
    """
    samples, truth = as_samples(samples, truth)
    if not 0 <= event_dims <= truth.ndim:
        raise ShapeError(f"`event_dims` must count last axes of `truth` {tuple(truth.shape)}. Got {event_dims}.")
    batch, event = truth.shape[: truth.ndim - event_dims], truth.shape[truth.ndim - event_dims :]
    seen = as_mask(mask, truth).reshape(*batch, math.prod(event))
    errors = (samples - truth).reshape(len(samples), *seen.shape)
    errors = torch.where(seen, errors, errors.new_zeros(()))
    errors = errors.reshape(len(samples), math.prod(batch), math.prod(event)).transpose(0, 1)
    spread = 0.5 * _mean_distance(errors)
    if is_fair:
        spread = spread * (1.0 + _unfairness(samples))
    score = errors.norm(dim=-1).mean(-1) - spread
    return average(score.reshape(batch), seen.any(-1), keep)


def coverage(samples: Any, truth: Any, level: float, *, mask: Any | None = None, keep: Axes = ()) -> Tensor:
    r"""How often the central interval of a given level contains the truth; well calibrated when equal to `level`.

    If the truth and the S samples come from one distribution, the truth's rank among them is uniform on 0, ..., S.
    Rank r stands for the probabilities from r / (S + 1) to (r + 1) / (S + 1), and an entry counts with the share of
    these inside [(1 - level) / 2, (1 + level) / 2]: 1 well inside the interval, 0 well outside, a fraction at its ends.
    The expected coverage is then `level` for *every* S, whereas intervals between plain sample quantiles cover too
    little. Ties share their ranks.

    Args:
        samples: Draws of observations, noise included, (sample, series, time, \*obs).
        truth: (series, time, \*obs).
        level: Probability of the interval, between 0 and 1.
        mask: True where scored, over leading axes of `truth`.
        keep: Axes of `truth` that are not averaged.

    Returns:
        The covered share.

    Raises:
        ShapeError: When shapes do not fit.
        DataError: When `level` is not a probability, or `samples` or scored entries of `truth` are NaN.

    Example:
        >>> samples = torch.arange(9.0).reshape(9, 1, 1)
        >>> coverage(samples, torch.full((1, 1), 4.5), 0.8), coverage(samples, torch.full((1, 1), 9.0), 0.8)
        (tensor(1.), tensor(0.))
    """
    samples, truth = as_samples(samples, truth)
    if not 0 < level < 1:
        raise DataError(f"`level` must lie between 0 and 1. Got {level}. For 90 % pass 0.9.")
    scored = as_mask(mask, truth)
    if bool(((samples.isnan().any(0) | truth.isnan()) & scored).any()):
        raise DataError("`samples` and the scored `truth` must not be NaN, which has no rank. Hide NaN by `mask`.")
    num_ranks = len(samples) + 1
    below = (samples < truth).sum(0).to(truth.dtype) / num_ranks
    above = (samples <= truth).sum(0).add(1).to(truth.dtype) / num_ranks
    inside = above.clamp(max=(1 + level) / 2) - below.clamp(min=(1 - level) / 2)
    return average(inside.clamp(min=0) / (above - below), scored, keep)


def _unfairness(samples: Tensor) -> float:
    """Relative shortfall of the mean over all S^2 pairs against that over the S (S - 1) pairs of different samples."""
    if len(samples) < 2:
        raise ShapeError("`is_fair` compares different samples and needs two or more. Got one. Draw more samples.")
    return 1.0 / (len(samples) - 1)


def _mean_distance(points: Tensor) -> Tensor:
    """Mean Euclidean distance over all pairs, (batch, sample, event) -> (batch,), with few distances held at once."""
    batch, num_samples, _ = points.shape
    rows = max(1, min(num_samples, _MAX_DISTANCES // max(1, num_samples * batch)))
    # torch.cdist subtracts squares, which costs digits when the points lie far from zero.
    points = points - points.mean(1, keepdim=True)
    totals = [torch.cdist(chunk, points).sum((-2, -1)) for chunk in points.split(rows, dim=1)]
    return torch.stack(totals).sum(0) / num_samples**2
