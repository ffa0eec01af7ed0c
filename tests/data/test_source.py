"""Training from data that are not in memory: the same bits as from memory, and the same bits after a resume."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.mcmc import MCMC, NUTS
from pyro_seq.infer.svi import SVI
from pyro_seq.testing import assert_rng_untouched
from pyro_seq.training.batches import Batches

METHOD = SVI(num_steps=12, batch_size=3, learning_rate=0.01)


class Stored(SequenceSource):
    """Hands out what is in memory, and keeps a record of who asked."""

    def __init__(self, data: Sequences, broken: int | None = None) -> None:
        self.data, self.broken = data, broken
        self.threads: set[int] = set()
        self.asked: list[list[int]] = []

    @property
    def num_series(self) -> int:
        return self.data.num_series

    def load(self, index: torch.Tensor) -> Sequences:
        self.threads.add(threading.get_ident())
        self.asked.append(index.tolist())
        if self.broken in index.tolist():
            raise DataError(f"series {self.broken} cannot be read")
        return self.data[index]


class Endless(SequenceSource):
    """Fresh noisy lines for every number."""

    is_endless = True
    num_series = 2**31

    def __init__(self, make_data) -> None:
        self.make_data = make_data

    def load(self, index: torch.Tensor) -> Sequences:
        return Sequences(torch.cat([self.make_data(1, seed=number).values for number in index.tolist()]))


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_selections_are_those_of_the_data_in_memory(toy):
    data = toy.make_data(8)
    source = Stored(data)
    for item in (3, -1, slice(2, 5), slice(None, None, -2), [4, 0], torch.arange(8) > 5):
        assert torch.equal(source[item].values, data[item].values)
        assert source[item].total == data[item].total
    part, expected = source.minibatch(torch.tensor([5, 2])), data.minibatch(torch.tensor([5, 2]))
    assert part.index.tolist() == expected.index.tolist() and part.total == expected.total == len(source)
    assert (source.num_steps, source.obs_shape) == (data.num_steps, data.obs_shape)
    assert repr(source) == "Stored((series 8, time 9, obs 2))"
    assert [len(one) for one in source] == [1] * 8
    source.asked.clear()
    assert source.preview(3).num_series == 3 and source.asked == [[0, 2, 5]]
    with pytest.raises(DataError, match="between 0 and 7"):
        source[8]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [3, 8])
def test_batches_are_those_of_the_data_in_memory(toy, num_workers, batch_size):
    data = toy.make_data(8)
    expected = Batches(data, batch_size, seed=1)
    source = Stored(data)
    batches = Batches(source, batch_size, seed=1, num_workers=num_workers)
    for step in (0, 1, 2, 3, 7, 5):
        assert torch.equal(batches[step].values, expected[step].values)
        assert batches[step].index.tolist() == expected[step].index.tolist()
    batches.close()
    assert (threading.get_ident() in source.threads) == (num_workers == 0)


def test_devices_split_a_batch_of_a_source(toy):
    data = toy.make_data(8)
    parts = [Batches(Stored(data), 5, seed=0, rank=rank, world_size=2)[3] for rank in (0, 1)]
    whole = Batches(data, 5, seed=0)[3]
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == sorted(whole.index.tolist())


def test_an_endless_source_gives_fresh_series_in_order(toy):
    batches = Batches(Endless(toy.make_data), 4, seed=0)
    assert batches[2].index.tolist() == [8, 9, 10, 11]
    assert repr(Endless(toy.make_data)) == "Endless((series endless, time 9, obs 2))"
    assert Endless(toy.make_data).preview(2).num_series == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_has_the_bits_of_training_in_memory(toy, quiet, num_workers):
    data, held_out = toy.make_data(), toy.make_data(seed=1)
    options = dataclasses.replace(quiet, validate_every=4, num_workers=num_workers)
    expected = fit(toy.make_lines(), data, METHOD, validation=held_out, trainer=options)
    with assert_rng_untouched():
        posterior = fit(toy.make_lines(), Stored(data), METHOD, validation=Stored(held_out), trainer=options)
    assert same_weights(posterior.model, expected.model)
    assert str(posterior.history) == str(expected.history)


def test_resumed_run_on_an_endless_source_has_the_same_bits(toy, quiet, tmp_path):
    source = Endless(toy.make_data)
    whole = fit(toy.make_lines(), source, METHOD, trainer=quiet)
    options = dataclasses.replace(quiet, directory=tmp_path, resume=True)
    fit(toy.make_lines(), source, dataclasses.replace(METHOD, num_steps=5), trainer=options)
    resumed = fit(toy.make_lines(seed=4), source, METHOD, trainer=options)
    assert resumed.history["step"][-1] == 12 and same_weights(resumed.model, whole.model)


def test_a_series_that_cannot_be_read_stops_training_and_its_threads(toy, quiet):
    before = threading.active_count()
    with pytest.raises(DataError, match="series 5 cannot be read"):
        fit(toy.make_lines(), Stored(toy.make_data(40), broken=5), METHOD, trainer=dataclasses.replace(quiet))
    assert threading.active_count() == before


def test_what_a_source_cannot_do(toy, quiet):
    source, endless = Stored(toy.make_data()), Endless(toy.make_data)
    with pytest.raises(UnsupportedError, match="in memory for MCMC"):
        fit(toy.make_lines(), source, MCMC(NUTS(), num_samples=1, warmup_steps=1))
    with pytest.raises(DataError, match="batch_size"):
        fit(toy.make_lines(), source, SVI(num_steps=1), trainer=quiet)
    with pytest.raises(DataError, match="must not be endless"):
        fit(toy.make_lines(), source, METHOD, validation=endless, trainer=quiet)
    with pytest.raises(DataError, match="is endless"):
        endless[:]
