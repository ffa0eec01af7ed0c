"""An energy as a part of a model."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.energy import EnergyMLP, PersistentChains
from pyro_seq.nn.energy_tilt import EnergyTilt
from pyro_seq.ops.langevin import MALA


def base() -> dist.TorchDistribution:
    return dist.Normal(torch.zeros(5, 3), 1.0).to_event(1)


def test_options_reach_the_prior() -> None:
    pool = PersistentChains(20, 3)
    energy = EnergyTilt(EnergyMLP(3), sampler=MALA(0.3), num_steps=7, num_negatives=2, chains=pool)
    prior = energy.tilt(base())
    assert (prior.sampler, prior.num_steps, prior.num_negatives) == (MALA(0.3), 7, 2) and prior.chains is pool
    value = torch.randn(4, 5, 3)
    torch.testing.assert_close(prior.log_prob(value), prior.base.log_prob(value) - energy(value))
    assert pool.is_started.sum() == 10
    assert any("values" in name for name in energy.state_dict())
    with pytest.raises(DataError, match="num_steps"):
        EnergyTilt(EnergyMLP(3), num_steps=0)


def test_penalty_is_of_the_chains_that_normalised_in_training_and_of_new_ones_else() -> None:
    energy = EnergyTilt(EnergyMLP(3), num_steps=2)
    prior, value = energy.tilt(base()), torch.randn(4, 5, 3)
    prior.log_prob(value)
    wanted = energy(value).square() + energy(prior.negatives).square().mean(0)
    torch.testing.assert_close(energy.penalty(prior, value), wanted)
    for quiet in (torch.no_grad(), torch.enable_grad()):
        energy.requires_grad_(False)
        new = energy.tilt(base())
        with quiet:
            torch.manual_seed(1)
            penalty = energy.penalty(new, value)
            torch.manual_seed(1)
            torch.testing.assert_close(penalty, energy(value).square() + energy(new.sample()).square())
