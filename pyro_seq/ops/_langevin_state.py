"""The state of many independent chains: values, energies, gradients, and which of them are frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._nonfinite import is_chanced
from pyro_seq.errors import DataError, ShapeError

Potential = Callable[[Tensor], Tensor]


class LangevinState(NamedTuple):
    """The state of a batch of chains; *target* stands for the axes of the energies, usually ``(chain, series)``.

    Attributes:
        value: Positions, ``(*target, *event)``.
        energy: Potential there, ``(*target)``.
        gradient: Gradient of the potential there, ``(*target, *event)``; the next step starts from it.
        step_size: Step size of each target, ``(*target)``.
        scale: Length of a step in each direction, the square root of a diagonal preconditioner, which broadcasts
            against the value; None means 1.
        acceptance: Probability, by the Metropolis rule, of the last proposal, ``(*target)``; 1 before the first step.
        num_divergent: Number of proposals so far whose energy was not finite or rose too much, ``(*target)``.
        is_frozen: Targets that no longer move, ``(*target)``.
    """

    value: Tensor
    energy: Tensor
    gradient: Tensor
    step_size: Tensor
    scale: Tensor | None
    acceptance: Tensor
    num_divergent: Tensor
    is_frozen: Tensor


def initial_state(
    potential: Potential, value: Tensor, step_size: float | Tensor, *, scale: Tensor | None = None
) -> LangevinState:
    """Evaluate the potential at the start, check shapes, and freeze targets whose start is not finite.

    Args:
        potential: Energies ``(*target)`` of values ``(*target, *event)``; see :func:`pyro_seq.ops.langevin.run`.
        value: Initial positions of the chains, ``(*target, *event)``.
        step_size: One for all, or one per target, which broadcasts to ``(*target)``.
        scale: Length of a step in each direction, which broadcasts to the value; None means 1.

    Returns:
        The state, detached from all graphs.

    Raises:
        ShapeError: If energies, step sizes or scales do not fit the value.
        DataError: If an argument has the wrong type, a step size or scale is not positive, or the potential does not
            depend on the value.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise DataError(
            f"`value` must be a floating-point tensor (chains, series, *event). Got {kind}. "
            "Flatten and join several latents into one tensor first."
        )
    value = value.detach().clone()
    energy, gradient = energy_and_gradient(potential, value)
    return LangevinState(
        value,
        energy,
        gradient,
        step_size=_positive("step_size", step_size, energy, energy.shape).expand(energy.shape),
        scale=None if scale is None else _positive("scale", scale, value, value.shape),
        acceptance=torch.ones_like(energy),
        num_divergent=torch.zeros_like(energy, dtype=torch.long),
        is_frozen=~all_finite(energy, gradient, value),
    )


def energy_and_gradient(potential: Potential, value: Tensor, ones: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Energies and gradient at a detached value; one call of the potential; only the value gets a gradient.

    `ones`, shaped like the energies, means that the potential was checked, and avoids creating them in every call.
    """
    if not torch.is_grad_enabled():
        with torch.enable_grad():
            return energy_and_gradient(potential, value, ones)
    position = value.detach().requires_grad_()
    energy = potential(position)
    if ones is None:
        _check_energy(energy, value)
        ones = one_each(energy)
    (gradient,) = torch.autograd.grad((energy,), (position,), (ones,), allow_unused=True)
    if gradient is None:
        raise DataError("`potential` must depend on its argument. Got energies that do not. Look for a `detach` in it.")
    return energy.detach(), gradient


def one_each(energy: Tensor) -> Tensor:
    """A single 1 expanded to the shape of the energies."""
    return torch.ones((), dtype=energy.dtype, device=energy.device).expand_as(energy)


def all_finite(energy: Tensor, *events: Tensor) -> Tensor:
    """Which targets have finite energies, gradients and values."""
    finite = energy.isfinite()
    for event in events:
        finite = finite & event.isfinite().reshape(*energy.shape, -1).all(-1)
    return finite


def spread(per_target: Tensor, like: Tensor) -> Tensor:
    """Append axes so that one number per target broadcasts against values."""
    if like.ndim - per_target.ndim == 1:
        return per_target.unsqueeze(-1)
    return per_target.reshape(*per_target.shape, *[1] * (like.ndim - per_target.ndim))


def _check_energy(energy: object, value: Tensor) -> None:
    if not isinstance(energy, Tensor) or not energy.requires_grad:
        kind = "a tensor without a gradient" if isinstance(energy, Tensor) else type(energy).__name__
        raise DataError(
            f"`potential` must return a tensor that is differentiable in its argument. Got {kind}. "
            "Compute the energies from the argument by torch operations, outside `no_grad` and without `detach`."
        )
    if not energy.ndim or energy.shape != value.shape[: energy.ndim]:
        raise ShapeError(
            "`potential` must return one energy a target, the leading axes of its argument, such as (chains, series). "
            f"Got energies {tuple(energy.shape)} for values {tuple(value.shape)}. "
            "Sum over the axes of one target only, never over targets."
        )


def _positive(name: str, number: float | Tensor, like: Tensor, shape: torch.Size) -> Tensor:
    number = torch.as_tensor(number, dtype=like.dtype, device=like.device).detach()
    try:
        fits = torch.broadcast_shapes(number.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ShapeError(
            f"`{name}` must broadcast to {tuple(shape)}. Got {tuple(number.shape)}. "
            "Pass one number, or one for each of the axes named in the docstring."
        )
    wrong = ~((number > 0) & number.isfinite())
    if not is_chanced() and wrong.any():
        raise DataError(
            f"`{name}` must be positive and finite. Got {float(number[wrong].flatten()[0]):.6g} in {int(wrong.sum())} "
            f"of {number.numel()} entries. Start again from a size such as 0.1."
        )
    return number
