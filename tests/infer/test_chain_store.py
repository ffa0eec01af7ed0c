"""``ChainStore``: step sizes follow the acceptance, those seen rarely too; places come back to the series they left."""

from __future__ import annotations

import math

import torch

from pyro_seq.infer.chain_store import ChainStore

F64 = torch.float64
FIRST = 0.2


def store(num_series: int = 5, num_chains: int = 2, num_entries: int = 3) -> ChainStore:
    return ChainStore(num_series, num_chains, num_entries, step_size=FIRST, dtype=F64)


def test_step_sizes_move_by_the_surplus_of_a_series_or_by_the_mean_where_it_was_not_seen() -> None:
    """By hand: half the surplus on the log scale, and half the mean surplus for series 1 and 4."""
    sizes = store()
    sizes.adapt(torch.tensor([3, 0, 2]), torch.tensor([0.4, -0.2, 0.1], dtype=F64))
    common = (0.4 - 0.2 + 0.1) / 3
    expected = [FIRST * math.exp(0.5 * surplus) for surplus in (-0.2, common, 0.1, 0.4, common)]
    torch.testing.assert_close(sizes.step_sizes(torch.arange(5)), torch.tensor(expected, dtype=F64), rtol=1e-12, atol=0)


def test_changes_of_step_sizes_add_up_over_visits() -> None:
    """Series 0 is seen twice, series 1 once; the rest go along with the mean of each batch."""
    sizes = store(3)
    sizes.adapt(torch.tensor([0, 1]), torch.tensor([0.3, 0.1], dtype=F64))
    sizes.adapt(torch.tensor([0]), torch.tensor([-0.5], dtype=F64))
    surpluses = torch.tensor([0.3 - 0.5, 0.1 - 0.5, 0.2 - 0.5], dtype=F64)
    torch.testing.assert_close(sizes.step_sizes(torch.arange(3)), FIRST * (0.5 * surpluses).exp(), rtol=1e-12, atol=0)


def test_places_come_back_and_bad_chains_start_anew() -> None:
    places, index = store(), torch.tensor([4, 1])
    values = torch.randn(2, 2, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    values[1, 0] = float("nan")
    is_good = torch.tensor([[True, True], [False, True]])  # chain 1 of series 4 is lost
    places.put(index, values, is_good)
    fresh = torch.full((2, 3, 3), 7.0, dtype=F64)
    taken = places.take(torch.tensor([1, 4, 2]), fresh)
    assert torch.equal(taken[:, 0], values[:, 1]) and torch.equal(taken[0, 1], values[0, 0])
    assert bool((taken[1, 1] == 7).all()) and bool((taken[:, 2] == 7).all())
    assert bool(places.values.isfinite().all())


def test_all_that_is_remembered_is_part_of_a_checkpoint() -> None:
    first, second = store(), store()
    first.adapt(torch.tensor([2]), torch.tensor([0.4], dtype=F64))
    first.put(torch.tensor([2]), torch.ones(2, 1, 3, dtype=F64), torch.ones(2, 1, dtype=torch.bool))
    second.load_state_dict(first.state_dict())
    everyone, fresh = torch.arange(5), torch.zeros(2, 5, 3, dtype=F64)
    assert torch.equal(second.take(everyone, fresh), first.take(everyone, fresh))
    assert torch.equal(second.step_sizes(everyone), first.step_sizes(everyone))
