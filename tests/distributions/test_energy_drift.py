"""The alarm of a learned energy: its figures by hand, and where it goes off."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.distributions.energy_drift import MAX_DEVIATION, MAX_GAP, EnergyDrift, energy_drift


def test_figures_by_hand() -> None:
    posterior, prior = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[3.0, 0.0], [1.0, -6.0]])
    drift = energy_drift(lambda value: value.sum(-1), posterior, prior, loc=1.0, scale=torch.tensor([0.5, 2.0]))
    assert drift == EnergyDrift(gap=-1.0 - 1.0, prior_energy=-1.0, posterior_energy=1.0, deviation=4.0)


@pytest.mark.parametrize(
    ("gap", "deviation", "is_alarm"),
    [
        (0.0, 0.0, False),
        (MAX_GAP, MAX_DEVIATION, False),
        (1.01 * MAX_GAP, 0.0, True),
        (0.0, 1.01 * MAX_DEVIATION, True),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_alarm_goes_off_beyond_either_bound(gap: float, deviation: float, is_alarm: bool, sign: int) -> None:
    drift = EnergyDrift(sign * gap, sign * gap, 0.0, deviation)
    assert (drift.alarm() is not None) == is_alarm
    assert drift.alarm(max_gap=100.0, max_deviation=100.0) is None


def test_the_energy_is_read_without_a_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    energy_drift(lambda value: value @ weight, torch.zeros(3, 2), torch.ones(3, 2), loc=0.0, scale=1.0)
    assert weight.grad is None
