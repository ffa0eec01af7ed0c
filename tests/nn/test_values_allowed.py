"""The place of a value that is refused."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.values_allowed import require_values


def test_series_time_variable_and_value_are_named_and_hidden_ones_do_not_count():
    values = torch.ones(3, 4, 2)
    values[0, 0, 0], values[1, 2, 1], values[2, 3, 0] = -5.0, -7.5, -1.0
    mask = torch.ones(3, 4, 2, dtype=torch.bool)
    mask[0, 0, 0] = False
    data = Sequences(values, mask=mask, times=[0.0, 1.5, 4.0, 9.0])
    expected = r"must be positive\. Got -7\.5 in series 1 at time 4, variable 1, one of 2 such values\. Do this\."
    with pytest.raises(DataError, match=expected):
        require_values(data, data.values >= 0, "positive", "Do this.")
    require_values(data.hide(data.values < 0), data.values >= 0, "positive", "Do this.")


def test_pixels_of_series_with_times_of_their_own_are_named_by_all_their_axes():
    values = torch.zeros(2, 2, 1, 3, 3)
    values[1, 0, 0, 2, 1] = 2.0
    data = Sequences(values, times=torch.tensor([[0.0, 1.0], [5.0, 6.0]]))
    with pytest.raises(DataError, match=r"in series 1 at time 5, variable 0, 2, 1"):
        require_values(data, data.values <= 1, "small", "")
