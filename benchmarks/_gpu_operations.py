"""Kalman recursions and Langevin chains on a device beside the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks._gpu_rows import Rows, timed
from benchmarks._measure import gap
from benchmarks.kalman import Sizes, Task, make_task
from pyro_seq.ops import langevin

# series, steps, state; those that say most first
KALMAN_SIZES = (
    (32, 100, 4),
    (500, 100, 16),
    (32, 500, 4),
    (500, 100, 4),
    (32, 100, 16),
    (32, 100, 32),
    (500, 20, 32),
    (32, 2000, 4),
    (1, 10000, 4),
)
KALMAN_WAYS = {
    f"{what}, {how}": {"smooth": what == "smoothing", "is_parallel": how == "parallel"}
    for what in ("log-likelihood", "smoothing")
    for how in ("sequential", "parallel")
}
# targets, dimensions, steps
CHAIN_SIZES = ((1000, 10, 200), (1000, 100, 200), (10, 10, 200), (20_000, 10, 50))


def kalman(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """Log-likelihood and smoothing with the gradient, sequential and parallel; how exact they are, then how fast."""
    sizes = KALMAN_SIZES[:1] if is_quick else KALMAN_SIZES
    cpu = torch.device("cpu")
    for size in sizes[:2]:
        rows.run(
            f"float32, {' x '.join(map(str, size))}, {device.type}", partial(differences, size, device), seconds=20
        )
    for place in dict.fromkeys((device, cpu)):
        for size in sizes:
            task = task_of(size, torch.float32, place)
            for name, options in KALMAN_WAYS.items():
                call = partial(task.library, **options)
                full = f"{name}, {' x '.join(map(str, size))}, {place.type}"
                rows.run(full, partial(kept, call, place, 0.5), seconds=20.0)


def task_of(size: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Task:
    """A random stable system of that size."""
    num_series, num_steps, state_dim = size
    return moved(make_task(Sizes(num_steps, num_series, state_dim), dtype=dtype), device)


def differences(size: tuple[int, int, int], device: torch.device) -> dict[str, float]:
    """Largest relative difference of values and gradients in single precision from double precision on the CPU."""
    exact, single = task_of(size, torch.float64, torch.device("cpu")), task_of(size, torch.float32, device)
    return {
        name: gap([value.cpu().double() for value in single.library(**options)], exact.library(**options))
        for name, options in KALMAN_WAYS.items()
    }


def moved(task: Task, device: torch.device) -> Task:
    """A task on a device, its tensors leaves again."""

    def leaf(value: Tensor) -> Tensor:
        return value.detach().to(device).requires_grad_(value.requires_grad)

    model = task.model._make(leaf(value) for value in task.model)
    others = {field.name: leaf(getattr(task, field.name)) for field in fields(task) if field.name != "model"}
    return replace(task, model=model, **others)


def kept(call: Callable[[], Any], device: torch.device, seconds: float) -> dict[str, Any]:
    """Time of a call and the memory it took."""
    if device.type != "cuda":
        return timed(call, device, seconds=seconds) | {"threads": torch.get_num_threads()}
    torch.cuda.reset_peak_memory_stats(device)
    return timed(call, device, seconds=seconds) | {"peak MiB": torch.cuda.max_memory_allocated(device) / 2**20}


# ---------------------------------------------------------------------- Langevin chains


def mala(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """Adjusted Langevin chains of many Gaussian targets, beside a plain loop."""
    for place in dict.fromkeys((device, torch.device("cpu"))):
        for num_targets, dim, num_steps in CHAIN_SIZES[2:3] if is_quick else CHAIN_SIZES:
            target = Target(num_targets, dim, place)
            for name, call in (("library", target.library), ("plain loop", target.plain)):
                rows.run(
                    f"{name}, {num_steps} steps of {num_targets} targets of {dim}, {place.type}",
                    partial(chained, call, num_steps, place),
                    seconds=20.0,
                )


def chained(call: Callable[[int], float], num_steps: int, device: torch.device) -> dict[str, Any]:
    """Time of a run, and what share of proposals was accepted."""
    return {"acceptance": call(num_steps)} | kept(lambda: call(num_steps), device, 1.0)


class Target:
    """Independent Gaussians of different scales.

    Args:
        num_targets: How many.
        dim: Dimensions of each.
        device: Where they are.
    """

    def __init__(self, num_targets: int, dim: int, device: torch.device) -> None:
        self.scales = torch.linspace(0.5, 2.0, dim, device=device)
        self.start = torch.zeros(num_targets, dim, device=device)
        self.step_size = 0.6 / dim ** (1 / 6)

    def energy(self, value: Tensor) -> Tensor:
        """Energy of each target."""
        return 0.5 * (value / self.scales).square().sum(-1)

    def library(self, num_steps: int) -> float:
        """By the library."""
        generator = torch.Generator(self.start.device).manual_seed(0)
        result = langevin.run(self.energy, self.start, langevin.MALA(self.step_size), num_steps, generator)
        return float(result.diagnostics.acceptance.mean())

    def plain(self, num_steps: int) -> float:
        """By a loop that does what the equations say."""
        generator = torch.Generator(self.start.device).manual_seed(0)
        size, value = self.step_size, self.start
        energy, gradient = self._with_gradient(value)
        accepted = torch.zeros_like(energy)
        for _ in range(num_steps):
            noise = torch.randn(value.shape, device=value.device, generator=generator)
            proposal = value - 0.5 * size**2 * gradient + size * noise
            new_energy, new_gradient = self._with_gradient(proposal)
            back = (value - proposal + 0.5 * size**2 * new_gradient) / size
            log_ratio = energy - new_energy + 0.5 * (noise.square() - back.square()).sum(-1)
            takes = torch.rand(energy.shape, device=value.device, generator=generator).log() < log_ratio
            value = torch.where(takes[:, None], proposal, value)
            energy = torch.where(takes, new_energy, energy)
            gradient = torch.where(takes[:, None], new_gradient, gradient)
            accepted += log_ratio.clamp(max=0).exp()
        return float(accepted.mean() / num_steps)

    def _with_gradient(self, value: Tensor) -> tuple[Tensor, Tensor]:
        value = value.detach().requires_grad_()
        energy = self.energy(value)
        (gradient,) = torch.autograd.grad(energy.sum(), value)
        return energy.detach(), gradient
