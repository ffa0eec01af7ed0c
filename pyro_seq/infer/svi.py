"""``SVI``: stochastic variational inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pyro_seq._arguments import keep_whole
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.infer.collapse import warn_of_collapse
from pyro_seq.infer.lessons import LESSONS
from pyro_seq.infer.objective import Objective
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import GuidePosterior
from pyro_seq.training.first_call import require_schedule
from pyro_seq.training.gradient_method import GradientMethod
from pyro_seq.training.plan import Outcome
from pyro_seq.training.schedules import Schedule

_TO_CALLER = 5  # stack levels from `SVI.posterior` to the caller of `fit`


@dataclass(frozen=True, kw_only=True)
class SVI(GradientMethod[GuidePosterior]):
    r"""Fit model and guide together by ascending the evidence lower bound.

    .. math::
        \max_{\theta, \phi}\; \sum_n \mathbb E_{q_\phi}\left[\log p_\theta(x_n \mid z)\right]
        - \mathrm{KL}\left[q_\phi(z) \,\|\, p_\theta(z)\right]

    Each step uses one minibatch and fresh noise. The logged loss is the negative bound per series, in nats. `scales`
    weights its terms: sites, such as ``{"weights": WarmUp(1000)}``, and the model's regularisers.

    Args:
        num_particles: Number of joint draws of all latents per step, or a function of the step that gives it.
        analytic_kl: Use closed-form divergences where they exist.

    The other arguments are those of `GradientMethod`.

    Raises:
        DataError: When an argument is out of range.

    Warns:
        UserWarning: At the end of `fit`, when a latent of a series has collapsed to its prior: its divergence is below
            0.02 nats per step and one bit per series. Not in runs under 100 steps, nor while a weight still changes.

    Example:
        >>> posterior = fit(model, data, SVI(num_steps=5_000, batch_size=32))  # doctest: +SKIP

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes.
    """

    lessons: ClassVar[Mapping[str, float]] = LESSONS

    num_particles: int | Schedule = 1
    analytic_kl: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if callable(self.num_particles):
            require_schedule(self.num_particles, "num_particles")
        else:
            keep_whole(self, 1, "num_particles")

    def objective(self, model: SequenceModel, data: Sequences | SequenceSource) -> Objective:
        """The negative evidence lower bound."""
        return Objective(model, num_particles=self.num_particles, analytic_kl=self.analytic_kl, scales=self.scales)

    def posterior(self, objective: Objective, outcome: Outcome) -> GuidePosterior:
        """The guide's posterior; warns of collapsed latents."""
        warn_of_collapse(outcome, objective.num_steps, self.scales, stacklevel=_TO_CALLER)
        return super().posterior(objective, outcome)
