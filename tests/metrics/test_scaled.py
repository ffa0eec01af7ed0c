"""Errors in units of the naive forecast."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_seq.errors import ShapeError
from pyro_seq.metrics import mase, naive_error

PAST = torch.tensor([[[1.0, 5.0], [2.0, 5.0], [4.0, 5.0], [0.0, 5.0]]])
TRUTH = torch.tensor([[[3.0, 6.0], [5.0, 6.0]]])


def test_the_naive_error_is_that_of_the_season_before():
    assert naive_error(PAST).tolist() == [[pytest.approx(7 / 3), 0.0]]
    assert naive_error(PAST, 2)[0, 0] == pytest.approx(2.5)
    assert math.isnan(naive_error(PAST, 4)[0, 0]) and math.isnan(naive_error(PAST, 9)[0, 0])
    seen = torch.tensor([[True, True, False, True]])
    assert naive_error(PAST, mask=seen)[0, 0] == 1.0


def test_errors_are_in_its_units_and_what_does_not_vary_has_none():
    assert float(mase(TRUTH + 7, TRUTH, PAST)) == pytest.approx(3.0)
    assert float(mase(1e6 * (TRUTH + 7), 1e6 * TRUTH, 1e6 * PAST)) == pytest.approx(3.0)
    assert math.isnan(mase(TRUTH, TRUTH, PAST[:, :1]))
    only = torch.tensor([[True, False]])
    prediction = TRUTH + torch.tensor([7.0, 70.0])[:, None]
    assert float(mase(prediction, TRUTH, PAST, mask=only, keep=0)) == pytest.approx(3.0)


def test_the_past_is_that_of_the_same_series():
    with pytest.raises(ShapeError, match="`past` must have the series and entries"):
        mase(TRUTH, TRUTH, PAST[..., :1])
