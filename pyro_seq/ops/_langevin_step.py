"""One step of every chain, in about as many passes over the values as a minimal loop."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_seq.ops._langevin_samplers import MALA, Sampler
from pyro_seq.ops._langevin_state import LangevinState, Potential, energy_and_gradient, one_each, spread

_MOST_KEPT = 2**18  # most numbers held before they are counted


class Stepper:
    """Takes steps of one potential with one sampler; step lengths are recomputed only after a change.

    Results are detached, whether or not gradients are on, and nothing is read from the device. Products and sums are
    separate operations: the rounding of fused ones may depend on the position of an entry in a register, and so on the
    number of targets.

    Args:
        potential: Energies ``(*target)`` of values ``(*target, *event)``.
        sampler: Rule for proposals.
        has_frozen: Whether some chains may be frozen. False skips the check, if none is frozen at the start and `MALA`
            freezes none.
    """

    def __init__(self, potential: Potential, sampler: Sampler, *, has_frozen: bool = True) -> None:
        self.potential = potential
        self.sampler = sampler
        self.is_plain = type(sampler) is MALA and not has_frozen
        self._step_size: Tensor | None = None
        self._scale: Tensor | None = None
        self._length = self._half = self._ones = torch.empty(0)

    def __call__(self, state: LangevinState, noise: Tensor, uniform: Tensor | None) -> LangevinState:
        """The next state, given noise shaped like the value and uniform numbers shaped like the energies."""
        state, *judged = self.move(state, noise, uniform)
        return state._replace(num_divergent=state.num_divergent + self.diverges(*judged))

    def diverges(self, drop: Tensor, log_ratio: Tensor) -> Tensor:
        """Which proposals diverge, from the decrease of their energies and their Metropolis ratios."""
        return (drop < -self.sampler.max_energy_rise).logical_or_(log_ratio == -math.inf)

    def move(self, state: LangevinState, noise: Tensor, uniform: Tensor | None) -> tuple[LangevinState, Tensor, Tensor]:
        """The next state with divergences uncounted, and the arguments of `diverges`."""
        if state.step_size is not self._step_size or state.scale is not self._scale:
            self._reach(state)
        proposal = (self._half * state.gradient).add_(noise).mul_(self._length).add_(state.value)
        if not self.is_plain:
            proposal = torch.where(spread(state.is_frozen, noise), state.value, proposal)
        energy, gradient = energy_and_gradient(self.potential, proposal, self._ones)
        drop = state.energy - energy
        log_ratio = drop.sub(self._kinetic(state, noise, proposal, gradient, drop))
        log_ratio.nan_to_num_(-math.inf, -math.inf, -math.inf)
        if self.is_plain and uniform is not None:
            acceptance = log_ratio.clamp(max=0).exp_()
            takes, is_frozen = uniform < acceptance, state.is_frozen
        else:
            log_ratio.masked_fill_(state.is_frozen, torch.finfo(log_ratio.dtype).min)  # impossible, not divergent
            acceptance = log_ratio.clamp(max=0).exp_()
            takes, freezes = self.sampler.decide(acceptance, self.diverges(drop, log_ratio), uniform)
            takes, is_frozen = takes & ~state.is_frozen, state.is_frozen | freezes
        wide = spread(takes, proposal)
        moved = LangevinState(
            torch.where(wide, proposal, state.value),
            torch.where(takes, energy, state.energy),
            torch.where(wide, gradient, state.gradient),
            state.step_size,
            state.scale,
            acceptance,
            state.num_divergent,
            is_frozen,
        )
        return moved, drop, log_ratio

    def _kinetic(self, state: LangevinState, noise: Tensor, proposal: Tensor, gradient: Tensor, like: Tensor) -> Tensor:
        r"""Rise of the kinetic energy, for the Metropolis ratio; not finite where gradient or proposal is not finite.

        The noise of the reverse move is :math:`\varepsilon' = \varepsilon + d` with :math:`d = -\tfrac s2 c\, (g +
        g')`, so that :math:`\tfrac12 |\varepsilon'|^2 - \tfrac12 |\varepsilon|^2 = d \cdot (\varepsilon + d / 2)`. A
        gradient whose square overflows counts as not finite.
        """
        change = (state.gradient + gradient).mul_(self._half)
        kinetic = noise.add(change, alpha=0.5).mul_(change)
        kinetic.add_(proposal, alpha=0)  # adds 0, or NaN
        return (kinetic if kinetic.ndim == like.ndim + 1 else kinetic.reshape(*like.shape, -1)).sum(-1)

    def _reach(self, state: LangevinState) -> None:
        """Store the length of a step in each entry, and minus half of it; one number if all are the same."""
        size, scale = state.step_size, state.scale
        if scale is not None:
            self._length = (spread(size, state.value) * scale).expand_as(state.value).contiguous()
        elif not any(size.stride()):  # one size, expanded
            self._length = size[(0,) * size.ndim]
        else:
            self._length = spread(size, state.value).expand_as(state.value).contiguous()
        self._half, self._ones = -0.5 * self._length, one_each(state.energy)
        self._step_size, self._scale = size, scale


class Divergences:
    """Counts divergences of several steps at a time: three operations per step would be a tenth of a short step's cost.

    Args:
        stepper: Decides which steps diverge.
        energy: Energies of the chains.
    """

    def __init__(self, stepper: Stepper, energy: Tensor) -> None:
        self.stepper, self.count = stepper, torch.zeros_like(energy, dtype=torch.long)
        self._most = max(1, min(64, _MOST_KEPT // max(1, energy.numel())))
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, drop: Tensor, log_ratio: Tensor) -> None:
        """Add one step."""
        self._waiting.append((drop, log_ratio))
        if len(self._waiting) >= self._most:
            self.settle()

    def settle(self) -> Tensor:
        """Number of divergences of each target so far."""
        if self._waiting:
            self.count += self.stepper.diverges(*map(torch.stack, zip(*self._waiting, strict=True))).sum(0)
            self._waiting = []
        return self.count
