"""Energy networks and pools of persistent chains."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.energy import EnergyMLP, PersistentChains


def test_energy_network() -> None:
    energy = EnergyMLP(3, (7, 5)).double()
    value = torch.randn(2, 4, 3, dtype=torch.float64)
    assert energy(value).shape == (2, 4)
    linear = [part for part in energy.modules() if isinstance(part, torch.nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == [(3, 7), (7, 5), (5, 1)]
    assert linear[-1].bias is None and linear[0].bias is not None
    activate = torch.nn.functional.gelu
    hidden = activate(linear[1](activate(linear[0](value))))
    torch.testing.assert_close(energy(value), (hidden @ linear[-1].weight.T)[..., 0])
    with pytest.raises(DataError, match="hidden layer"):
        EnergyMLP(3, ())


def test_an_energy_of_another_size_says_which_it_wants() -> None:
    with pytest.raises(ShapeError, match=r"vectors of 5.*Got the shape \(2, 4\).*`EnergyMLP\(4\)`"):
        EnergyMLP(5)(torch.zeros(2, 4))


def test_chains_go_on_where_they_were() -> None:
    pool = PersistentChains(6, 2, refresh=0.0)
    start, index = pool.take(torch.ones(2, 2, 2))
    assert torch.equal(start, torch.ones(2, 2, 2)) and len(index.unique()) == 4
    ends = torch.arange(8.0).reshape(2, 2, 2)
    pool.put(index, ends)
    assert torch.equal(pool.values[index], ends.reshape(4, 2))
    start, index = pool.take(torch.full((6, 2), -1.0))
    assert torch.equal(start, torch.where(pool.is_started[index, None], pool.values[index], -1.0))
    assert (start[:, 0] == -1).sum() == 2


def test_bad_chains_start_anew_and_some_are_refreshed() -> None:
    pool = PersistentChains(500, 1, refresh=0.2)
    _, index = pool.take(torch.zeros(500, 1))
    ends = torch.ones(500, 1)
    ends[0] = torch.nan
    pool.put(index, ends)
    assert pool.is_started.sum() == 499 and pool.values.isfinite().all()
    start, _ = pool.take(torch.zeros(500, 1))
    assert abs(float(start.mean()) - 0.8) < 4.5 * (0.16 / 500) ** 0.5
    assert pool.take(torch.zeros(600, 1))[0].shape == (600, 1)


@pytest.mark.parametrize("make", [lambda: PersistentChains(0, 2), lambda: PersistentChains(3, 2, refresh=1.0)])
def test_arguments(make) -> None:
    with pytest.raises(DataError):
        make()
