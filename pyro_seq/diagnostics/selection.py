"""``select``: choose among several models by their predictions of validation series."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyro_seq._arguments import require
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.diagnostics._fits import fitted, made, require_factory, trainer_in
from pyro_seq.door import require_type
from pyro_seq.errors import DataError
from pyro_seq.infer.fit import Method
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior
from pyro_seq.predict.evaluate import Scores, Task, evaluate
from pyro_seq.training.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd

_CRITERIA = {"crps": 1, "mse": 1, "mae": 1, "mase": 1, "log_score": -1}  # 1 where smaller is better


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Several models that were fitted to the same data, and the best of them.

    Attributes:
        best: Name of the model with the best score on the validation series.
        posterior: Its posterior, returned by `fit`.
        scores: Scores of all models on the validation series, by name.
    """

    best: str
    posterior: Posterior
    scores: Mapping[str, Scores]

    def __repr__(self) -> str:
        return f"Selection({self.best!r} of {list(self.scores)})"

    def table(self) -> pd.DataFrame:
        """One row per candidate, with scores averaged over the validation series."""
        import pandas as pd

        rows = {name: scores.means() for name, scores in self.scores.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").reset_index()


def select(
    candidates: Mapping[str, Callable[[], SequenceModel]],
    data: Sequences | SequenceSource,
    method: Method,
    *,
    validation: Sequences,
    task: Task,
    criterion: str = "crps",
    num_samples: int = 100,
    seed: int = 0,
    trainer: Trainer | None = None,
) -> Selection:
    """Fit several models and keep the one that predicts validation series best.

    Use it for sizes that the training likelihood cannot determine, such as the number of factors of `DynamicFactors`.
    All get the same seed, method and task. Evaluate the winner on a third set of series: its score here is biased
    upwards.

    Cost: one fit per candidate.

    Args:
        candidates: Functions that make a new model, by name.
        data: Training data.
        method: How to fit.
        validation: Series not used in training.
        task: The prediction task: `Reconstruction`, `Forecasting` or `Imputation`.
        criterion: ``"crps"``, which scores the whole distribution, ``"mse"``, its mean, or ``"mae"``, its median; these
            depend on the units of variables, so rescale variables first. ``"mase"`` and ``"log_score"`` do not; for
            ``"log_score"`` larger is better, and it compares only emissions for the same kind of values.
        num_samples: Number of predictive draws.
        seed: Seed of the weights, the fits and the draws.
        trainer: As for `fit`. A directory gets one folder per candidate, with its name.

    Returns:
        The best model, with the scores of all.

    Raises:
        DataError: When there is no candidate, a candidate does not make a new model, or a model lacks the chosen score.
        KeyboardInterrupt: When a fit was interrupted, other than by ``Trainer(max_seconds=...)``.

    Example:
        >>> sizes = {f"{size} factors": lambda size=size: ps.DynamicFactors((36,), size) for size in (8, 16, 24)}
        ... # doctest: +SKIP
        >>> chosen = select(sizes, train, method, validation=val, task=ps.Imputation(0.1))  # doctest: +SKIP
        >>> chosen.best  # doctest: +SKIP
    """
    is_named = isinstance(candidates, Mapping) and bool(candidates) and all(isinstance(key, str) for key in candidates)
    require(is_named, "candidates", "a dictionary of functions that make models, by name", candidates)
    for name, factory in candidates.items():
        require_factory(factory, f"candidates[{name!r}]")
    require(criterion in _CRITERIA, "criterion", f"one of {tuple(_CRITERIA)}", criterion)
    require_type(validation, Sequences, "validation")
    if not bool(task.scored(validation).any()):
        raise DataError(f"`task` leaves nothing to score in `validation`: {task} in {validation!r}.")
    scores: dict[str, Scores] = {}
    best: tuple[float, str, Posterior] | None = None
    for name, factory in candidates.items():
        model = made(factory, seed, None if best is None else best[2].model)
        posterior = fitted(model, data, method, seed, trainer_in(trainer, name))
        scores[name] = evaluate(posterior, validation, task, num_samples=num_samples, seed=seed)
        score = _CRITERIA[criterion] * scores[name].means()[criterion]
        if math.isnan(score):
            raise DataError(f"`criterion` must be a score that all candidates have. {name!r} has no {criterion!r}.")
        if best is None or score < best[0]:
            best = score, name, posterior
    assert best is not None
    return Selection(best[1], best[2], scores)
