"""``MaximumLikelihood``: learning by posterior chains, the way of latent energy-based models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from pyro_seq._validation import whole_number
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.chain_objective import ChainObjective, VisitPlan
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.options import facts, is_positive, require
from pyro_seq.infer.parameter_groups import ParameterGroups, frozen, parameter_groups
from pyro_seq.infer.schedules import Constant, Schedule
from pyro_seq.infer.trainer import Plan, Trainer
from pyro_seq.infer.views import View
from pyro_seq.model import SequenceModel
from pyro_seq.ops.odeint import Dopri5


@dataclass(frozen=True, kw_only=True)
class MaximumLikelihood:
    r"""Fit the parameters by ascending the evidence, with latents drawn by Langevin chains.

    .. math::
        \nabla_\theta \log p_\theta(x) = \mathbb E_{p_\theta(z \mid x)}\left[\nabla_\theta \log p_\theta(x, z)\right]

    Each step runs a few Langevin steps of every series of a minibatch, then moves the parameters at their ends. An
    energy-based prior learns in the same step: its contrastive term comes from prior chains whose steps, step size and
    persistence are options of `EnergyBased`. For every model whose latents are continuous and belong to one series.

    Where chains start decides more than how they step:

    * cold, from noise each time: ``is_persistent=False``; the literature's way, slow and blurry at first;
    * persistent, each series going on from its last visit: ``is_persistent=True``, the default;
    * from an encoder: ``kernel=Langevin(start="guide")`` with ``is_persistent=False``;
    * from an encoder at first and persistent then: the same with ``is_persistent=True``.

    With a guide as start, or `warmup_steps`, the guide learns throughout, and stays useful for new series: by its
    evidence lower bound, or by the density that it gives to the chains' draws. The latter costs no pass of the model
    and cannot miss a mode that chains have found; with a guide that sees less than the chains do, as under
    `ThinnedEncoder`, it learns the posterior given the less. The other parameters see the bound, and the model's
    regularisers, in the warm-up only; afterwards those regularisers that `scales` names count at the chains' draws.

    The history has minus the log density of each site, and of the chains `acceptance`, `step_size` (median), and
    since the first step the numbers of `divergent` proposals and of visits that ended `frozen`. Under energy-based
    priors, ``<site>_energy_gap`` should swing around zero and ``<site>_deviation`` stay at a few standard deviations;
    a warning says when they drift. Losses lack the normaliser of an energy, and joint densities of different
    latents cannot be compared: judge by validation, which is minus the log likelihood of the observations at draws of
    chains that start anew.

    Cost: ``chain_steps + 1`` gradients by the latents and one by the parameters a step.

    Args:
        num_steps: Number of optimisation steps.
        batch_size: Series per step; the whole set when absent.
        kernel: Sampler and start of the posterior chains; ``MALA`` adapts a step size of each series throughout.
        chain_steps: Langevin steps of a visit.
        num_chains: Chains of each series in training.
        is_persistent: Go on from a series' last visit. Its latents must mean the same at each: no random windows.
        warmup_steps: Steps by the evidence lower bound, as under `SVI`, before the first chain.
        preconditioner: Directions and lengths of Langevin steps from the curvature where a visit begins.
        learning_rate: Of everything but the following.
        energy_learning_rate: Of the energies of energy-based priors.
        guide_learning_rate: Of what only the guide uses; `learning_rate` when absent.
        guide_loss: What the guide learns from after the warm-up, ``"bound"`` or ``"draws"``.
        optimizer: A torch optimiser class, or any callable ``(params, lr=...)``; each of the three gets its own.
        schedule: Factor on all learning rates by step.
        clip_norm: Largest norm of the joint gradient.
        views: Random views of a minibatch, applied in order.
        average: Decay of a moving average of the weights; the posterior gets the averaged ones.
        energy_penalty: Weight of the squared energies at posterior draws and prior chains.
        scales: Weights of the model's regularisers by name, such as ``{"restart": 1.0}``; they need the guide.
        inference_steps: Steps of the chains that infer new series, in the posterior and in validation.

    Raises:
        DataError: When an argument is out of range.

    Example:
        >>> method = MaximumLikelihood(num_steps=5_000, batch_size=50, chain_steps=5)
        >>> posterior = fit(model, data, method)  # doctest: +SKIP

    References:
        Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model, algorithm 1.
        Naesseth, Lindsten, Blei (2020), Markovian score climbing: variational inference with KL(p||q).
        Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.
    """

    num_steps: int
    batch_size: int | None = None
    kernel: Langevin = Langevin()
    chain_steps: int = 20
    num_chains: int = 1
    is_persistent: bool = True
    warmup_steps: int = 0
    preconditioner: GaussNewton | None = None
    learning_rate: float = 1e-3
    energy_learning_rate: float = 1e-4
    guide_learning_rate: float | None = None
    guide_loss: str = "bound"
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    schedule: Schedule = Constant()
    clip_norm: float | None = None
    views: Sequence[View] = ()
    average: float | None = None
    energy_penalty: float = 0.0
    scales: Mapping[str, float | Schedule] = field(default_factory=dict)
    inference_steps: int = 200

    def __post_init__(self) -> None:
        for name in ("num_steps", "chain_steps", "num_chains", "inference_steps"):
            whole_number(getattr(self, name), name, 1)
        whole_number(self.warmup_steps, "warmup_steps")
        if self.batch_size is not None:
            whole_number(self.batch_size, "batch_size", 1)
        if not isinstance(self.kernel, Langevin) or not isinstance(self.kernel.start, str):
            raise DataError(
                f"`kernel` must be a `Langevin` whose start is 'normal', 'prior' or 'guide'. Got {self.kernel!r}."
            )
        require(self.guide_loss in ("bound", "draws"), "guide_loss", "'bound' or 'draws'", self.guide_loss)
        for name in ("learning_rate", "energy_learning_rate", "guide_learning_rate", "clip_norm"):
            value = getattr(self, name)
            is_optional = name in ("guide_learning_rate", "clip_norm")
            require((value is None and is_optional) or is_positive(value), name, "a positive number", value)
        curvature = self.preconditioner
        require(curvature is None or isinstance(curvature, GaussNewton), "preconditioner", "a GaussNewton", curvature)
        require(self.average is None or 0.0 < self.average < 1.0, "average", "between 0 and 1", self.average)
        penalty = self.energy_penalty
        require(penalty == 0 or is_positive(penalty), "energy_penalty", "a number 0 or more", penalty)
        for name in ("optimizer", "schedule"):
            require(callable(getattr(self, name)), name, "callable", getattr(self, name))
        require(all(callable(view) for view in self.views), "views", "a sequence of callables", self.views)

    @property
    def has_guide(self) -> bool:
        """Whether the model's guide takes part."""
        return self.kernel.start == "guide" or self.warmup_steps > 0

    def run(
        self, model: SequenceModel, data: Sequences, *, validation: Sequences | None, seed: int, trainer: Trainer
    ) -> ChainPosterior:
        """Train `model` in place; called by `fit`, which checks the arguments."""
        from pyro_seq.infer.training import train  # Lightning takes seconds to import

        self._check(model)
        model.adapt(data)
        home = next((parameter.device for parameter in model.parameters()), data.device)
        few = data.minibatch(torch.arange(min(2, data.num_series), device=data.device)).to(home)
        groups = parameter_groups(model, few)
        inference = ChainPosterior(model, self.kernel, num_steps=self.inference_steps)
        chains = VisitPlan(
            self.chain_steps,
            self.num_chains,
            self.is_persistent,
            self.warmup_steps,
            self.has_guide,
            self.preconditioner,
            self.energy_penalty,
            self.guide_loss,
            self.scales,
        )
        objective = ChainObjective(model, few, groups, chains, inference)
        plan = Plan(
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            optimizers=lambda _: self._optimizers(groups),
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            views=self.views,
            average=self.average,
            facts=facts(self),
        )
        with ExitStack() as stack:
            if not self.has_guide:
                stack.enter_context(frozen(groups.others))
            outcome = train(objective, data, plan, validation=validation, seed=seed, trainer=trainer)
        return dataclasses.replace(inference, history=outcome.history, status=outcome.status)

    def _optimizers(self, groups: ParameterGroups) -> list[torch.optim.Optimizer]:
        guide_rate = self.learning_rate if self.guide_learning_rate is None else self.guide_learning_rate
        rated = [
            (groups.generator, self.learning_rate),
            (groups.energy, self.energy_learning_rate),
            (groups.others if self.has_guide else [], guide_rate),
        ]
        return [self.optimizer(parameters, lr=rate) for parameters, rate in rated if parameters]

    def _check(self, model: SequenceModel) -> None:
        solvers = [value for part in model.modules() for value in vars(part).values() if isinstance(value, Dopri5)]
        if solvers:
            raise UnsupportedError(
                f"Chains of different series must be independent, but {type(model).__name__} integrates them with the "
                "adaptive solver Dopri5, whose steps all series of a batch share. Use a fixed-step one: `RK4()`."
            )
        if self.scales and not self.has_guide:
            raise DataError(
                f"`scales` weighs terms that need the guide, {sorted(self.scales)}, but it takes no part. Start from "
                "it, `kernel=Langevin(start='guide')`, or leave `scales` out."
            )
        if self.has_guide and not model.has_guide:
            raise UnsupportedError(
                f"`kernel=Langevin(start='guide')` and `warmup_steps` need a guide, but this {type(model).__name__} "
                "has none. Start from noise or from the prior, with persistent chains, or give the model an encoder."
            )
