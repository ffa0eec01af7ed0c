"""``SVI``: stochastic variational inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from pyro_seq._source import SequenceSource
from pyro_seq._validation import whole_number
from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.options import facts, is_positive, require
from pyro_seq.infer.schedules import Constant, Schedule
from pyro_seq.infer.trainer import Plan, Trainer
from pyro_seq.infer.views import View
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import GuidePosterior


@dataclass(frozen=True, kw_only=True)
class SVI:
    r"""Fit model and guide together by ascending the evidence lower bound.

    .. math::
        \max_{\theta, \phi}\; \sum_n \mathbb E_{q_\phi}\left[\log p_\theta(x_n \mid z)\right]
        - \mathrm{KL}\left[q_\phi(z) \,\|\, p_\theta(z)\right]

    Each step uses one minibatch and fresh noise. The logged loss is the negative bound per series, in nats.

    Args:
        num_steps: Number of optimisation steps.
        batch_size: Series per step, over all devices; the whole set when absent.
        learning_rate: Passed to `optimizer` as ``lr`` and multiplied by `schedule`.
        optimizer: A torch optimiser class, or any callable ``(params, lr=...)`` such as a ``functools.partial``.
        schedule: Factor on the learning rate by step.
        clip_norm: Largest norm of the joint gradient.
        num_particles: Joint draws of all latents per step, or a function of the step, for more of them later.
        analytic_kl: Use closed-form divergences where they exist.
        scales: Weights of named terms of the objective: sites, such as ``{"weights": WarmUp(1000)}``, and regularisers.
        views: Random views of a minibatch, applied in order; see `pyro_seq.infer.views`.
        average: Decay of a moving average of the weights, such as 0.999; the posterior gets the averaged ones.

    Raises:
        DataError: When an argument is out of range.

    Example:
        >>> posterior = fit(model, data, SVI(num_steps=5_000, batch_size=32))  # doctest: +SKIP

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes.
    """

    takes_sources: ClassVar[bool] = True

    num_steps: int
    batch_size: int | None = None
    learning_rate: float = 1e-3
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    schedule: Schedule = Constant()
    clip_norm: float | None = None
    num_particles: int | Schedule = 1
    analytic_kl: bool = True
    scales: Mapping[str, float | Schedule] = field(default_factory=dict)
    views: Sequence[View] = ()
    average: float | None = None

    def __post_init__(self) -> None:
        whole_number(self.num_steps, "num_steps", 1)
        if self.batch_size is not None:
            whole_number(self.batch_size, "batch_size", 1)
        if not callable(self.num_particles):
            whole_number(self.num_particles, "num_particles", 1)
        require(is_positive(self.learning_rate), "learning_rate", "a positive number", self.learning_rate)
        require(self.clip_norm is None or is_positive(self.clip_norm), "clip_norm", "positive", self.clip_norm)
        require(self.average is None or 0.0 < self.average < 1.0, "average", "between 0 and 1", self.average)
        for name in ("optimizer", "schedule"):
            require(callable(getattr(self, name)), name, "callable", getattr(self, name))
        require(all(callable(view) for view in self.views), "views", "a sequence of callables", self.views)
        for name, scale in self.scales.items():
            is_weight = callable(scale) or (isinstance(scale, int | float) and 0.0 <= scale < math.inf)
            require(is_weight, f"scales[{name!r}]", "a schedule, or a number 0 or more", scale)

    def run(
        self,
        model: SequenceModel,
        data: Sequences | SequenceSource,
        *,
        validation: Sequences | SequenceSource | None,
        seed: int,
        trainer: Trainer,
    ) -> GuidePosterior:
        """Train `model` in place; called by `fit`, which checks the arguments."""
        from pyro_seq.infer.training import train  # Lightning takes seconds to import

        objective = Objective(model, num_particles=self.num_particles, analytic_kl=self.analytic_kl, scales=self.scales)
        plan = Plan(
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            optimizers=self._optimizers,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            views=self.views,
            average=self.average,
            facts=facts(self),
        )
        outcome = train(objective, data, plan, validation=validation, seed=seed, trainer=trainer)
        return GuidePosterior(model, outcome.history, outcome.status)

    def _optimizers(self, objective: nn.Module) -> list[torch.optim.Optimizer]:
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        return [self.optimizer(trained, lr=self.learning_rate)]
