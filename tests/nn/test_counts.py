"""Rates around those of training, and what is no count."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.counts import log_rates, require_counts
from pyro_seq.nn.units import Standardise


def rates(values: torch.Tensor, decoded: float) -> torch.Tensor:
    units = Standardise().double()
    units.adapt(Sequences(values))
    return log_rates(torch.full(values.shape[2:], decoded, dtype=torch.float64), units).exp()


def test_they_start_at_the_mean_and_move_by_the_deviation_of_training():
    values = torch.tensor([[[9900.0, 0.0], [10100.0, 0.0], [9900.0, 0.0], [10100.0, 8.0]]], dtype=torch.float64)
    torch.testing.assert_close(rates(values, 0.0), torch.tensor([10000.0, 2.0], dtype=torch.float64))
    step = (rates(values, 1.0) / rates(values, 0.0)).log()  # deviations 100 and sqrt(12), the latter above the mean
    torch.testing.assert_close(step, torch.tensor([0.01, 1.0], dtype=torch.float64))


def test_what_never_happened_is_rare():
    assert rates(torch.zeros(2, 3, 1).double(), 0.0).tolist() == pytest.approx([1e-3])


@pytest.mark.parametrize("bad", [-1.0, 0.5])
def test_what_is_no_count_is_refused(bad):
    values = torch.zeros(2, 3, 1)
    values[1, 2, 0] = bad
    with pytest.raises(DataError, match=f"whole numbers from 0 on for a `Mine`. Got {bad:g} in series 1 at time 2"):
        require_counts(Sequences(values), "Mine")
    require_counts(Sequences(values).hide(values[..., 0] != 0), "Mine")
