"""Several trainings as one predictor, whose draws are pooled: where one is sure and wrong, others guess elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import pyro_seq as ps
from pyro_seq.posterior import Posterior
from pyro_seq.predict.evaluate import Task, score

NAME = "ensemble of {}"


def ensemble_row(
    posteriors: Sequence[Posterior], test: ps.Sequences, task: Task, *, size: int = 5, num_samples: int = 100
) -> dict | None:
    """Scores of ensembles of `size` seeds each, as a row of a table; None where there are too few seeds for one.

    All together make as many draws as one training does, so that what changes is where they come from.
    """
    groups = [posteriors[start : start + size] for start in range(0, len(posteriors) - size + 1, size)]
    if not groups:
        return None
    scores, given = [], task.given(test)
    for group in groups:
        parts = [
            task.predict(one, given, num_samples=num_samples // size, chunk_size=None, seed=number)
            for number, one in enumerate(group)
        ]
        mean = torch.stack([part.mean for part in parts]).mean(0)
        scores.append(score(NAME.format(size), mean, torch.cat([part.samples for part in parts]), test, task))
    values = {key: torch.tensor([one.means()[key] for one in scores]) for key in scores[0].means()}
    row: dict = {"predictor": NAME.format(size)} | {key: float(value.mean()) for key, value in values.items()}
    if len(groups) > 1:
        row["mse_sd"] = float(values["mse"].std())
        row["mse_by_seed"] = [round(float(value), 4) for value in values["mse"]]
    row["mse_by_series"] = [round(float(mse), 4) for mse in torch.stack([one.mse for one in scores]).mean(0)]
    return row
