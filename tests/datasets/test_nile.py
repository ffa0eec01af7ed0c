"""The flow of the Nile against the copy in statsmodels."""

from __future__ import annotations

import torch

from pyro_seq.datasets import nile


def test_equals_statsmodels():
    from statsmodels.datasets import nile as reference

    table = reference.load_pandas().data
    data = nile()
    assert data.values[0, :, 0].tolist() == table["volume"].tolist()
    assert data.times.tolist() == table["year"].tolist()
    assert data.mask.all() and data.obs_shape == (1,) and data.num_series == 1
    assert nile(dtype=torch.float32).dtype == torch.float32
