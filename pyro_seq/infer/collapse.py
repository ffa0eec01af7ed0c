"""Posterior collapse: the posterior of a latent equals its prior, so it carries no information about its series."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from pyro_seq.training.plan import Outcome
from pyro_seq.training.schedules import Schedule

_PER_STEP = 0.02  # nats
_PER_SERIES = math.log(2)  # nats: one bit
_FEWEST_STEPS = 100  # shorter runs are not judged
_LAST = 0.1  # share of the run that is judged


def warn_of_collapse(
    outcome: Outcome, num_steps: Mapping[str, float], scales: Mapping[str, float | Schedule], *, stacklevel: int
) -> None:
    """Warn of each per-series latent whose divergence from the prior is about zero at the end of training.

    The criterion is a mean divergence, over the last tenth of the run, below 0.02 nats per step and below one bit per
    series; the second excludes long paths determined by a few numbers, which carry more than a bit. Runs of fewer than
    100 steps, stopped runs, and runs in whose last tenth a weight of `scales` still changes are not judged.

    Args:
        outcome: Outcome of the run; its history has a divergence per latent, in nats per series.
        num_steps: Number of time steps of each per-series latent, by name; 1 for latents without time.
        scales: Weights of the terms of the objective.
        stacklevel: As in `warnings.warn`.
    """
    steps = outcome.history.get("step", [])
    if outcome.status != "completed" or not steps or steps[-1] < _FEWEST_STEPS:
        return
    is_last = [step > (1 - _LAST) * steps[-1] for step in steps]
    begin, end = int((1 - _LAST) * steps[-1]), int(steps[-1]) - 1
    if any(callable(scale) and scale(begin) != scale(end) for scale in scales.values()):
        return
    for name, length in num_steps.items():
        rows = [row for row, counts in zip(outcome.history[name], is_last, strict=True) if counts]
        divergence = sum(rows) / len(rows)
        if abs(divergence) < min(_PER_SERIES, _PER_STEP * max(length, 1.0)):
            warnings.warn(_message(name, divergence, length, scales), stacklevel=stacklevel + 1)


def _message(name: str, divergence: float, length: float, scales: Mapping[str, float | Schedule]) -> str:
    size = f"{divergence:.2g} nats a series" + ("" if length == 1 else f", {divergence / length:.2g} a step")
    weight = "" if not scales else f" The weights are {dict(scales)}: raise that of `x`, or lower that of {name!r}."
    return (
        f"The latent {name!r} has collapsed: its divergence from the prior is {size}. "
        f"It tells series apart by less than a bit.{weight} Let the weight of its divergence rise from zero, "
        f"`scales={{{name!r}: WarmUp(...)}}`, begin with less noise in the emission, or train longer. Leave it out if "
        "nothing of it differs between series."
    )
