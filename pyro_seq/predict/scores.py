"""``Scores``: scores of a prediction against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import DataError, NumericalError
from pyro_seq.metrics import NormalForecast
from pyro_seq.metrics._scoring import average
from pyro_seq.predict._tally import SCORES, Tally, scores_of_draws, scores_of_normal, summed, table

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (*SCORES, "mase", "log_score")
_FIELDS = ("mse", "crps", "coverage_50", "coverage_90", "mae", "mase", "log_score")


class Scores(NamedTuple):
    """Scores of one task, (series,) each, in the unit of the data unless stated otherwise.

    Attributes:
        name: Name of the predictor.
        mse: Mean squared error of the mean prediction, in the square of the unit.
        crps: Continuous ranked probability score of the samples; the absolute error of a point prediction.
        coverage_50: Share of the truth inside the central 50 % interval; NaN for a point prediction.
        coverage_90: Share of the truth inside the central 90 % interval; NaN for a point prediction.
        mae: Mean absolute error of the median of the samples, or of a point prediction.
        mase: Mean absolute scaled error: `mae` of each entry divided by that of the (seasonal) naive forecast within
            the shown steps, so that variables in different units count alike; entries without such a scale are left
            out.
        log_score: Mean log density of the entries; larger is better. The log density of a class is divided among its
            entries. NaN for point predictions and for predictions without a density, such as measured pixels and grey
            levels under a `BernoulliEmission`.
        note: Why some series have no scores; empty if all have.
        tally: Sums by step and entry, averaged by `table`.
        variables: Names of the entries in the data; None without names.
    """

    name: str
    mse: Tensor
    crps: Tensor
    coverage_50: Tensor
    coverage_90: Tensor
    mae: Tensor
    mase: Tensor
    log_score: Tensor
    note: str = ""
    tally: Tally | None = None
    variables: Sequence[str] | None = None

    def __repr__(self) -> str:
        if self.tally is None:
            return f"Scores({self.name}: {self.note})"
        errors = self.standard_errors()
        figures = [f"{field} {mean:.4g} +- {errors[field]:.2g}" for field, mean in self.means().items() if mean == mean]
        return f"Scores({self.name}, series {len(self.mse)}: {', '.join(figures)})"

    def means(self) -> dict[str, float]:
        """Average of each score over the series that have one; the others had nothing to score, or see `note`."""
        return {field: float(getattr(self, field).nanmean()) for field in _FIELDS}

    def standard_errors(self) -> dict[str, float]:
        """Standard error of each of the `means`, with series as independent units; NaN for fewer than two series."""
        found = {}
        for field in _FIELDS:
            scores = getattr(self, field).double()
            scores = scores[scores.isfinite()]
            found[field] = float(scores.std() / len(scores) ** 0.5) if len(scores) > 1 else math.nan
        return found

    def table(self, by: str | Sequence[str] = "entry") -> pd.DataFrame:
        """Scores by variable or by lead time: one row per value of `by`, averaged over all its scored entries.

        Args:
            by: ``"entry"`` of the flattened observation, labelled by variable names; ``"step"``, counted from 1 over
                the scored part of the grid (for a forecast, the steps ahead); both; or ``()`` for a single row.

        Returns:
            `rmse`, the root of the mean squared error, the other scores, and `count`, the number of scored entries.

        Raises:
            DataError: When `by` is anything else, or nothing was scored.
        """
        if self.tally is None:
            raise DataError(f"There are no scores of {self.name}: {self.note}.")
        num_steps, num_entries = self.tally.totals.shape[1:]
        labels = {"step": range(1, num_steps + 1), "entry": self.variables or range(num_entries)}
        return table({self.name: self.tally}, labels, by, _COLUMNS)


def no_scores(name: str, like: Tensor, note: str) -> Scores:
    """Scores of a predictor without predictions: NaN for each score."""
    nothing: dict[str, Any] = dict.fromkeys(_FIELDS, torch.full_like(like, torch.nan))
    return Scores(name=name, **nothing, note=note)


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of several parts of the series joined into one."""
    tallies = [part.tally for part in parts if part.tally is not None]
    fields = {field: torch.cat([getattr(part, field) for part in parts]) for field in _FIELDS}
    tally = Tally(*(torch.stack(sums).sum(0) for sums in zip(*tallies, strict=True))) if tallies else None
    return Scores(name=parts[0].name, **fields, note=parts[0].note, tally=tally, variables=parts[0].variables)


def score_draws(
    name: str,
    mean: Tensor,
    samples: Tensor | None,
    truth: Tensor,
    mask: Tensor,
    *,
    naive: Tensor,
    log_density: Tensor | None = None,
    note: str = "",
) -> Scores:
    r"""Score a prediction by its mean and draws.

    Args:
        name: Name of the predictor.
        mean: Mean prediction (series, time, \*obs).
        samples: Draws (sample, series, time, \*obs), or None for a point prediction.
        truth: The truth, (series, time, \*obs).
        mask: True where scored, same shape.
        naive: Mean absolute error of the naive forecast within the shown steps, (series, \*obs).
        log_density: Log density of each entry, (series, time, \*obs), or None where there is none.
        note: For `Scores.note`.
    """
    mean = mean.to(truth)
    nothing = torch.full_like(truth, torch.nan)
    if samples is None:
        error = (mean - truth).abs()
        entries = [error.square(), error, error, nothing, nothing]
    else:
        entries = scores_of_draws(mean, samples, truth, mask)
    if bool(average(entries[0], mask, 0).isinf().any()):
        raise NumericalError(
            f"Squares of errors in `data` must be numbers that {truth.dtype} holds. Got values up to "
            f"{float(truth.abs().max()):.3g}. Rescale the data before training, or convert data and model to double "
            "precision."
        )
    return _scores(name, entries, nothing if log_density is None else log_density, mask, naive, note)


def score_normal(
    name: str, forecast: NormalForecast, truth: Tensor, mask: Tensor, *, naive: Tensor, note: str = ""
) -> Scores:
    """Score a normal forecast in closed form; entries without an interval are left out of the coverage."""
    forecast = NormalForecast(forecast.mean.to(truth), forecast.scale.to(truth))
    errors, absolute, ranked, *shares = scores_of_normal(forecast, truth)
    shares = [torch.where(forecast.scale.isfinite(), share, torch.nan) for share in shares]
    z = (truth - forecast.mean) / forecast.scale
    log_density = -0.5 * z.square() - (forecast.scale * math.sqrt(2 * math.pi)).log()
    log_density = torch.where(forecast.scale > 0, log_density, torch.nan)
    return _scores(name, [errors, absolute, ranked, *shares], log_density, mask, naive, note)


def _scores(name: str, entries: list[Tensor], log_density: Tensor, mask: Tensor, naive: Tensor, note: str) -> Scores:
    """Averages over the entries of each series, and sums over series; an interval or a scale may be missing."""
    errors, absolute, ranked, inner, outer = entries
    scaled = torch.where(naive[:, None] > 0, absolute / naive[:, None], torch.nan)

    def known(score: Tensor) -> Tensor:
        return average(score, mask & ~score.isnan(), 0)

    return Scores(
        name,
        mse=average(errors, mask, 0),
        crps=average(ranked, mask, 0),
        coverage_50=known(inner),
        coverage_90=known(outer),
        mae=average(absolute, mask, 0),
        mase=known(scaled),
        log_score=average(log_density, mask, 0),
        note=note,
        tally=summed([*entries, scaled, log_density], mask),
    )
