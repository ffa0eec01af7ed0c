"""``GradientMethod``: the common part of all methods that train by gradient steps."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import nn

from pyro_seq._arguments import is_positive, keep_whole, require
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.door import has_gaps
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import GuidePosterior, Posterior
from pyro_seq.training.files import describe
from pyro_seq.training.first_call import require_optimizer, require_schedule
from pyro_seq.training.plan import Outcome, Plan
from pyro_seq.training.schedules import Constant, Schedule
from pyro_seq.training.trainer import Trainer
from pyro_seq.training.views import View

Result = TypeVar("Result", bound=Posterior)

_HAVE_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


@dataclass(frozen=True, kw_only=True)
class GradientMethod(ABC, Generic[Result]):
    """Base class of methods that train by minibatches and an optimiser: subclasses implement `objective`.

    The objective is a module with the attribute ``model``; ``objective(data, step)`` returns the `Loss` of a minibatch.
    If latents of new series are not drawn from the guide, override `posterior` too.

    Args:
        num_steps: Number of optimisation steps.
        batch_size: Series per step, over all devices; the whole set by default.
        learning_rate: Passed to `optimizer` as ``lr`` and multiplied by `schedule`.
        optimizer: A torch optimiser class, or any callable ``(params, lr=...)`` such as a ``functools.partial``, whose
            ``step()`` needs no closure. It is tried on one parameter when the method is made.
        schedule: Factor of the learning rate, a function of the step; see `pyro_seq.training.schedules`.
        clip_norm: Largest norm of the joint gradient; not clipped by default.
        scales: Weights of named terms of the objective, numbers or functions of the step. ``dreams`` and ``rehearsal``,
            from which a guide learns about gaps, are included automatically if the data have gaps; a weight of 0 leaves
            one out.
        views: Random views of a minibatch, applied in order; see `pyro_seq.training.views`.
        average: Decay of a moving average of the weights, such as 0.999; the posterior gets the averaged weights.

    Raises:
        DataError: When an argument is out of range.
    """

    takes_sources: ClassVar[bool] = True
    lessons: ClassVar[Mapping[str, float]] = {}  # terms that teach a guide about gaps, with their weights

    num_steps: int
    batch_size: int | None = None
    learning_rate: float = 1e-3
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    schedule: Schedule = Constant()
    clip_norm: float | None = None
    scales: Mapping[str, float | Schedule] = field(default_factory=dict)
    views: Sequence[View] = ()
    average: float | None = None

    def __post_init__(self) -> None:
        keep_whole(self, 1, "num_steps", "batch_size")
        require(is_positive(self.learning_rate), "learning_rate", "a positive number", self.learning_rate)
        require(self.clip_norm is None or is_positive(self.clip_norm), "clip_norm", "positive", self.clip_norm)
        is_share = self.average is None or (is_positive(self.average) and self.average < 1.0)
        require(is_share, "average", "between 0 and 1", self.average)
        require_optimizer(self.optimizer, self.learning_rate)
        require_schedule(self.schedule, "schedule")
        is_sequence = isinstance(self.views, Sequence) and all(map(callable, self.views))
        require(is_sequence, "views", "a sequence of callables, such as `[RandomGaps()]`", self.views)
        require(isinstance(self.scales, Mapping), "scales", "a dictionary of weights by name", self.scales)
        for name, scale in self.scales.items():
            if callable(scale):
                require_schedule(scale, f"scales[{name!r}]")
            else:
                is_weight = isinstance(scale, Real) and 0.0 <= scale < math.inf
                require(is_weight, f"scales[{name!r}]", "a schedule, or a number 0 or more", scale)

    # ------------------------------------------------------------------ written by the author of a method

    @abstractmethod
    def objective(self, model: SequenceModel, data: Sequences | SequenceSource) -> nn.Module:
        """The objective to minimise; raises for models that it cannot train."""

    def optimizers(self, objective: Any) -> list[torch.optim.Optimizer]:
        """Optimisers over the trained parameters; by default one for all."""
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        return [self.made_optimizer(trained, self.learning_rate)]

    def made_optimizer(self, parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """The optimiser of some parameters; torch optimisers as one operation for all of them, if supported."""
        options = {"fused": True} if self.optimizer in _HAVE_FUSED else {}
        return self.optimizer(parameters, lr=rate, **options)

    def untrained(self, objective: Any) -> Sequence[nn.Parameter]:
        """Parameters to freeze during training; none by default."""
        return ()

    def posterior(self, objective: Any, outcome: Outcome) -> Result:
        """What `fit` returns: the guide's posterior."""
        return GuidePosterior(objective.model, outcome.history, outcome.status)  # type: ignore[return-value]

    # ------------------------------------------------------------------ used by `fit`

    def run(
        self,
        model: SequenceModel,
        data: Sequences | SequenceSource,
        *,
        validation: Sequences | SequenceSource | None,
        seed: int,
        trainer: Trainer,
    ) -> Result:
        """Train `model` in place; called by `fit`, which checks the arguments."""
        from pyro_seq.training.run import train  # Lightning takes seconds to import

        shown = data if isinstance(data, Sequences) else data.preview()
        method = self._resolved(model, shown)
        objective = method.objective(model, data)
        plan = Plan(
            num_steps=method.num_steps,
            batch_size=method.batch_size,
            optimizers=method.optimizers,
            schedule=method.schedule,
            clip_norm=method.clip_norm,
            views=method.views,
            average=method.average,
            facts=method.facts(),
        )
        with frozen(method.untrained(objective)):
            outcome = train(objective, data, plan, validation=validation, seed=seed, trainer=trainer)
        posterior = method.posterior(objective, outcome)
        if isinstance(posterior, GuidePosterior):
            is_thinned = any(getattr(part, "hides_in_training", False) for part in model.modules())
            is_taught = any(name in method.scales for name in self.lessons)
            posterior.has_met_gaps = bool(method.views) or is_taught or is_thinned or has_gaps(shown)
        return posterior

    def _resolved(self, model: SequenceModel, data: Sequences) -> Self:
        """The method with its lessons, if the data have gaps or a lesson was requested."""
        is_asked = any(self.scales.get(name, 0) != 0 for name in self.lessons)
        if not self.lessons or not model.has_dreams or not (is_asked or has_gaps(data)):
            return self
        return dataclasses.replace(self, scales={**self.lessons, **self.scales})

    def facts(self) -> dict[str, str]:
        """Options that must be equal in a resumed run: all except ``num_steps``, so that it may be longer."""
        names = [option.name for option in dataclasses.fields(self) if option.name != "num_steps"]
        return {"method": type(self).__name__} | {name: describe(getattr(self, name)) for name in names}


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Context manager: switch off gradients of `parameters` inside the block, and on again after it."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
