"""``evaluate``: score predictions of a task against the truth, and simple baselines."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_seq._arguments import is_positive, keep_whole, require, seed_number, whole_number
from pyro_seq._process import process_state
from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.data._columns import require_same_names
from pyro_seq.data._validation import widen
from pyro_seq.door import require_posterior, require_type
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import naive_error
from pyro_seq.posterior import GuidePosterior, Posterior, Prediction
from pyro_seq.predict.baselines import NEAREST, classical_forecasts, point_predictions, shortfall
from pyro_seq.predict.finite import require_finite
from pyro_seq.predict.log_density import LogDensity
from pyro_seq.predict.scores import Scores, joined, no_scores, score_draws, score_normal
from pyro_seq.predict.verbs import CHUNK_ENTRIES, forecast, impute, reconstruct

_PATIENCE = 10.0  # seconds until a progress bar appears
_LOW_COVERAGE = 2 / 3  # of the nominal coverage


class Task(Protocol):
    """Defines which data the model sees, and where its prediction is scored."""

    def given(self, data: Sequences) -> Sequences:
        """The visible part of `data`, on a grid as long as the prediction."""
        ...

    def predict(
        self, posterior: Posterior, given: Sequences, *, num_samples: int, chunk_size: int | None, seed: int
    ) -> Prediction:
        """Predict every step of `data`'s grid from `given`."""
        ...

    def scored(self, data: Sequences) -> Tensor:
        """True at entries that are scored, shaped like ``data.values``."""
        ...


@dataclass(frozen=True)
class Reconstruction:
    """Reconstruct the seen steps."""

    def given(self, data: Sequences) -> Sequences:
        """Everything."""
        return data.seen()

    def predict(
        self, posterior: Posterior, given: Sequences, *, num_samples: int, chunk_size: int | None, seed: int
    ) -> Prediction:
        """Reconstruct."""
        return reconstruct(posterior, given, num_samples=num_samples, chunk_size=chunk_size, seed=seed)

    def scored(self, data: Sequences) -> Tensor:
        """Every observed entry."""
        return data.entry_mask


@dataclass(frozen=True)
class Forecasting:
    """See the first `num_observed` steps, predict the rest.

    Args:
        num_observed: Number of steps seen.
    """

    num_observed: int

    def __post_init__(self) -> None:
        keep_whole(self, 1, "num_observed")

    def given(self, data: Sequences) -> Sequences:
        """The first steps, with the times (and inputs) of the remaining steps as horizon."""
        data = data.seen()
        if not 0 < self.num_observed < data.num_steps:
            raise DataError(
                f"`num_observed` must leave steps to forecast: 1 to {data.num_steps - 1}. Got {self.num_observed}."
            )
        inputs = None if data.inputs is None else data.inputs[:, self.num_observed :]
        return data.first(self.num_observed).extend(times=data.times[..., self.num_observed :], inputs=inputs)

    def predict(
        self, posterior: Posterior, given: Sequences, *, num_samples: int, chunk_size: int | None, seed: int
    ) -> Prediction:
        """Forecast."""
        return forecast(posterior, given, num_samples=num_samples, chunk_size=chunk_size, seed=seed)

    def scored(self, data: Sequences) -> Tensor:
        """Every observed entry after the seen steps."""
        return data.entry_mask[:, self.num_observed :]


@dataclass(frozen=True)
class Imputation:
    """Hide whole steps at random, or single entries, and fill them.

    Args:
        fraction: Share of steps (or entries) to hide, among those that may be hidden.
        num_kept: Steps at the start that stay visible.
        seed: Seed of the choice.
        is_by_entry: Hide single entries instead of whole steps, as in tables whose variables are rarely seen together.
    """

    fraction: float = 0.3
    num_kept: int = 1
    seed: int = 0
    is_by_entry: bool = False

    def __post_init__(self) -> None:
        is_share = is_positive(self.fraction) and self.fraction <= 1
        require(is_share, "fraction", "a share of the steps, above 0 and at most 1", self.fraction)
        keep_whole(self, 0, "num_kept")
        require(isinstance(self.is_by_entry, bool), "is_by_entry", "True or False", self.is_by_entry)
        object.__setattr__(self, "seed", seed_number(self.seed))

    def given(self, data: Sequences) -> Sequences:
        """The data with the chosen steps hidden."""
        return data.seen().hide(self._hidden(data))

    def predict(
        self, posterior: Posterior, given: Sequences, *, num_samples: int, chunk_size: int | None, seed: int
    ) -> Prediction:
        """Impute."""
        return impute(posterior, given, num_samples=num_samples, chunk_size=chunk_size, seed=seed)

    def scored(self, data: Sequences) -> Tensor:
        """The hidden entries that were observed."""
        return data.entry_mask & widen(self._hidden(data), data.values)

    def _hidden(self, data: Sequences) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        shape = data.entry_mask.shape if self.is_by_entry else (data.num_series, data.num_steps)
        hidden = torch.rand(shape, generator=generator) < self.fraction
        hidden[:, : self.num_kept] = False
        return hidden.to(data.device)


