"""Calibration of stated probabilities: interval coverage, probability integral transform, simulation-based ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq._process import one_at_a_time
from pyro_seq.data import Sequences
from pyro_seq.door import require_data, require_posterior
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import coverage
from pyro_seq.metrics._scoring import as_mask, as_samples
from pyro_seq.posterior import Posterior
from pyro_seq.predict.verbs import sample

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


class CalibrationCurve(NamedTuple):
    """Coverage of central intervals.

    Attributes:
        levels: Stated probabilities (level,).
        coverage: Share of the truth inside the interval of each level (level,).
        standard_error: Standard error of `coverage`, with series as independent units (level,); NaN for a single
            series.
    """

    levels: Tensor
    coverage: Tensor
    standard_error: Tensor


class Uniformity(NamedTuple):
    """A test of uniformity.

    Attributes:
        statistic: Kolmogorov-Smirnov distance, or chi-square.
        p_value: Probability of a statistic at least as large if the values are uniform and independent.
    """

    statistic: float
    p_value: float


def calibration_curve(
    samples: Any, truth: Any, levels: Sequence[float] = LEVELS, *, mask: Any | None = None
) -> CalibrationCurve:
    r"""How often central intervals of each level contain the truth.

    A curve below the diagonal is overconfident, one above it too cautious. Steps and entries of one series are
    dependent, so the standard error uses the covered share of each series as one observation.

    Args:
        samples: Predictive draws, noise included, (sample, series, time, \*obs).
        truth: (series, time, \*obs).
        levels: Probabilities of the intervals.
        mask: True where scored, over leading axes of `truth`.

    Returns:
        The curve.

    Raises:
        ShapeError: When shapes do not fit.
        DataError: When a level is not a probability, numbers are NaN, or nothing is scored.

    Example:
        >>> prediction = forecast(posterior, given)  # doctest: +SKIP
        >>> calibration_curve(prediction.samples, truth)  # doctest: +SKIP
    """
    samples, truth = as_samples(samples, truth)
    scored = as_mask(mask, truth)
    shares = [coverage(samples, truth, level, mask=mask, keep=0) for level in levels]
    if not shares:
        raise DataError("`levels` must hold at least one probability. Got none.")
    table = torch.stack(shares).double()
    weight = scored.reshape(len(truth), -1).sum(1).double()
    if not bool(weight.any()):
        raise DataError("`mask` must leave something to score. Got False everywhere.")
    weight = weight / weight.sum()
    table = torch.where(weight > 0, table, 0.0)
    mean = table @ weight
    count = int((weight > 0).sum())
    variance = ((table - mean[:, None]) ** 2 @ weight**2) * count / (count - 1) if count > 1 else mean * torch.nan
    return CalibrationCurve(torch.tensor(list(levels), dtype=torch.float64), mean, variance.sqrt())


def probability_integral_transform(samples: Any, truth: Any, *, mask: Any | None = None, seed: int = 0) -> Tensor:
    r"""Position of each scored entry within its predictive distribution, in (0, 1); uniform when calibrated.

    .. math::
        u = \frac{r + v}{S + 1}, \qquad r = \#\{s : x_s < y\}, \quad v \sim \mathrm{Uniform}(0, 1)

    The random part makes it exactly uniform for every number S of samples, and breaks ties. In a histogram, peaks at
    both ends mean overconfidence, a hump in the middle too much caution, a slope bias.

    Args:
        samples: Predictive draws, noise included, (sample, series, time, \*obs).
        truth: (series, time, \*obs).
        mask: True where scored, over leading axes of `truth`.
        seed: Seed of the random part.

    Returns:
        Values of the scored entries (entry,), in double precision.

    References:
        Gneiting, Balabdaoui, Raftery (2007), Probabilistic forecasts, calibration and sharpness.
    """
    samples, truth = as_samples(samples, truth)
    scored = as_mask(mask, truth)
    if bool(((samples.isnan().any(0) | truth.isnan()) & scored).any()):
        raise DataError("`samples` and the scored `truth` must not be NaN, which has no rank. Hide NaN by `mask`.")
    generator = torch.Generator().manual_seed(seed_number(seed))
    ranks = _ranks(samples[:, scored], truth[scored], generator).cpu()
    noise = torch.rand(ranks.shape, generator=generator, dtype=torch.float64)
    return (ranks + noise) / (len(samples) + 1)


def rank_statistics(draws: Any, truth: Any, *, seed: int = 0) -> Tensor:
    r"""Rank of each true value among its posterior draws, 0 to S; uniform if the truth is itself such a draw.

    In simulation-based calibration, parameters are drawn from the prior, data from the model given them, and draws from
    the posterior given the data; over many simulations the ranks are uniform.

    Args:
        draws: (sample, replicate, \*event). Draws of a chain must be thinned until they are nearly independent.
        truth: (replicate, \*event).
        seed: Seed of the choice among ties.

    Returns:
        Whole numbers (replicate, \*event).

    Raises:
        ShapeError: When shapes do not fit.
        DataError: When draws are NaN.

    Example:
        >>> rank_statistics(torch.tensor([[0.1], [0.4], [0.2]]), torch.tensor([0.3]))
        tensor([2])

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference algorithms with
        simulation-based calibration.
    """
    draws, truth = torch.as_tensor(draws), torch.as_tensor(truth)
    if draws.ndim != truth.ndim + 1 or draws.shape[1:] != truth.shape or not len(draws):
        raise ShapeError(
            f"`draws` must have one sample axis in front of the axes of `truth`. Got {tuple(draws.shape)} and "
            f"{tuple(truth.shape)}. Its axes are (sample, replicate, *event)."
        )
    if bool(draws.isnan().any() | truth.isnan().any()):
        raise DataError("`draws` and `truth` must not be NaN, which has no rank. Leave those replicates out.")
    return _ranks(draws, truth, torch.Generator().manual_seed(seed_number(seed)))


def uniformity(values: Tensor) -> Uniformity:
    """Kolmogorov-Smirnov test that values in (0, 1) are uniform.

    Args:
        values: Independent values, as from `probability_integral_transform`. Entries of one series are dependent and
            make the p-value too small: pass one entry per series.
    """
    from scipy import stats  # slow to import and needed only here

    result = stats.kstest(torch.as_tensor(values).detach().cpu().numpy().ravel(), "uniform")
    return Uniformity(float(result.statistic), float(result.pvalue))


def rank_uniformity(ranks: Tensor, num_samples: int, *, num_bins: int = 20) -> Uniformity:
    """Chi-square test that ranks 0 to `num_samples` are uniform.

    Args:
        ranks: Independent ranks, as from `rank_statistics`, of one entry of the event; the test needs at least 5 per
            bin.
        num_samples: Number S of draws behind each rank.
        num_bins: Groups of neighbouring ranks; at most S + 1.

    Raises:
        DataError: When ranks lie outside 0 to S, or there are too few for the bins.
    """
    ranks = torch.as_tensor(ranks).flatten()
    num_bins = min(whole_number(num_bins, "num_bins", 2), num_samples + 1)
    if not len(ranks) or bool((ranks < 0).any()) or bool((ranks > num_samples).any()):
        raise DataError(f"`ranks` must lie between 0 and `num_samples` = {num_samples}. Got others, or none.")
    if len(ranks) < 5 * num_bins:
        raise DataError(f"`ranks` must be 5 for each of {num_bins} bins or more. Got {len(ranks)}. Lower `num_bins`.")
    bin_of = torch.arange(num_samples + 1) * num_bins // (num_samples + 1)
    expected = torch.bincount(bin_of, minlength=num_bins).double() * len(ranks) / (num_samples + 1)
    found = torch.bincount(bin_of[ranks.cpu().long()], minlength=num_bins)
    from scipy import stats

    result = stats.chisquare(found.numpy(), expected.numpy())
    return Uniformity(float(result.statistic), float(result.pvalue))


@one_at_a_time
def guide_ranks(posterior: Posterior, data: Sequences, site: str, *, num_samples: int = 99, seed: int = 0) -> Tensor:
    r"""Ranks of true latents of simulated series among the guide's draws given those series; uniform for a good guide.

    Every series is simulated on the grid and with the mask of `data`: its latents from the prior, global latents
    (weights) from the posterior. A guide that is too narrow gives ranks near both ends. This tests the guide, not the
    model, because the data are simulated from the model.

    Args:
        posterior: An amortised posterior, such as `fit` with `SVI` returns.
        data: Data that give the number of series, times, mask and inputs.
        site: A latent site that belongs to single series, such as ``"initial"``.
        num_samples: Number of draws behind each rank.
        seed: Seed of simulation and draws.

    Returns:
        Ranks (series, \*event) from 0 to `num_samples`; series are independent given the global latents.

    Raises:
        DataError: When `site` is not among the latents of single series.
        UnsupportedError: When the model cannot be sampled from its prior.

    References:
        Yao, Vehtari, Simpson, Gelman (2018), Yes, but did it work?: Evaluating variational inference.
    """
    require_posterior(posterior)
    require_data(posterior.model, data, has_values=False)
    data, seed = data.seen(), seed_number(seed)
    simulated = sample(posterior, data, num_samples=1, seed=seed)
    given = replace(data, values=simulated.samples[0], mask=data.mask)
    draws = posterior.draws(given, num_samples, seed=seed + 1)
    if site not in draws or draws[site].shape[1:] != simulated.latents[site].shape[1:]:
        raise DataError(
            f"`site` must be a latent of single series that the guide draws. Got {site!r} of {sorted(draws)}."
        )
    return rank_statistics(draws[site], simulated.latents[site][0], seed=seed)


def _ranks(draws: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    below, ties = (draws < truth).sum(0), (draws == truth).sum(0)
    chance = torch.rand(truth.shape, generator=generator, dtype=torch.float64).to(ties.device)
    return below + (chance * (ties + 1)).floor().long()
