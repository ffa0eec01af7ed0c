"""The alarm that a learned energy is running away from its own prior chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MAX_GAP = 10.0  # nats; a healthy gap swings around zero by a few
MAX_DEVIATION = 8.0  # standard deviations of the base; beyond what a Gaussian shows in 10^15 draws


class EnergyDrift(NamedTuple):
    """How far posterior draws and prior chains have come apart.

    Attributes:
        gap: Mean energy at prior chains minus that at posterior draws, in nats. Learning balances it at zero.
        prior_energy: Mean energy at prior chains.
        posterior_energy: Mean energy at posterior draws.
        deviation: Largest distance of an entry of either from the base's mean, in its standard deviations.
    """

    gap: float
    prior_energy: float
    posterior_energy: float
    deviation: float

    def alarm(self, *, max_gap: float = MAX_GAP, max_deviation: float = MAX_DEVIATION) -> str | None:
        """What is wrong and what to do, or None when nothing is."""
        if abs(self.gap) <= max_gap and self.deviation <= max_deviation:
            return None
        return (
            f"The energy-based prior drifts: the mean energy is {self.posterior_energy:.3g} at posterior draws and "
            f"{self.prior_energy:.3g} at prior chains, a gap of {self.gap:.3g} nats (at most {max_gap:g}), and latents "
            f"lie up to {self.deviation:.3g} standard deviations of the base off its mean (at most {max_deviation:g}). "
            "Prior chains no longer reach where the posterior is, so samples from the prior will not look like the "
            "data. Lower the learning rate of the energy, run longer or persistent prior chains, add the energy "
            "`penalty`, or go back to an earlier checkpoint."
        )


@torch.no_grad()
def energy_drift(
    energy: Callable[[Tensor], Tensor], posterior: Tensor, prior: Tensor, *, loc: Tensor | float, scale: Tensor | float
) -> EnergyDrift:
    """Compare posterior draws (..., dim) and prior chains (..., dim); `loc` and `scale` are those of the base."""
    at_prior, at_posterior = float(energy(prior).mean()), float(energy(posterior).mean())
    deviations = [float(((values - loc) / scale).abs().max()) for values in (posterior, prior)]
    return EnergyDrift(at_prior - at_posterior, at_prior, at_posterior, max(deviations))
