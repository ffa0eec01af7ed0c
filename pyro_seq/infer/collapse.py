"""A latent that training has given up: its posterior is its prior, so that it tells nothing of its series."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from pyro_seq.training.plan import Outcome
from pyro_seq.training.schedules import Schedule

_PER_STEP = 0.02  # nats
_PER_SERIES = math.log(2)  # nats: one bit
_FEWEST_STEPS = 100  # of training, before which nothing is settled
_LAST = 0.1  # share of the run that is looked at


def warn_of_collapse(
    outcome: Outcome, num_steps: Mapping[str, float], scales: Mapping[str, float | Schedule], *, stacklevel: int
) -> None:
    """Warn of each latent of a series whose divergence from the prior is about zero when training has ended.

    It is where the last tenth of the run has a mean divergence below 0.02 nats a step and below one bit a series: a
    long path that a few numbers decide is no such case, for they are worth more than a bit. Runs of less than 100
    steps, or that were stopped, are not judged, nor those in whose last tenth a weight of `scales` still changes.

    Args:
        outcome: How the run went; its history has a divergence for each latent, in nats a series.
        num_steps: By the name of each latent of a series how many steps it has, 1 where it has no time.
        scales: Weights of the terms of the objective.
        stacklevel: As of `warnings.warn`.
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
