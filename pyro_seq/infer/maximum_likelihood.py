"""``MaximumLikelihood``: with posterior samples from Langevin chains, as in latent energy-based models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pyro_seq._arguments import is_positive, keep_whole, require
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.chain_objective import ChainObjective, Visits
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.parameter_groups import parameter_groups
from pyro_seq.model import SequenceModel
from pyro_seq.ops.odeint import Dopri5
from pyro_seq.training.gradient_method import GradientMethod
from pyro_seq.training.plan import Outcome


@dataclass(frozen=True, kw_only=True)
class MaximumLikelihood(GradientMethod[ChainPosterior]):
    r"""Fit the parameters by ascending the evidence, with latents drawn by Langevin chains.

    .. math::
        \nabla_\theta \log p_\theta(x) = \mathbb E_{p_\theta(z \mid x)}\left[\nabla_\theta \log p_\theta(x, z)\right]

    Each training step runs a few Langevin steps for every series of a minibatch, then updates the parameters at the
    final draws. An energy-based prior learns in the same step: its contrastive term uses prior chains whose steps, step
    size and persistence are options of `EnergyBased`. Latents must be continuous and belong to one series each.

    The start of the chains matters more than their steps:

    * cold, from noise each time: ``is_persistent=False``; usual in the literature, slow and blurry at first;
    * persistent, each series continuing from its last visit: ``is_persistent=True``, the default;
    * from an encoder: ``kernel=Langevin(start="guide")`` with ``is_persistent=False``;
    * from an encoder at first, then persistent: the same with ``is_persistent=True``.

    With a guide as start, or with `warmup_steps`, the guide is trained throughout and stays useful for new series. Its
    loss is the evidence lower bound, or minus its log density at the chains' draws. The latter needs no pass of the
    model and cannot miss a mode that chains have found; a guide that sees less than the chains, as with
    `ThinnedEncoder`, then learns the posterior given the part it sees. The bound and the model's regularisers train the
    other parameters in the warm-up only; afterwards the regularisers named in `scales` count at the chains' draws.

    The history has minus the log density of each site; the chains' `acceptance` and `step_size` (median); and, counted
    from the first step, the numbers of `divergent` proposals and of visits that ended `frozen`. With energy-based
    priors, ``<site>_energy_gap`` should fluctuate around zero and ``<site>_deviation`` stay at a few standard
    deviations; a warning reports drift. Losses lack the normaliser of an energy, and joint densities of different
    latents cannot be compared: use validation instead, which is minus the log likelihood of the observations at draws
    of freshly started chains.

    Cost per step: ``chain_steps + 1`` gradients with respect to the latents and one with respect to the parameters.

    Args:
        kernel: Sampler and start of the posterior chains; ``MALA`` adapts a step size per series throughout.
        chain_steps: Langevin steps per visit of a series.
        num_chains: Chains per series in training.
        is_persistent: Continue from a series' last visit. Its latents must mean the same at each visit, so `views`
            must be ``is_anchored``: no random windows, shifts or speeds.
        warmup_steps: Training steps on the evidence lower bound, as in `SVI`, before the first chain.
        preconditioner: Gives directions and lengths of Langevin steps from the curvature at the start of a visit.
        energy_learning_rate: Learning rate of the energies of energy-based priors.
        guide_learning_rate: Learning rate of parameters that only the guide uses; `learning_rate` by default.
        guide_loss: Loss of the guide after the warm-up, ``"bound"`` or ``"draws"``.
        energy_penalty: Weight of the squared energies at posterior draws and prior chains.
        inference_steps: Steps of the chains that infer new series, in the posterior and in validation.

    The other arguments are those of `GradientMethod`. `learning_rate` is for all parameters except the energies and the
    guide; each of the three groups has its optimiser. `scales` weights the model's regularisers by name, such as
    ``{"restart": 1.0}``; they need the guide.

    Raises:
        DataError: When an argument is out of range, or a view would move persistent chains.

    Example:
        >>> method = MaximumLikelihood(num_steps=5_000, batch_size=50, chain_steps=5)
        >>> posterior = fit(model, data, method)  # doctest: +SKIP

    References:
        Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model, algorithm 1.
        Naesseth, Lindsten, Blei (2020), Markovian score climbing: variational inference with KL(p||q).
        Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.
    """

    takes_sources: ClassVar[bool] = False

    kernel: Langevin = Langevin()
    chain_steps: int = 20
    num_chains: int = 1
    is_persistent: bool = True
    warmup_steps: int = 0
    preconditioner: GaussNewton | None = None
    energy_learning_rate: float = 1e-4
    guide_learning_rate: float | None = None
    guide_loss: str = "bound"
    energy_penalty: float = 0.0
    inference_steps: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_whole(self, 0, "warmup_steps")
        keep_whole(self, 1, "chain_steps", "num_chains", "inference_steps")
        if not isinstance(self.kernel, Langevin) or not isinstance(self.kernel.start, str):
            raise DataError(
                f"`kernel` must be a `Langevin` whose start is 'normal', 'prior' or 'guide'. Got {self.kernel!r}."
            )
        require(self.guide_loss in ("bound", "draws"), "guide_loss", "'bound' or 'draws'", self.guide_loss)
        for name in ("energy_learning_rate", "guide_learning_rate"):
            rate = getattr(self, name)
            is_unset = rate is None and name == "guide_learning_rate"
            require(is_unset or is_positive(rate), name, "a positive number", rate)
        curvature = self.preconditioner
        require(curvature is None or isinstance(curvature, GaussNewton), "preconditioner", "a GaussNewton", curvature)
        penalty = self.energy_penalty
        require(penalty == 0 or is_positive(penalty), "energy_penalty", "a number 0 or more", penalty)
        for number, view in enumerate(self.views if self.is_persistent else ()):
            if not getattr(view, "is_anchored", False):
                raise DataError(
                    f"`views[{number}]` must leave the steps of a series where they are while chains go on from visit "
                    f"to visit, for a latent would mean another window at each. Got {view!r}. Set "
                    "`is_persistent=False`, or leave the view out; one of your own that moves nothing says so by its "
                    "attribute `is_anchored = True`."
                )

    @property
    def has_guide(self) -> bool:
        """Whether the model's guide is used."""
        return self.kernel.start == "guide" or self.warmup_steps > 0

    def objective(self, model: SequenceModel, data: Sequences | SequenceSource) -> ChainObjective:
        """Minus the joint log density at draws of posterior chains."""
        assert isinstance(data, Sequences)  # `fit` ensures it, as `takes_sources` is False
        self._check(model)
        model.take_units(data)
        home = next((parameter.device for parameter in model.parameters()), data.device)
        few = data.minibatch(torch.arange(min(2, data.num_series), device=data.device)).to(home)
        visits = Visits(
            num_steps=self.chain_steps,
            num_chains=self.num_chains,
            is_persistent=self.is_persistent,
            warmup_steps=self.warmup_steps,
            has_guide=self.has_guide,
            preconditioner=self.preconditioner,
            energy_penalty=self.energy_penalty,
            guide_loss=self.guide_loss,
            scales=self.scales,
        )
        inference = ChainPosterior(model, self.kernel, num_steps=self.inference_steps)
        return ChainObjective(model, few, parameter_groups(model, few), visits, inference)

    def optimizers(self, objective: ChainObjective) -> list[torch.optim.Optimizer]:
        """One optimiser each for the generator, the energies and the guide, if they have parameters."""
        groups = objective.groups
        guide_rate = self.learning_rate if self.guide_learning_rate is None else self.guide_learning_rate
        rated = [
            (groups.generator, self.learning_rate),
            (groups.energy, self.energy_learning_rate),
            (groups.others if self.has_guide else [], guide_rate),
        ]
        return [self.made_optimizer(parameters, rate) for parameters, rate in rated if parameters]

    def untrained(self, objective: ChainObjective) -> Sequence[nn.Parameter]:
        """The parameters of the guide if it is not used."""
        return () if self.has_guide else objective.groups.others

    def posterior(self, objective: ChainObjective, outcome: Outcome) -> ChainPosterior:
        """A posterior that infers the latents of any series by new chains."""
        return dataclasses.replace(objective.inference, history=outcome.history, status=outcome.status)

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
