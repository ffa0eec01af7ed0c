"""Minibatches: unbiased, and a function of seed and step alone."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import UnsupportedError
from pyro_seq.training.batches import Batches


def test_whole_batches_of_a_fresh_shuffle_each_epoch(toy):
    batches = Batches(toy.make_data(8), 3, seed=1)
    epochs = [torch.cat([batches[2 * epoch].index, batches[2 * epoch + 1].index]) for epoch in range(50)]
    assert all(len(set(epoch.tolist())) == 6 for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 50
    assert {batches[step].total for step in range(4)} == {8}


def test_any_order_of_asking_gives_the_same(toy):
    data = toy.make_data(8)
    forward = [Batches(data, 3, seed=1)[step].index.tolist() for step in range(7)]
    stream = Batches(data, 3, seed=1)
    backward = [stream[step].index.tolist() for step in reversed(range(7))]
    assert forward == backward[::-1]
    assert forward != [Batches(data, 3, seed=2)[step].index.tolist() for step in range(7)]


def test_every_series_is_equally_likely_at_every_step(toy):
    """The rest of an epoch is dropped, so this needs the shuffle to be fresh."""
    batches, epochs = Batches(toy.make_data(5), 2, seed=0), 3000
    for position in (0, 1):
        drawn = torch.cat([batches[2 * epoch + position].index for epoch in range(epochs)])
        share = torch.bincount(drawn, minlength=5) / epochs
        assert float((share - 0.4).abs().max()) < 4.5 * (0.4 * 0.6 / epochs) ** 0.5


def test_devices_split_a_batch(toy):
    data = toy.make_data(8)
    whole = Batches(data, 5, seed=0)[3]
    streams = [Batches(data, 5, seed=0, rank=rank, world_size=2) for rank in (0, 1)]
    parts = [stream[3] for stream in streams]
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == sorted(whole.index.tolist())
    shares = [stream.share(part) for stream, part in zip(streams, parts, strict=True)]
    assert shares == [3 * 2 / 5, 2 * 2 / 5]  # their mean is 1: unequal parts stay unbiased


def test_a_device_without_a_series_is_refused(toy):
    with pytest.raises(UnsupportedError, match="series for every device. Got 1 series and 2 devices"):
        Batches(toy.make_data(), 1, seed=0, rank=0, world_size=2)


def test_full_batches_are_the_data_themselves(toy):
    data = toy.make_data(8)
    assert Batches(data, None, seed=0)[4] is data and Batches(data, 99, seed=0)[4] is data
