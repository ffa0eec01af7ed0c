"""Langevin chains beside a plain loop and blackjax; draws of hidden entries beside one run of the smoother."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks._speed_rows import LIBRARY, LOOP, Work, is_installed
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.replicate import Replicate
from pyro_seq.ops import langevin
from pyro_seq.ops.kalman import LinearGaussianParameters

SIZES = ((1000, 10, 200), (1000, 100, 200), (10, 10, 200), (20_000, 10, 50))  # targets, dimensions, steps
QUICK_SIZES = ((10, 10, 20),)
STEP_SIZE = 0.3**0.5


class Targets:
    """Independent targets that are not normal: a normal density times one over 1 + e^z.

    Args:
        num_targets: How many.
        dim: Dimensions of each.
        num_steps: Steps of a run.
    """

    def __init__(self, num_targets: int, dim: int, num_steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.loc = torch.randn(num_targets, dim, generator=generator)
        self.scale = (0.3 * torch.randn(num_targets, dim, generator=generator)).exp()
        self.num_steps = num_steps

    def energy(self, value: Tensor) -> Tensor:
        """Energy of each target."""
        return (0.5 * ((value - self.loc) / self.scale).square() + softplus(value)).sum(-1)

    def library(self) -> list[Tensor]:
        """Where the chains end, by the library."""
        generator = torch.Generator().manual_seed(0)
        return [langevin.run(self.energy, self.loc, langevin.MALA(STEP_SIZE), self.num_steps, generator).state.value]

    def plain(self) -> list[Tensor]:
        """The same, by the shortest loop that does it, which watches over nothing."""
        generator, value = torch.Generator().manual_seed(0), self.loc
        energy, gradient = self._with_gradient(value)
        for _ in range(self.num_steps):
            noise = torch.randn(value.shape, generator=generator)
            kicked = noise - 0.5 * STEP_SIZE * gradient
            there = value + STEP_SIZE * kicked
            energy_there, gradient_there = self._with_gradient(there)
            back = kicked - 0.5 * STEP_SIZE * gradient_there
            ratio = energy - energy_there + 0.5 * (noise.square() - back.square()).sum(-1)
            takes = torch.rand(energy.shape, generator=generator) < ratio.exp()
            value, energy = torch.where(takes[:, None], there, value), torch.where(takes, energy_there, energy)
            gradient = torch.where(takes[:, None], gradient_there, gradient)
        return [value]

    def _with_gradient(self, value: Tensor) -> tuple[Tensor, Tensor]:
        value = value.detach().requires_grad_()
        energy = self.energy(value)
        (gradient,) = torch.autograd.grad(energy.sum(), value)
        return energy.detach(), gradient

    def blackjax(self) -> Any:
        """A run by blackjax, compiled; its convention of the step size is half of the square."""
        import blackjax
        import jax

        loc, scale = jax.numpy.asarray(self.loc.numpy()), jax.numpy.asarray(self.scale.numpy())

        def chain(key: Any, start: Any, loc: Any, scale: Any) -> Any:
            kernel = blackjax.mala(
                lambda z: -(0.5 * ((z - loc) / scale) ** 2 + jax.nn.softplus(z)).sum(), STEP_SIZE**2 / 2
            )
            keys = jax.random.split(key, self.num_steps)
            return jax.lax.scan(lambda state, key: (kernel.step(key, state)[0], None), kernel.init(start), keys)[0]

        run = jax.jit(jax.vmap(chain))
        keys = jax.random.split(jax.random.PRNGKey(0), len(loc))
        return lambda: jax.block_until_ready(run(keys, loc, loc, scale))


def works(is_quick: bool) -> list[Work]:
    """Runs of chains, and imputation by a linear Gaussian path."""
    found = []
    for sizes in QUICK_SIZES if is_quick else SIZES:
        targets = Targets(*sizes)
        sides: dict[str, Any] = {LIBRARY: targets.library, LOOP: targets.plain}
        values = dict(sides)
        if is_installed("blackjax"):
            sides["blackjax, compiled"] = targets.blackjax()
        name = f"MALA, {sizes[2]} steps of {sizes[0]} targets of {sizes[1]}"
        found.append(Work(name, sides, values, repeats=3 if is_quick else 7))
    return [*found, _imputation(is_quick)]


def _imputation(is_quick: bool) -> Work:
    """Twenty draws of hidden entries, as `impute` takes them, beside draws of the hidden path alone."""
    state, num_sensors, num_steps, num_series = (2, 3, 8, 4) if is_quick else (8, 36, 48, 40)
    generator = torch.Generator().manual_seed(0)
    parameters = LinearGaussianParameters(
        0.9 * torch.eye(state),
        0.19 * torch.eye(state),
        0.3 * torch.randn(num_sensors, state, generator=generator),
        0.4 * torch.eye(num_sensors),
        torch.zeros(state),
        torch.eye(state),
    )
    values = torch.randn(num_series, num_steps, num_sensors, generator=generator)
    mask = torch.rand(values.shape, generator=generator) < 0.2
    path = LinearGaussian(parameters, num_steps, mask=mask)

    def drawn() -> Tensor:
        with torch.no_grad():
            return Replicate(path, values, batch_shape=torch.Size([20, num_series])).rsample()

    def smoothed() -> Tensor:
        with torch.no_grad():
            return path.sample_states(values, 20)

    name = f"20 draws of hidden entries, {num_series} series, {num_steps} steps, {num_sensors} sensors"
    return Work(name, {LIBRARY: drawn, "states alone": smoothed}, repeats=3 if is_quick else 7)
