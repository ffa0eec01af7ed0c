"""A prior defined by an energy: its network, and the chains that sample and normalise it."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.distributions.energy_based import EnergyBased
from pyro_seq.nn.energy import PersistentChains
from pyro_seq.ops.langevin import MALA, Sampler


@rebuildable
class EnergyTilt(nn.Module):
    r"""An energy and its chains, which define a prior :math:`p(z) \propto e^{-E(z)}\, p_0(z)` for any base p_0.

    As `initial_prior` of a model the base is standard normal.

    Args:
        network: The energy E, one number (...) for vectors (..., dim), such as an `EnergyMLP`.
        sampler: Langevin sampler of the prior's chains.
        num_steps: Steps of a chain, both for drawing from the prior and for normalising it in training.
        num_negatives: Chains per series that normalise the prior in training.
        chains: A pool of chains that continue through training. Default: chains start from the base each time.
        has_penalty: Keep energies small in training by the term ``energy_penalty`` of the objective. Its weight is 1
            unless set, as in ``SVI(scales={"energy_penalty": 0.01})``.

    References:
        Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sampler: Sampler = MALA(0.4),
        num_steps: int = 60,
        num_negatives: int = 1,
        chains: PersistentChains | None = None,
        has_penalty: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.sampler = sampler
        self.num_steps = whole_number(num_steps, "num_steps", 1)
        self.num_negatives = whole_number(num_negatives, "num_negatives", 1)
        self.chains = chains
        self.has_penalty = has_penalty

    def forward(self, value: Tensor) -> Tensor:
        """Energies (...) of vectors (..., dim)."""
        return self.network(value)

    def tilt(self, base: dist.TorchDistribution) -> EnergyBased:
        """The prior with base `base`, a distribution whose event is a vector."""
        return EnergyBased(
            base,
            self.network,
            sampler=self.sampler,
            num_steps=self.num_steps,
            num_negatives=self.num_negatives,
            chains=self.chains,
        )

    def distribution(self, zeros: Tensor) -> EnergyBased:
        """The prior of a vector like `zeros` (dim,), from a standard normal base."""
        return self.tilt(dist.Normal(zeros, 1.0).to_event(1))

    def terms(self, prior: dist.TorchDistribution, value: Tensor) -> dict[str, Tensor]:
        """``energy_penalty``, with `has_penalty`."""
        assert isinstance(prior, EnergyBased)
        return {"energy_penalty": self.penalty(prior, value)} if self.has_penalty else {}

    def penalty(self, prior: EnergyBased, value: Tensor) -> Tensor:
        """Squared energies at posterior draws `value` (..., dim) and at chains of the prior, (...).

        In training, these are the chains that normalised the prior; otherwise, as in validation, separate chains.
        """
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.network.parameters()):
            return prior.penalty(value)
        return self.network(value).square() + self.network(prior.sample()).square()
