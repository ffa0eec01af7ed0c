"""Data types of a training run: ``Plan`` as input, ``Loss`` of each step, ``Outcome`` at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn, optim

from pyro_seq.training.schedules import Constant, Schedule
from pyro_seq.training.views import View


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings that a method passes to the engine, besides its objective.

    Attributes:
        num_steps: Total number of steps.
        batch_size: Series per step; all of them when None.
        optimizers: Makes the optimisers of an objective, over its trained parameters.
        schedule: Factor of every learning rate, as a function of the step.
        clip_norm: Largest norm of the joint gradient.
        views: Random views of a minibatch, applied in order.
        average: Decay of the moving average of the weights.
        facts: Description of the method, compared when a run is resumed.
    """

    num_steps: int
    batch_size: int | None
    optimizers: Callable[[nn.Module], list[optim.Optimizer]]
    schedule: Schedule = Constant()
    clip_norm: float | None = None
    views: Sequence[View] = ()
    average: float | None = None
    facts: Mapping[str, str] | None = None


class Loss(NamedTuple):
    """A loss and its parts, in nats per series."""

    total: Tensor
    terms: dict[str, Tensor]


class Outcome(NamedTuple):
    """Result of a run: logged figures by name, one entry per logged step (NaN if missing), and how it ended."""

    history: dict[str, list[float]]
    status: str
