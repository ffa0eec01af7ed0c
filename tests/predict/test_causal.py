"""Imputation from the past alone, against cutting the series before each gap."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import GuidePosterior, StoredPosterior
from pyro_seq.predict.causal import CausalCopies
from pyro_seq.predict.verbs import impute
from tests.support import Lines, Walks, binary_series, real_series


def gappy(data: Sequences) -> Sequences:
    """Gaps in the middle, one of them long, at the start, at the end; and a series without any."""
    hidden = torch.zeros(data.num_series, data.num_steps, dtype=torch.bool)
    hidden[0, [2, 5, 6]] = True
    hidden[1, :3] = True
    hidden[2, -2:] = True
    hidden[3, [1, 3, 5, 7]] = True
    return data.hide(hidden)


def test_each_gap_reads_only_what_came_before() -> None:
    data = gappy(real_series())
    copies = CausalCopies.of(data)
    for series in range(data.num_series):
        for step in range(data.num_steps):
            if data.mask[series, step]:
                continue
            copy = copies.copy[series, step]
            expected = data.mask[series] & (torch.arange(data.num_steps) < step)
            assert torch.equal(copies.data.mask[copy], expected)
            assert torch.equal(copies.data.values[copy][expected], data.values[series][expected])
        assert torch.equal(copies.data.mask[copies.full[series]], data.mask[series])


def test_one_copy_a_gap_and_one_in_full() -> None:
    copies = CausalCopies.of(gappy(real_series()))
    assert torch.bincount(copies.copy.flatten().unique(), minlength=1).numel() <= len(copies.data)
    assert len(copies.data) == 3 + 2 + 2 + 5 + 1 + 1


def test_hidden_entries_see_the_rest_of_their_step() -> None:
    data = real_series()
    hidden = torch.zeros_like(data.values, dtype=torch.bool)
    hidden[0, 4, 1] = True
    copies = CausalCopies.of(data.hide(hidden))
    mask = copies.data.entry_mask[copies.copy[0, 4]]
    assert bool(mask[:4].all()) and mask[4].tolist() == [True, False] and not bool(mask[5:].any())


@pytest.mark.parametrize("name", ["lines", "walks"])
def test_the_future_does_not_reach_back(name: str) -> None:
    model, data = (Lines(), real_series()) if name == "lines" else (Walks(), binary_series())
    data = gappy(data)
    posterior = GuidePosterior(model)
    filled = impute(posterior, data, is_causal=True, num_samples=4, seed=1)
    values = data.values.clone()
    values[0, 7:] = 1 - values[0, 7:]
    values[3, 4:] = 1 - values[3, 4:]
    other = impute(posterior, Sequences(values, mask=data.mask), is_causal=True, num_samples=4, seed=1)
    assert torch.equal(filled.samples[:, 0, :7], other.samples[:, 0, :7])
    assert torch.equal(filled.samples[:, 3, :4], other.samples[:, 3, :4])
    assert filled.samples.shape == (4, *data.values.shape)
    assert torch.equal(filled.samples[:, data.entry_mask], data.values[data.entry_mask].expand(4, -1))
    site = "line" if name == "lines" else "walk"
    assert filled.latents[site].shape[:2] == (4, data.num_series)


def test_shared_draws_of_chains_serve_any_series() -> None:
    class Levels(SequenceModel):
        """All series have the same level."""

        dims = {"level": ("level",)}  # noqa: RUF012

        def model(self, data: Sequences) -> None:
            self.bind()
            level = pyro.sample("level", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
            with self.series(data):
                path = level[..., None, :].expand(*level.shape[:-1], data.times.shape[-1], 1)
                self.observe(lambda state: dist.Normal(state, 1.0), path, data)

    fitted = Sequences(torch.zeros(3, 5, 1))
    draws = torch.randn(2, 10, 1, generator=torch.Generator().manual_seed(0))
    posterior = StoredPosterior(Levels(), fitted, {"level": draws}, frozenset({"level"}))
    other = Sequences(torch.ones(4, 7, 1)).hide(torch.arange(7).expand(4, -1) == 3)
    filled = impute(posterior, other, is_causal=True, num_samples=20)
    assert torch.equal(filled.emission_means[:, :, 3, 0], draws.reshape(20, 1).expand(-1, 4))
    with pytest.raises(DataError, match="series that were fitted"):
        StoredPosterior(Levels(), fitted, {"level": draws}).draws(other, 5)
