"""Diagnostics of many Langevin chains, and a short report."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LangevinDiagnostics(NamedTuple):
    """Diagnostics of each target, ``(*target)`` throughout.

    Attributes:
        acceptance: Mean Metropolis probability after the warm-up; for ULA, which rejects nothing, it indicates the
            bias.
        step_size: The step size in use after the warm-up.
        num_divergent: Divergent proposals after the warm-up.
        is_frozen: Targets that stopped, because their start was not finite or, with ULA, they diverged.
    """

    acceptance: Tensor
    step_size: Tensor
    num_divergent: Tensor
    is_frozen: Tensor

    def report(self, low: float = 0.2) -> str:
        """A short summary of the chains, with advice if many proposals fail.

        Args:
            low: Mean acceptance below which a step size counts as too large.
        """
        alive = ~self.is_frozen
        lines = [f"{int(alive.sum())} of {alive.numel()} chains ran to the end, the others are frozen."]
        if self.is_frozen.any():
            where = self.is_frozen.nonzero()[0].tolist()
            lines.append(f"The first frozen one is {where}. Look at its start and data, or use MALA or smaller steps.")
        if alive.any():
            for name, numbers in (("Acceptance", self.acceptance[alive]), ("Step size", self.step_size[alive])):
                low_end, middle, high_end = (float(x) for x in (numbers.min(), numbers.median(), numbers.max()))
                lines.append(f"{name}: median {middle:.3g}, from {low_end:.3g} to {high_end:.3g}.")
        if num_low := int((alive & (self.acceptance < low)).sum()):
            lines.append(f"{num_low} chains accept less than {low:g}: adapt or reduce their step sizes.")
        if self.num_divergent.any():
            hit = int((self.num_divergent > 0).sum())
            lines.append(f"{int(self.num_divergent.sum())} divergent proposals in {hit} chains.")
        return "\n".join(lines)
