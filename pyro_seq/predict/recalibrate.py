"""``recalibrate``: intervals with guaranteed coverage, from the errors on held-out series (conformal prediction)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import require, seed_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.door import require_posterior, require_type
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.posterior import Posterior
from pyro_seq.predict.evaluate import Task, scored_truth
from pyro_seq.predict.finite import require_finite


class Intervals(NamedTuple):
    r"""Intervals of each predicted entry.

    Attributes:
        lower: Lower ends, (series, time, \*obs).
        upper: Upper ends, of the same shape.
        times: Time stamps of the predicted steps, (time,) or (series, time).
    """

    lower: Tensor
    upper: Tensor
    times: Tensor


@dataclass(frozen=True, eq=False)
class Recalibrated:
    r"""Predictive intervals of a posterior, widened or narrowed to reach the wanted coverage on validation series.

    Attributes:
        posterior: The posterior that predicts.
        task: The prediction task.
        level: Share of new series whose entry lies inside, at each step and for each variable.
        margins: Added at both ends, (time, \*obs), in the unit of the data; negative where intervals were too wide. If
            `is_pooled`, one number, as a share of half the width of each interval.
        num_samples: Draws behind each interval.
        seed: Seed of the draws.
        is_pooled: One margin for all steps and variables.
    """

    posterior: Posterior
    task: Task
    level: float
    margins: Tensor
    num_samples: int
    seed: int
    is_pooled: bool = False

    def intervals(self, given: Sequences) -> Intervals:
        """Intervals for new series.

        Args:
            given: Their seen part, on the same grid as the validation series: for forecasts the same number of steps
                and the same horizon, `data.extend(horizon=...)`.

        Raises:
            ShapeError: When the predicted grid differs.
        """
        low, high, times = _central(self.posterior, given, self.task, self.level, self.num_samples, self.seed)
        if not self.is_pooled and low.shape[1:] != self.margins.shape:
            raise ShapeError(
                "`given` must be seen on the grid of the validation series, for predictions "
                f"{tuple(self.margins.shape)} of each. Got {tuple(low.shape[1:])}. Pass as many steps, with as long a "
                "horizon."
            )
        centre = (low + high) / 2  # where an interval that shrinks to nothing ends
        margins = self.margins * (high - low) / 2 if self.is_pooled else self.margins
        return Intervals(torch.minimum(low - margins, centre), torch.maximum(high + margins, centre), times)


def recalibrate(
    posterior: Posterior,
    validation: Sequences,
    task: Task,
    *,
    level: float = 0.9,
    num_samples: int = 200,
    seed: int = 0,
    is_pooled: bool = False,
) -> Recalibrated:
    r"""Learn on validation series how much to widen or narrow intervals so that they have their stated coverage.

    For each validation series, compute how far an entry lies outside its central interval,

    .. math::
        s_i = \max(l_i - y_i,\; y_i - u_i), \qquad
        \text{margin} = \text{the } \lceil (n + 1)\, p \rceil \text{-th smallest of } s_1, \dots, s_n,

    negative inside. The interval :math:`[l - \text{margin}, u + \text{margin}]` of a new series, exchangeable with the
    validation series, then contains its entry with a probability of at least p, and of at most p + 1 / (n + 1) if
    scores have no ties: for every n, every model and every guide, right or wrong. This holds on average over series and
    validation sets, at each step and for each variable separately; not jointly for whole paths, nor for each kind of
    series. Series that the model was trained on are not exchangeable with new ones.

    Tables with many gaps have too few scored entries per step. With `is_pooled` all entries are pooled, each scaled by
    half the width of its interval, and all intervals are widened by the same share. Coverage then holds on average over
    entries, no longer at each step and for each variable, and the effective n lies between the number of series and the
    number of entries, depending on how similar the entries of a series are. New series may then have other steps and
    variables.

    Memory: draws of all validation series at once.

    Args:
        posterior: Result of `fit` or `refine`.
        validation: Complete series used neither in training nor to choose the model.
        task: Prediction task, such as ``Forecasting(num_observed=20)``.
        level: Wanted coverage p.
        num_samples: Draws behind each interval.
        seed: Seed of the draws.
        is_pooled: Learn one margin for all steps and variables.

    Returns:
        An object whose method `intervals` gives the intervals of new series.

    Raises:
        DataError: When an argument is of another type, or `validation` has too few scored series (entries, if
            `is_pooled`) for `level`: 0.9 needs 9.

    Example:
        >>> widened = recalibrate(posterior, validation, Forecasting(num_observed=20))  # doctest: +SKIP
        >>> widened.intervals(new.first(20).extend(horizon=5)).upper  # doctest: +SKIP

    References:
        Romano, Patterson, Candes (2019), Conformalized quantile regression.
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman (2018), Distribution-free predictive inference for regression.
    """
    require_posterior(posterior)
    require_type(validation, Sequences, "validation")
    require(isinstance(level, float) and 0.0 < level < 1.0, "level", "a share between 0 and 1", level)
    require(isinstance(is_pooled, bool), "is_pooled", "True or False", is_pooled)
    num_samples, seed = whole_number(num_samples, "num_samples", 2), seed_number(seed)
    truth, mask = scored_truth(validation, task)
    low, high, _ = _central(posterior, task.given(validation), task, level, num_samples, seed)
    distance = torch.maximum(low - truth, truth - high)
    if is_pooled:
        floor = torch.finfo(low.dtype).tiny  # an interval of no width
        distance, mask = (distance / ((high - low) / 2).clamp(min=floor))[mask], mask[mask]
    margins = _margins(torch.where(mask, distance, torch.inf), mask, level)
    return Recalibrated(posterior, task, level, margins, num_samples, seed, is_pooled)


def _central(
    posterior: Posterior, given: Sequences, task: Task, level: float, num_samples: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ends of the central interval of each predicted entry, (series, time, *obs), and their times."""
    prediction = task.predict(posterior, given, num_samples=num_samples, chunk_size=None, seed=seed)
    require_finite(prediction.samples, prediction.emission_means, prediction.times)
    low, high = prediction.interval(level)
    return low, high, prediction.times


def _margins(distance: Tensor, mask: Tensor, level: float) -> Tensor:
    """The wanted order statistic of the scored distances of each entry, (time, *obs); infinite for unscored entries."""
    count = mask.sum(0)
    rank = ((count + 1) * level - 1e-9).ceil().long()  # 9.000000001 is 9
    short = (rank > count) & (mask.any(0) | (mask.ndim == 1))
    if bool(short.any()):
        fewest = int(count[short].min())
        raise DataError(
            f"`validation` must score {math.ceil(level / (1 - level) - 1e-9)} series or more at each step, for each "
            f"variable, so that some lie beyond an interval that holds {level:g}. Got {fewest}. Keep more series for "
            "validation, lower `level`, or pool all entries, `is_pooled=True`."
        )
    ranked = distance.sort(0).values
    return ranked.take_along_dim((rank - 1).clamp(max=len(ranked) - 1)[None], 0)[0]
