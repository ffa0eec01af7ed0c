"""Models, data and ways of training that the benchmark of ODELEBM compares, all on the same networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.datasets import spirals
from pyro_seq.infer.chain_objective import ChainObjective, Visits
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.parameter_groups import parameter_groups
from pyro_seq.models.ode_lebm import ODELEBM
from pyro_seq.nn.bayesian import BayesianMLP
from pyro_seq.nn.emission import GaussianEmission
from pyro_seq.nn.energy import EnergyMLP, PersistentChains
from pyro_seq.nn.energy_tilt import EnergyTilt
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.mlp import MLPDecoder
from pyro_seq.nn.ode_rnn import RNNEncoder
from pyro_seq.nn.units import Standardise
from pyro_seq.ops.langevin import MALA, ULA
from pyro_seq.ops.odeint import RK4
from pyro_seq.posterior import GuidePosterior
from pyro_seq.training.gradient_method import frozen

CLIP_NORM = 10.0
PRIOR_STEPS = 20  # of the chains of an energy-based prior, as many as the paper's


class Variant(NamedTuple):
    """A way of learning; no kernel is the evidence lower bound, as of a Latent ODE."""

    name: str
    kernel: Langevin | None = None
    num_steps: int = 0
    is_persistent: bool = False
    preconditioner: GaussNewton | None = None
    inference_steps: int = 50
    guide_loss: str = "bound"


BASELINE = Variant("Latent ODE")
COLD = Variant("cold ULA, 20 steps (the paper's)", Langevin(ULA(0.05)), 20)
BEST = Variant(
    "guide taught by draws, then persistent MALA, 2 steps",
    Langevin(MALA(0.05), start="guide"),
    2,
    True,
    guide_loss="draws",
)
VARIANTS = (
    COLD,
    Variant("cold MALA, 20 steps", Langevin(MALA(0.05)), 20),
    *(Variant(f"persistent MALA, {n} step{'s' * (n > 1)}", Langevin(MALA(0.05)), n, True) for n in (1, 2, 5)),
    Variant("MALA from the guide, 5 steps", Langevin(MALA(0.05), start="guide"), 5),
    Variant("guide, then persistent MALA, 2 steps", Langevin(MALA(0.05), start="guide"), 2, True),
    BEST,
    Variant("persistent Gauss-Newton MALA, 1 step", Langevin(MALA(0.7)), 1, True, GaussNewton()),
)


class Task(NamedTuple):
    """Data to train on and a model of it, made anew for each variant.

    Attributes:
        data: Training series.
        batch_size: Series a step.
        model: Makes the model, with an energy-based prior or without.
    """

    data: Sequences
    batch_size: int
    model: Callable[[bool], ODELEBM]


def spiral_task(num_series: int = 1000, batch_size: int = 200) -> Task:
    """Vector series: networks of the published example of spirals, wider by half."""

    def model(has_energy: bool) -> ODELEBM:
        dim = 4
        return ODELEBM(
            (2,),
            dim,
            flow=Flow(dim, order=1, solver=RK4(0.4, is_dense=True)),
            vector_field=BayesianMLP(dim, dim, (30, 30), is_bayesian=False),
            initial_prior=_energy(dim) if has_energy else None,
            encoder=RNNEncoder((2,), dim, hidden_dim=40),
            emission=GaussianEmission(MLPDecoder(dim, (2,), (30,)), initial_scale=0.3, units=Standardise(())),
        )

    return Task(
        spirals(num_train=num_series, num_validation=0, num_test=1, num_test_steps=100).train, batch_size, model
    )


def image_task(num_series: int = 10, batch_size: int = 10, num_steps: int = 15, size: int = 28) -> Task:
    """Small pictures: a state of 16 and a static part of 16, with a decoder by convolutions."""
    pictures = torch.rand(num_series, num_steps, 1, size, size, generator=torch.Generator().manual_seed(0))

    def model(has_energy: bool) -> ODELEBM:
        dim, static = 16, 16
        return ODELEBM(
            (1, size, size),
            dim,
            static_dim=static,
            vector_field=BayesianMLP(dim, dim, (100, 100), is_bayesian=False),
            initial_prior=_energy(dim + static) if has_energy else None,
            encoder=RNNEncoder((1, size, size), dim + static),
        )

    return Task(Sequences(pictures), batch_size, model)


def _energy(dim: int) -> EnergyTilt:
    return EnergyTilt(
        EnergyMLP(dim, (20, 20)), sampler=ULA(0.4), num_steps=PRIOR_STEPS, chains=PersistentChains(1000, dim)
    )


class Training:
    """Optimisation steps of one variant, as its method takes them.

    Args:
        task: What to learn.
        variant: How.
        has_energy: With an energy-based prior.
        learning_rate: Of all but the energy.
    """

    def __init__(self, task: Task, variant: Variant, *, has_energy: bool = False, learning_rate: float = 1e-2) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = task.model(has_energy)
        self.task, self.variant = task, variant
        self.model.adapt(task.data)
        groups = parameter_groups(self.model, task.data.minibatch(torch.arange(2)))
        self.unused: list[nn.Parameter] = []
        if variant.kernel is None:
            self.objective: nn.Module = Objective(self.model)
            self.posterior: GuidePosterior | ChainPosterior = GuidePosterior(self.model)
        else:
            has_guide = variant.kernel.start == "guide"
            self.unused = [] if has_guide else groups.others
            self.posterior = ChainPosterior(self.model, variant.kernel, num_steps=variant.inference_steps)
            visits = Visits(
                num_steps=variant.num_steps,
                num_chains=1,
                is_persistent=variant.is_persistent,
                warmup_steps=0,
                has_guide=has_guide,
                preconditioner=variant.preconditioner,
                energy_penalty=0.0,
                guide_loss=variant.guide_loss,
            )
            self.objective = ChainObjective(self.model, task.data, groups, visits, self.posterior)
        trained = [parameter for parameter in groups.generator + groups.others if parameter not in set(self.unused)]
        rated = [{"params": trained, "lr": learning_rate}, {"params": groups.energy, "lr": 1e-3}]
        self.optimizer = torch.optim.Adam([group for group in rated if group["params"]])
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def step(self) -> Tensor:
        """One step; the loss before it."""
        batch = self.task.data.minibatch(torch.randperm(self.task.data.num_series)[: self.task.batch_size])
        with frozen(self.unused):
            self.objective.train()
            self.optimizer.zero_grad()
            loss: Tensor = self.objective(batch).total
            loss.backward()
        nn.utils.clip_grad_norm_(self.trained, CLIP_NORM)
        self.optimizer.step()
        return loss.detach()
