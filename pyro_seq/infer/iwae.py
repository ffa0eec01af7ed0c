"""``IWAE``: the importance-weighted bound, which tightens with the number of draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pyro_seq._arguments import keep_whole
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import UnsupportedError
from pyro_seq.infer.lessons import LESSONS, Lessons
from pyro_seq.infer.objective import joint_traces, scaled
from pyro_seq.model import SequenceModel, is_latent, is_local, local_log_prob, local_parameters
from pyro_seq.posterior import GuidePosterior
from pyro_seq.training.gradient_method import GradientMethod
from pyro_seq.training.plan import Loss


@dataclass(frozen=True, kw_only=True)
class IWAE(GradientMethod[GuidePosterior]):
    r"""Fit model and guide together by ascending the importance-weighted bound of K draws.

    .. math::
        \max_{\theta, \phi}\; \sum_n \mathbb E\left[\log \frac1K \sum_{k=1}^K w_{nk}\right], \qquad
        w_{nk} = \frac{p_\theta(x_n, z_{nk})}{q_\phi(z_{nk})}, \quad z_{nk} \sim q_\phi

    With K = 1 it is the evidence lower bound; as K grows it approaches the evidence itself, so a guide that is too
    simple limits the model less. The signal-to-noise ratio of the guide's gradient falls with the square root of K;
    about ten draws are usual. The logged ``bound`` is the negative bound per series in nats, ``elbo`` the same with one
    draw, and ``effective_draws`` the effective number among the K draws. `scales` weights the model's regularisers.

    Args:
        num_particles: Number K of joint draws of all latents per step, vectorised.

    The other arguments are those of `GradientMethod`.

    Raises:
        DataError: When an argument is out of range.
        UnsupportedError: When the model has latents that all series share, because each weight belongs to one series.

    Example:
        >>> posterior = fit(model, data, IWAE(num_steps=5_000, batch_size=32, num_particles=10))  # doctest: +SKIP

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
        Rainforth et al. (2018), Tighter variational bounds are not necessarily better.
    """

    lessons: ClassVar[Mapping[str, float]] = LESSONS

    num_particles: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_whole(self, 1, "num_particles")

    def objective(self, model: SequenceModel, data: Sequences | SequenceSource) -> ImportanceWeighted:
        """The negative importance-weighted bound."""
        return ImportanceWeighted(model, self)


class ImportanceWeighted(nn.Module):
    """Negative importance-weighted bound per series, for a model and the options of `IWAE`."""

    def __init__(self, model: SequenceModel, method: IWAE) -> None:
        super().__init__()
        self.model, self.method = model, method
        self.lessons = Lessons(model, method.scales)

    def forward(self, data: Sequences, step: int = 0) -> Loss:
        """Evaluate at `data`, a minibatch or the whole set; `step` drives the schedules of `scales`."""
        num_particles = self.method.num_particles
        with local_parameters():
            data = self.model.prepare(data)
            model_trace, guide_trace = joint_traces(self.model, data, num_particles)
            penalties = self.model.regulariser(data, model_trace, guide_trace)
            penalties |= self.lessons.terms(data, guide_trace, self.training)
        shared = [name for name, site in guide_trace.nodes.items() if is_latent(site) and not is_local(site)]
        if shared:
            raise UnsupportedError(
                f"`IWAE` weighs the draws of each series by themselves, but in {type(self.model).__name__} all series "
                f"share the latents {shared}. Train with `SVI`, or replace them by parameters (`DeterministicField`)."
            )
        shape = (num_particles, data.num_series)
        log_weight = (local_log_prob(model_trace) - torch.as_tensor(local_log_prob(guide_trace))).expand(shape)
        bound = -(log_weight.logsumexp(0) - math.log(num_particles)).mean()
        terms = {"bound": bound} | {name: term.mean() for name, term in penalties.items()}
        share = log_weight.detach().softmax(0)
        figures = {"elbo": -log_weight.detach().mean(), "effective_draws": 1 / share.square().sum(0).mean()}
        return Loss(scaled(terms, self.lessons.counted(self.training), step), terms | figures)
