"""The alarm for a learned energy whose posterior draws and prior chains diverge."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MAX_GAP = 10.0  # nats; normally the gap fluctuates around zero by a few
MAX_DEVIATION = 8.0  # standard deviations of the base; beyond what a Gaussian shows in 10^15 draws


class EnergyDrift(NamedTuple):
    """Distance between posterior draws and prior chains.

    Attributes:
        gap: Mean energy at prior chains minus mean energy at posterior draws, in nats. Training drives it to zero.
        prior_energy: Mean energy at prior chains.
        posterior_energy: Mean energy at posterior draws.
        deviation: Largest distance of an entry of either from the base's mean, in its standard deviations.
    """

    gap: float
    prior_energy: float
    posterior_energy: float
    deviation: float

    def alarm(self, *, max_gap: float = MAX_GAP, max_deviation: float = MAX_DEVIATION) -> str | None:
        """A message with problem and remedy, or None if there is no problem."""
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