def evaluate(
    posterior: Posterior,
    data: Sequences,
    task: Task,
    *,
    num_samples: int = 100,
    chunk_size: int | None = None,
    seed: int = 0,
    period: int | None = None,
) -> Scores:
    """Score a fitted model on a task.

    Memory: series are predicted in rounds of 2^24 entries of draws (at least one series), independent of their total
    number. The rounds depend only on the sizes of the data and on `num_samples`, so a seed reproduces the scores.
    Each round has separate random numbers and draws the latents that all series share anew: with several rounds,
    scores differ from those of one joint prediction, but are equally valid. After ten seconds a progress bar
    appears.

    Args:
        posterior: The posterior returned by `fit`.
        data: The complete data; the task hides the part to predict.
        task: `Reconstruction`, `Forecasting` or `Imputation`.
        num_samples: Number of predictive draws.
        chunk_size: Draws computed at a time; as for `forecast` by default.
        seed: Seed of the draws.
        period: Season length in steps of the naive forecast that scales `Scores.mase`; None for the previous step.

    Returns:
        Scores of each series; `Scores.means` and `Scores.standard_errors` summarise them, ``.table(by="entry")`` and
        ``.table(by="step")`` list them by variable and lead time.

    Raises:
        DataError: When the task leaves nothing to score.
        NumericalError: When a prediction is not finite.

    Warns:
        UserWarning: When 90 % intervals from a guide cover less than two thirds of their nominal share, by more than
            two standard errors.
    """
    require_posterior(posterior)
    require_type(data, Sequences, "data")
    _require_task(task)
    num_samples, seed = whole_number(num_samples, "num_samples", 1), seed_number(seed)
    given, name = task.given(data), type(posterior.model).__name__
    truth, mask = scored_truth(data, task)
    naive, whole = _naive_error(given, period), data.seen().values

    def scores_of(part: slice, seed: int) -> Scores:
        with process_state(), LogDensity(whole[part], given.num_steps) as density:
            prediction = task.predict(posterior, given[part], num_samples=num_samples, chunk_size=chunk_size, seed=seed)
        require_finite(prediction.samples, prediction.emission_means, prediction.times)
        entries = density.entries(num_samples)
        return score_draws(
            name,
            prediction.mean,
            prediction.samples,
            truth[part],
            mask[part],
            naive=naive[part],
            log_density=None if entries is None else entries[:, -mask.shape[1] :],
        )

    size = max(1, CHUNK_ENTRIES // (num_samples * given.times.shape[-1] * math.prod(data.obs_shape)))
    starts = tqdm(range(0, data.num_series, size), "evaluate", unit="round", leave=False, delay=_PATIENCE)
    rounds = [
        # seeds that verbs derive from it must stay below 64 bits
        scores_of(slice(start, start + size), mixed_seed(seed, number) >> 2 if number else seed)
        for number, start in enumerate(starts)
    ]
    scores = joined(rounds)._replace(variables=data.labels.variables)
    if isinstance(posterior, GuidePosterior):
        _warn_of_narrow(scores, num_samples)
    return scores


def _warn_of_narrow(scores: Scores, num_samples: int) -> None:
    """Warn if intervals from a guide cover far too little, with a remedy."""
    share, error = scores.means()["coverage_90"], scores.standard_errors()["coverage_90"]
    expected = 1 - 2 * (0.05 * (num_samples - 1) + 1) / (num_samples + 1)  # between quantiles of `num_samples` draws
    if share + 2 * error < _LOW_COVERAGE * expected:  # not where the error is unknown
        warnings.warn(
            f"Central 90 % intervals of this {scores.name} hold {share:.2f} +- {error:.2f} of what is scored. If the "
            "guide is at fault, `refine(posterior)` infers each series by chains from where it says; if the model is, "
            "`recalibrate(posterior, validation, task)` widens the intervals until they hold.",
            UserWarning,
            stacklevel=4,
        )


def evaluate_baselines(train: Sequences, data: Sequences, task: Task, *, period: int | None = None) -> list[Scores]:
    """Score predictions that need no model: the training mean, the last seen frame, the nearest training series.

    Tasks without a forecast also get linear interpolation between the seen values. Forecasts of vectors also get
    classical baselines with intervals, fitted to each series separately: the last frame (a random walk), drift,
    exponential smoothing and, if `period` is given, the last season. Both data sets may have gaps: the mean is taken
    over seen entries and fills entries that a series has not shown yet; an entry hidden in the nearest training series
    is taken from the next nearest series that shows it, or from the mean.

    Args:
        train: Training data, for the mean and the neighbour.
        data: The complete data.
        task: As for `evaluate`.
        period: Season length in steps, such as 12 for monthly data; None without a season.

    Returns:
        Scores of each baseline. NaN where it has no prediction; `Scores.note` says why: entries never seen in `train`
        have no mean, and the nearest series must be as long as those of `data`.

    Raises:
        ShapeError: When the two data sets have different observations.
        DataError: When the task leaves nothing to score, or `period` is given for a task that is not a forecast of
            vectors.
    """
    require_type(train, Sequences, "train")
    require_type(data, Sequences, "data")
    if train.obs_shape != data.obs_shape:
        raise ShapeError(f"`train` must have observations like `data`, {data.obs_shape}. Got {train.obs_shape}.")
    require_same_names(data.labels, train.labels, "data", "train.labels")
    _require_task(task)
    given, missing = task.given(data), _never_seen(train, data, task)
    truth, mask = scored_truth(data, task)
    is_classical = len(data.obs_shape) == 1 and bool(given.num_steps) and mask.shape[1] == given.horizon
    if period is not None and not is_classical:
        raise DataError(f"`period` is for forecasts of vectors. Got {period} with {task} and {data!r}. Leave it out.")
    naive = _naive_error(given, period)
    rows = {
        name: score_draws(name, values, None, truth, mask, naive=naive, note=missing)
        for name, values in baselines(train, data, task).items()
    }
    nearest = rows.pop(NEAREST, None)
    if is_classical:
        for name, forecast in classical_forecasts(train, given, period).items():
            note = missing if name == "last frame" else shortfall(name, forecast, mask)
            rows[name] = score_normal(name, forecast, truth, mask, naive=naive, note=note)
    if train.num_steps < data.num_steps:
        note = f"needs training series of {data.num_steps} steps, as in `data`; those of `train` have {train.num_steps}"
        nearest = no_scores(NEAREST, rows["training mean"].mse, note)
    found = [*rows.values(), *([] if nearest is None else [nearest])]
    return [scores._replace(variables=data.labels.variables) for scores in found]


def baselines(train: Sequences, data: Sequences, task: Task) -> dict[str, Tensor]:
    r"""Predictions without intervals, by name: (series, time, \*obs) over the scored part of the grid."""
    given = task.given(data)
    start = given.times.shape[-1] - task.scored(data).shape[1]
    return {name: values[:, start:] for name, values in point_predictions(train, given).items()}


def _never_seen(train: Sequences, data: Sequences, task: Task) -> str:
    """Text that names the scored entries never seen in training."""
    scored = task.scored(data).flatten(0, 1).any(0)
    entries = [tuple(entry) for entry in (scored & ~train.entry_mask.flatten(0, 1).any(0)).nonzero().tolist()]
    names = data.labels.variables
    return (
        f"no series of `train` shows the entries {[names[e[0]] for e in entries] if names else entries}"
        if entries
        else ""
    )


def score(name: str, mean: Tensor, samples: Tensor | None, data: Sequences, task: Task, *, note: str = "") -> Scores:
    r"""Score one prediction of a task.

    Args:
        name: Name of the predictor.
        mean: Mean prediction (series, time, \*obs) over the scored part of the grid.
        samples: Predictive draws (sample, series, time, \*obs), or None for a point prediction.
        data: The truth.
        task: The task, which says where to score.
        note: For `Scores.note`.

    Raises:
        DataError: When the mean is not finite at a scored entry and `note` is empty.
    """
    truth, mask = scored_truth(data, task)
    is_said = bool(note) or bool(mean[mask.to(mean.device)].isfinite().all())
    require(is_said, "mean", "finite where it is scored, or a `note` must say why it is not", mean)
    naive = _naive_error(task.given(data), None)
    scores = score_draws(name, mean, samples, truth, mask, naive=naive, note=note)
    return scores._replace(variables=data.labels.variables)


def scored_truth(data: Sequences, task: Task) -> tuple[Tensor, Tensor]:
    r"""The truth over the scored part of the grid, and where in it to score, (series, time, \*obs) each."""
    mask = task.scored(data)
    if not bool(mask.any()):
        raise DataError(
            f"`task` leaves nothing to score in `data`: {task} in {data!r}. Choose a task that hides or forecasts "
            "something that was observed."
        )
    return data.seen().values[:, -mask.shape[1] :], mask


def _naive_error(given: Sequences, period: int | None) -> Tensor:
    r"""Scale of `Scores.mase` (series, \*obs): mean absolute error of the naive forecast within the shown steps."""
    return naive_error(given.seen().values, 1 if period is None else period, mask=given.entry_mask)


def _require_task(task: Task) -> None:
    is_object = not isinstance(task, type) and callable(getattr(task, "given", None))
    require(is_object, "task", "an object such as `Forecasting(num_observed=20)`", task)
