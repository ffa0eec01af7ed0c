"""Joint chains of all latents of a model, one after another, by a kernel of Pyro."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pyro
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from pyro.ops.integrator import register_exception_handler
from torch import Tensor

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import NumericalError
from pyro_seq.infer.chains import ChainRun, Chains, global_names, latent_sites, warn_of_interrupt
from pyro_seq.infer.starts import KnownMassMatrix, no_start, strategies, variances
from pyro_seq.model import SequenceModel

_NUM_TRIES = 5  # draws of the prior per start

# reject a path on which the model fails, as Pyro does for singular matrices
register_exception_handler("pyro_seq", lambda error: isinstance(error, NumericalError), warn_on_overwrite=False)


def joint_chains(build: Callable[..., MCMCKernel], model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
    """Joint chains of all latents, run by Pyro; after an interrupt the finished chains, or the unfinished first one."""
    sites, is_interrupted = latent_sites(model, data), False
    runs: list[_Monitor] = []
    while len(runs) < plan.num_chains and not is_interrupted:
        run, is_interrupted = _joint_chain(build, model, data, plan, sites, len(runs))
        if is_interrupted and not runs and not run.rows:
            raise KeyboardInterrupt
        if not is_interrupted or not runs:
            runs.append(run)
    if is_interrupted:
        warn_of_interrupt(len(runs), len(runs[0].rows), plan)
    draws, figures = [run.draws() for run in runs], [run.figures() for run in runs]
    return Chains(
        {name: torch.stack([drawn[name] for drawn in draws]) for name in sites},
        global_names(sites),
        {name: torch.stack([figure[name] for figure in figures]) for name in figures[0]},
    )


def _joint_chain(
    build: Callable[..., MCMCKernel],
    model: SequenceModel,
    data: Sequences,
    plan: ChainRun,
    sites: Mapping[str, dict],
    chain: int,
) -> tuple[_Monitor, bool]:
    """One chain from the first start with a finite density, and whether it was interrupted."""
    for strategy, attempt in product(strategies(plan.start, chain, plan.num_chains), range(_NUM_TRIES)):
        kernel = build(model, init_strategy=strategy)
        if plan.start is not None:
            kernel.mass_matrix_adapter = KnownMassMatrix(variances(plan.start, sites))
        monitor = _Monitor(kernel)
        run = pyro.infer.MCMC(
            kernel,
            num_samples=plan.num_samples,
            warmup_steps=plan.warmup_steps,
            disable_progbar=not plan.has_progress,
            hook_fn=monitor,
        )
        try:
            with isolated_rng(plan.seed, chain, *range(attempt)), passing_nonfinite():
                run.run(data)
        except NumericalError:  # Pyro first runs the model at a draw of the prior; another draw may work
            continue
        except ValueError as error:
            if "initial params" not in str(error):
                raise
        except KeyboardInterrupt:
            return monitor, True
        else:
            return monitor, False
    raise no_start(chain, has_fit=plan.start is not None)


class _Monitor:
    """Records each draw and the kernel's statistics.

    The energy is the Hamiltonian at the start of the path that led to the draw: minus the log density of the previous
    draw plus the kinetic energy of the new momentum. Along the path it is constant up to the integrator's error.
    """

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.rows: list[tuple[float, float, float, float, bool, dict[str, Tensor]]] = []
        self.divergences = 0
        self.energy = math.nan
        draw_momentum = kernel._sample_r

        def watched(name: str) -> Any:
            momentum, unscaled = draw_momentum(name)
            self.energy = float(kernel._kinetic_energy(unscaled) + kernel._potential_energy_last)
            return momentum, unscaled

        kernel._sample_r = watched

    def __call__(self, kernel: Any, samples: dict[str, Tensor], stage: str, step: int) -> None:
        if not stage.startswith("Sample"):  # kernels do not count divergences in the warm-up
            return
        # Pyro keeps the running mean of the acceptance; its increments are the acceptance of each draw
        mean, count = kernel._mean_accept_prob, len(self.rows) + 1
        diverged = len(kernel._divergences) > self.divergences
        self.divergences = len(kernel._divergences)
        potential, step_size = float(kernel._potential_energy_last), float(kernel.step_size)
        self.rows.append((mean * count, potential, self.energy, step_size, diverged, dict(samples)))

    def draws(self) -> dict[str, Tensor]:
        """The latents, (draw, ...) each."""
        columns = {name: torch.stack([row[-1][name] for row in self.rows]) for name in self.rows[0][-1]}
        return {name: self.kernel.transforms[name].inv(values).detach() for name, values in columns.items()}

    def figures(self) -> dict[str, Tensor]:
        sums, potentials, energies, steps, diverged = (
            torch.tensor(column) for column in zip(*(row[:-1] for row in self.rows), strict=True)
        )
        accepted = sums.double().diff(prepend=sums.new_zeros(1).double())
        return {
            "acceptance_rate": accepted.clamp(0.0, 1.0).float(),
            "lp": -potentials,
            "energy": energies,
            "step_size": steps,
            "diverging": diverged,
        }
