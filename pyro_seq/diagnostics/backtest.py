"""``backtest``: forecasts from several past origins, each by a model that has seen only earlier steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_seq._arguments import require, seed_number, whole_number
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.diagnostics._cutoffs import cutoff_steps
from pyro_seq.diagnostics._fits import fitted, made, require_factory, trainer_in
from pyro_seq.door import require_type
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.fit import Method
from pyro_seq.metrics import NormalForecast
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior, Prediction
from pyro_seq.predict._tally import Tally, scores_of_draws, scores_of_normal, summed, table
from pyro_seq.predict.baselines import classical_forecasts, point_predictions, shortfall
from pyro_seq.predict.evaluate import Forecasting
from pyro_seq.predict.verbs import forecast
from pyro_seq.training.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    r"""Forecasts from several origins, with their scores and those of baselines.

    Attributes:
        data: The series, without a horizon.
        horizon: Number of steps forecast from each origin.
        cutoffs: Number of seen steps at each origin.
        predictions: The forecast from each origin, (sample, series, horizon, \*obs), without its latents; NaN for
            series without earlier observations.
        tallies: Sums of scores by predictor, the model first; averaged by `table`.
        notes: Texts that say what the forecasts of baselines lack, by predictor.
    """

    data: Sequences
    horizon: int
    cutoffs: tuple[int, ...]
    predictions: tuple[Prediction, ...]
    tallies: Mapping[str, Tally]
    notes: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Backtest({', '.join(self.tallies)}, cutoffs {list(self.cutoffs)}, horizon {self.horizon})"

    def table(self, by: str | Sequence[str] = "horizon") -> pd.DataFrame:
        """Scores in the unit of the data, one row per predictor and value of `by`.

        `rmse` is that of the mean forecast, `mae` that of the median; `crps` is the absolute error if there is no
        interval; `coverage_50` and `coverage_90` are the shares of the truth inside central intervals, over entries
        with an interval. `count` is the number of scored entries.

        Args:
            by: Axes that are not averaged: ``"horizon"``, the number of steps ahead, ``"cutoff"``, ``"entry"`` (of the
                flattened observation, labelled by variable names), several of them, or ``()`` for one row per
                predictor.

        Raises:
            DataError: When `by` names another axis.
        """
        labels = {
            "cutoff": self.cutoffs,
            "horizon": range(1, self.horizon + 1),
            "entry": self.data.labels.variables or range(self.data.values[0, 0].numel()),
        }
        return table(self.tallies, labels, by)


def backtest(
    model_factory: Callable[[], SequenceModel],
    data: Sequences,
    method: Method,
    *,
    horizon: int,
    cutoffs: int | Sequence[Any] = 5,
    refit: bool = True,
    num_observed: int | None = None,
    period: int | None = None,
    num_samples: int = 100,
    seed: int = 0,
    trainer: Trainer | None = None,
) -> Backtest:
    """Forecast from several past origins, each time with a model that has seen only the steps before it.

    At each cutoff a new model is trained on the earlier steps, units included, and forecasts the next `horizon` steps,
    with their inputs if the data have inputs. Series without observations in the steps given to the model are left out
    at that cutoff. The baselines are those of `evaluate_baselines`, from the same steps.

    Cost: one fit per cutoff; with ``refit=False`` one in all.

    Args:
        model_factory: Makes a new model, such as ``lambda: ps.DynamicFactors((3,))``; called with a random state
            determined by `seed`.
        data: One series or many; a horizon is dropped.
        method: How to fit.
        horizon: Number of steps to forecast.
        cutoffs: Where forecasts begin: numbers of seen steps, or dates of the last seen step if the data have dates. A
            single number n means n cutoffs, evenly spaced from half of the steps to the last one with a full horizon.
        refit: Train a new model at each cutoff. Otherwise the model of the first cutoff forecasts from all cutoffs,
            given the steps seen until then.
        num_observed: Number of steps before a cutoff that the model sees for its forecast, for models trained on
            windows; all by default. Training and baselines see all.
        period: Season length in steps, for the seasonal baseline; None without a season.
        num_samples: Number of predictive draws.
        seed: Seed of the weights, the fit and the draws, the same at each cutoff.
        trainer: As for `fit`. A directory gets a folder for each cutoff, ``cutoff-120``; with ``resume=True``
            a stopped backtest continues.

    Returns:
        The forecasts and their scores.

    Raises:
        DataError: When cutoffs leave no steps to train on or to score, or `model_factory` does not make a new model.
        UnsupportedError: When `data` are a source.
        KeyboardInterrupt: When a fit was interrupted, other than by ``Trainer(max_seconds=...)``.

    Example:
        >>> factory = lambda: ps.DynamicFactors((1,), num_factors=2)  # doctest: +SKIP
        >>> result = backtest(factory, ps.datasets.nile(), ps.SVI(num_steps=500), horizon=5)  # doctest: +SKIP
        >>> result.table()  # doctest: +SKIP

    References:
        Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of Forecasting, 2000.
    """
    data = _checked(model_factory, data, refit, period)
    horizon, seed = whole_number(horizon, "horizon", 1), seed_number(seed)
    num_samples = whole_number(num_samples, "num_samples", 1)
    num_observed = None if num_observed is None else whole_number(num_observed, "num_observed", 1)
    ends = cutoff_steps(cutoffs, data, horizon)
    posterior: Posterior | None = None
    predictions: list[Prediction] = []
    tallies: dict[str, list[Tally]] = {}
    notes: dict[str, str] = {}
    for cutoff in ends:
        start = 0 if num_observed is None else max(cutoff - num_observed, 0)
        is_seen = data.step_mask[:, start:cutoff].any(1)
        if not bool(is_seen.any()):
            raise DataError(
                f"`cutoffs` must leave something to go by. Nothing is seen in steps {start} to {cutoff - 1}."
            )
        past, part = data.first(cutoff), data.first(cutoff + horizon)[is_seen]
        past, given = past[past.step_mask.any(1)], Forecasting(cutoff).given(part)
        if posterior is None or refit:
            model = made(model_factory, seed, None if posterior is None else posterior.model)
            posterior = fitted(model, past, method, seed, trainer_in(trainer, f"cutoff-{cutoff}"))
        shown = Forecasting(cutoff - start).given(part.take_steps(torch.arange(start, cutoff + horizon)))
        prediction = forecast(posterior, shown, num_samples=num_samples, seed=seed)
        truth, mask = part.values[:, cutoff:], part.entry_mask[:, cutoff:]
        scores = {type(posterior.model).__name__: scores_of_draws(prediction.mean, prediction.samples, truth)}
        for name, rival in _rivals(past, given, period).items():
            note = shortfall(name, rival, mask)
            notes |= {name: f"cutoff {cutoff}: {note}"} if note else {}
            scores[name] = scores_of_normal(rival, truth)
        for name, each in scores.items():
            tallies.setdefault(name, []).append(summed(each, mask))
        predictions.append(_of_all_series(prediction, is_seen, data))
    joined = {
        name: Tally(*(torch.stack(parts, 1) for parts in zip(*rows, strict=True))) for name, rows in tallies.items()
    }
    return Backtest(data, horizon, tuple(ends), tuple(predictions), joined, notes)


# ---------------------------------------------------------------------- arguments


def _checked(model_factory: Any, data: Any, refit: Any, period: Any) -> Sequences:
    """The data without their horizon; checks the arguments."""
    require_factory(model_factory, "model_factory")
    if isinstance(data, SequenceSource):
        raise UnsupportedError(f"`data` must be in memory. Got {data!r}. Pass a part of it, such as `data[:1000]`.")
    require_type(data, Sequences, "data")
    require(isinstance(refit, bool), "refit", "True or False", refit)
    if period is not None:
        whole_number(period, "period", 1)
        require(len(data.obs_shape) == 1, "period", f"None for observations of shape {data.obs_shape}", period)
    return data.seen()


# ---------------------------------------------------------------------- forecasts


def _rivals(past: Sequences, given: Sequences, period: int | None) -> dict[str, NormalForecast]:
    """The baselines over the horizon by name; those without intervals have a NaN scale."""
    points = {name: values[:, given.num_steps :] for name, values in point_predictions(past, given).items()}
    rivals = {name: NormalForecast(values, torch.full_like(values, torch.nan)) for name, values in points.items()}
    return rivals | (classical_forecasts(past, given, period) if len(past.obs_shape) == 1 else {})


def _of_all_series(prediction: Prediction, chosen: Tensor, data: Sequences) -> Prediction:
    """The prediction without its latents, and with NaN for the series of `data` that were not chosen."""

    def spread(values: Tensor, axis: int) -> Tensor:
        shape = [*values.shape[:axis], len(chosen), *values.shape[axis + 1 :]]
        return values.new_full(shape, torch.nan).index_copy_(axis, chosen.nonzero()[:, 0], values)

    times = prediction.times if prediction.times.ndim == 1 else spread(prediction.times, 0)
    samples, means = spread(prediction.samples, 1), spread(prediction.emission_means, 1)
    return Prediction(samples, means, {}, times, data.labels, data.calendar)
