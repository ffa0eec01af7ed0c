"""Annealed importance sampling against the closed form of Gaussians, one target a series."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.ops.annealing import annealed_log_partition

F64 = torch.float64


def test_many_gaussian_targets_at_once() -> None:
    tilt = torch.tensor([0.0, 0.5, 2.0, 20.0], dtype=F64)
    source = torch.Generator().manual_seed(0)
    start = torch.randn(800, 4, 3, dtype=F64, generator=source)
    base = torch.distributions.Normal(torch.zeros(3, dtype=F64), 1.0)
    result = annealed_log_partition(
        lambda z: base.log_prob(z).sum(-1), lambda z: 0.5 * tilt * z.square().sum(-1), start, 80, source
    )
    exact = -1.5 * (1 + tilt).log()
    assert result.value[0] == 0 and result.upper[0] == 0 and result.effective_size[0] == pytest.approx(800)
    assert result.error[0] < 1e-6  # weights that are all alike leave no doubt
    assert ((result.value - exact)[1:].abs() < 4.5 * result.error[1:]).all()
    assert ((result.upper - exact).abs() < 0.15).all()
    assert (result.effective_size > 300).all()


def test_arguments() -> None:
    source = torch.Generator().manual_seed(0)
    with pytest.raises(DataError, match="two or more particles"):
        annealed_log_partition(lambda z: z, lambda z: z, torch.zeros(1, 2), 5, source)
    with pytest.raises(DataError, match="`num_temperatures`"):
        annealed_log_partition(lambda z: z, lambda z: z, torch.zeros(9, 2), 0, source)
