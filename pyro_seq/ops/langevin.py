r"""Langevin chains for thousands of independent targets at once, unadjusted (ULA) and Metropolis-adjusted (MALA).

A target has the density :math:`\pi(z) \propto e^{-U(z)}`. With step size :math:`s`, gradient :math:`g = \nabla U(z)`,
scale :math:`c` (1 unless given) and :math:`\varepsilon \sim \mathcal N(0, I)`, all steps here propose

.. math::
    z' = z - \tfrac{s^2}{2} c^2 g + s\, c\, \varepsilon

which is one leapfrog step of Hamiltonian Monte Carlo with step size :math:`s`, mass :math:`c^{-2}` and momentum
:math:`\varepsilon / c`. The convention is that of public code for latent energy-based models. Other conventions convert
as follows.

* :math:`z - h g + \sqrt{2h}\,\varepsilon` (textbooks, BlackJAX's ``step_size``): :math:`s = \sqrt{2h}`
* :math:`z - \tfrac h2 g + \sqrt h\,\varepsilon` (diffusions, TensorFlow Probability):
  :math:`s = \sqrt h`
* HMC with one leapfrog step of size h (Pyro, Stan): :math:`s = h`
* a preconditioner, :math:`z - h P g + \sqrt{2 h P}\,\varepsilon`: :math:`s = \sqrt{2h}` and
  :math:`c = \sqrt{\operatorname{diag} P}`

On a Gaussian of precision :math:`\lambda` ULA is stable for :math:`s^2 \lambda < 4` only, with the stationary
variance :math:`\lambda^{-1} / (1 - s^2 \lambda / 4)` instead of :math:`\lambda^{-1}`; MALA corrects that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq._host import HOST
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops._langevin_adaptation import Adaptation
from pyro_seq.ops._langevin_diagnostics import LangevinDiagnostics
from pyro_seq.ops._langevin_samplers import MALA, ULA, Sampler
from pyro_seq.ops._langevin_state import LangevinState, Potential, initial_state
from pyro_seq.ops._langevin_step import Divergences, Stepper

__all__ = [
    "MALA",
    "ULA",
    "LangevinDiagnostics",
    "LangevinResult",
    "LangevinState",
    "Sampler",
    "initial_state",
    "run",
    "step",
]

Generators = torch.Generator | Sequence[torch.Generator]


class LangevinResult(NamedTuple):
    """Result of :func:`run`.

    Attributes:
        draws: Kept values, ``(draw, *target, *event)``; None unless requested.
        state: The state after the last step.
        diagnostics: Acceptance, step sizes, divergences and frozen targets.
    """

    draws: Tensor | None
    state: LangevinState
    diagnostics: LangevinDiagnostics


@torch.no_grad()
def step(
    potential: Potential, state: LangevinState, sampler: Sampler, noise: Tensor, uniform: Tensor | None = None
) -> LangevinState:
    """Take one step of every chain, with noise drawn by the caller.

    A target depends only on its own energy, gradient, step size and noise, so removing or permuting targets leaves the
    others bit-equal, provided that the arithmetic of the potential does not depend on the batch. Zero noise under ULA
    is a plain gradient step of length ``s^2 / 2``.

    Cost: one call of the potential and its gradient; the state carries both to the next step.

    Args:
        potential: Energies ``(*target)`` of values ``(*target, *event)``, the one used for the state.
        state: State of the chains, from :func:`initial_state` or an earlier step.
        sampler: ``ULA(...)`` or ``MALA(...)``; the state's step size is used, not the sampler's.
        noise: Standard normal, shaped like the value.
        uniform: Uniform on [0, 1), shaped like the energies; ULA needs none.

    Returns:
        The next state.

    Raises:
        ShapeError: If noise does not fit the state, or energies the values.
        DataError: If MALA gets no ``uniform``.

    Example:
        >>> potential = lambda z: 0.5 * z.square().sum(-1)
        >>> state = initial_state(potential, torch.zeros(4, 1000, 2), step_size=0.5)
        >>> state = step(potential, state, ULA(0.5), torch.randn(4, 1000, 2))
        >>> state.energy.shape, bool((state.acceptance > 0.5).all())
        (torch.Size([4, 1000]), True)
    """
    for name, given, like in (("noise", noise, state.value), ("uniform", uniform, state.energy)):
        if given is not None and given.shape != like.shape:
            raise ShapeError(f"`{name}` must have the shape {tuple(like.shape)}. Got {tuple(given.shape)}.")
    return Stepper(potential, sampler)(state, noise, uniform)


@torch.enable_grad()  # for the potential; everything stored is detached
def run(
    potential: Potential,
    value: Tensor,
    sampler: Sampler,
    num_steps: int,
    generator: Generators,
    *,
    adapt_steps: int = 0,
    step_size: Tensor | None = None,
    scale: Tensor | None = None,
    keep_every: int | None = None,
) -> LangevinResult:
    """Run all chains: a warm-up that adapts each target's step size, then steps with the adapted sizes.

    The potential must treat targets separately: no batch normalisation, and no solver that shares its steps among
    series. If it is undefined at a value, it should return a non-finite number rather than raise, so that one bad chain
    cannot stop the others. It is also evaluated at the values of frozen targets.

    Cost: ``1 + adapt_steps + num_steps`` calls of the potential and its gradient; a few elementwise operations each.
    Gradients of network parameters are neither computed nor touched.

    Args:
        potential: Energies ``(*target)`` of values ``(*target, *event)``, with at least one leading axis.
        value: Initial positions of the chains, ``(*target, *event)``, usually ``(chain, series, state)``.
        sampler: ``ULA(...)`` or ``MALA(...)``.
        num_steps: Number of steps after the warm-up.
        generator: Random generator of the noise, on the value's device. A list has one per series, the last axis of the
            energies: the draws of a series then do not depend on the other series. That costs a Python call per series
            and step, 10 microseconds.
        adapt_steps: Number of steps of the warm-up, MALA only. After a short warm-up, the averaged step size is too
            small: with a target of 0.574, the acceptance becomes about 0.70, 0.65 and 0.62 after 50, 200 and 500 steps.
        step_size: Initial step size of each target instead of the sampler's, which broadcasts to ``(*target)``, such as
            ``diagnostics.step_size`` of an earlier run.
        scale: Length of a step in each direction, which broadcasts to the value: about the standard deviation of the
            target. None means 1.
        keep_every: Keep every n-th value after the warm-up (thinning); None keeps only the last state.

    Returns:
        The kept draws, the last state, and diagnostics.

    Raises:
        ShapeError: If energies, step sizes, scales or the list of generators do not fit the value.
        DataError: If an argument has the wrong type or range.
        UnsupportedError: If ULA is asked to adapt.

    Example:
        >>> potential = lambda z: 0.5 * z.square().sum(-1)
        >>> generator = torch.Generator().manual_seed(0)
        >>> result = run(potential, torch.zeros(4, 500, 2), MALA(), 50, generator, adapt_steps=50, keep_every=10)
        >>> result.draws.shape, bool(0.5 < result.diagnostics.acceptance.mean() < 0.75)
        (torch.Size([5, 4, 500, 2]), True)
    """
    num_steps, adapt_steps = whole_number(num_steps, "num_steps"), whole_number(adapt_steps, "adapt_steps")
    keep_every = None if keep_every is None else whole_number(keep_every, "keep_every", 1)
    start = sampler.step_size if step_size is None else step_size
    state = initial_state(potential, value, start, scale=scale)
    _check_generator(generator, state.energy)
    if adapt_steps and sampler.target_accept is None:
        raise UnsupportedError(
            f"{type(sampler).__name__} has no acceptance to adapt to. Got `adapt_steps` = {adapt_steps}. "
            "Adapt with MALA and pass its `diagnostics.step_size` as `step_size`, or leave `adapt_steps` at 0."
        )
    # on other devices the check would wait for the device, and the step for frozen targets is correct for all
    has_frozen = state.is_frozen.device != HOST or bool(state.is_frozen.any())
    take = Stepper(potential, sampler, has_frozen=has_frozen)
    if adapt_steps:
        adaptation = Adaptation(state, sampler, adapt_steps, has_scale=False)
        while not adaptation.is_over:
            state = adaptation.update(take(state, *_draw(state, generator)))
    accepted, kept, divergences = torch.zeros_like(state.energy), [], Divergences(take, state.energy)
    for index in range(1, num_steps + 1):
        state, *judged = take.move(state, *_draw(state, generator))
        divergences.add(*judged)
        accepted += state.acceptance
        if keep_every is not None and index % keep_every == 0:
            kept.append(state.value)
    state = state._replace(num_divergent=state.num_divergent + divergences.settle())
    diagnostics = LangevinDiagnostics(
        accepted / max(num_steps, 1), state.step_size, state.num_divergent, state.is_frozen
    )
    draws = None
    if keep_every is not None:
        draws = torch.stack(kept) if kept else state.value.new_empty(0, *state.value.shape)
    return LangevinResult(draws, state, diagnostics)


def _draw(state: LangevinState, generator: Generators) -> tuple[Tensor, Tensor]:
    value, energy = state.value, state.energy
    if isinstance(generator, torch.Generator):
        return (
            torch.randn(value.shape, dtype=value.dtype, device=value.device, generator=generator),
            torch.rand(energy.shape, dtype=energy.dtype, device=energy.device, generator=generator),
        )
    axis = energy.ndim - 1
    one, alone = value.select(axis, 0), energy.select(axis, 0)
    normals = [torch.randn(one.shape, dtype=one.dtype, device=one.device, generator=source) for source in generator]
    uniforms = [torch.rand(alone.shape, dtype=one.dtype, device=one.device, generator=source) for source in generator]
    return torch.stack(normals, axis), torch.stack(uniforms, axis)


def _check_generator(generator: Generators, energy: Tensor) -> None:
    if isinstance(generator, torch.Generator):
        return
    if not isinstance(generator, Sequence) or not all(isinstance(source, torch.Generator) for source in generator):
        raise DataError(
            f"`generator` must be a torch.Generator or a list of them. Got {type(generator).__name__}. "
            "Pass torch.Generator().manual_seed(0)."
        )
    if len(generator) != energy.shape[-1]:
        raise ShapeError(
            f"`generator` must have one entry for each of the {energy.shape[-1]} series, the last axis of the energies "
            f"{tuple(energy.shape)}. Got {len(generator)}. Pass a single one to share it."
        )
