"""Trivial predictors by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import last_frame, linear_interpolation, nearest_series, training_mean

NAN = math.nan


def sequences(*rows: list[float]) -> Sequences:
    return Sequences(torch.tensor(rows, dtype=torch.float64)[..., None])


def test_training_mean_counts_seen_entries_only() -> None:
    train = Sequences(torch.tensor([[[1.0, NAN], [3.0, 4.0]], [[NAN, NAN], [5.0, 8.0]]]))
    like = Sequences(torch.zeros(3, 2, 2)).extend(horizon=2)
    expected = torch.tensor([3.0, 6.0]).expand(3, 4, 2)
    torch.testing.assert_close(training_mean(train, like), expected)


def test_last_frame_skips_hidden_entries() -> None:
    given = Sequences(torch.tensor([[[1.0, 2.0], [3.0, NAN]], [[5.0, 6.0], [NAN, NAN]]]))
    predicted = last_frame(given, 3)
    assert predicted.shape == (2, 3, 2)
    assert predicted[:, 0].tolist() == [[3.0, 2.0], [5.0, 6.0]]
    assert torch.equal(predicted, predicted[:, :1].expand_as(predicted))


def test_last_frame_fills_what_was_never_seen() -> None:
    given = Sequences(torch.tensor([[[1.0, NAN]], [[2.0, 3.0]]]))
    with pytest.raises(DataError, match=r"Series 0 never shows entry \(1,\)"):
        last_frame(given, 1)
    assert last_frame(given, 1, fill=torch.tensor([7.0, 8.0])).tolist() == [[[1.0, 8.0]], [[2.0, 3.0]]]
    assert last_frame(given.first(0), 1, fill=9.0).tolist() == [[[9.0, 9.0]], [[9.0, 9.0]]]


def test_nearest_series_returns_whole_neighbours() -> None:
    train = sequences([0.0, 0.0, 1.0], [5.0, 5.0, 2.0], [0.0, 5.0, 3.0])
    given = sequences([4.0, 4.0], [0.2, 4.0], [0.0, 0.1])
    assert nearest_series(train, given)[..., 0].tolist() == [[5.0, 5.0, 2.0], [0.0, 5.0, 3.0], [0.0, 0.0, 1.0]]
    assert torch.equal(nearest_series(train, given, 1), nearest_series(train, given)[:, :1])


def test_nearest_series_compares_jointly_seen_entries() -> None:
    train = sequences([0.0, 9.0, 1.0], [5.0, 5.0, 2.0])
    train = Sequences(train.values, mask=torch.tensor([[True, False, True], [True, True, True]]))
    with pytest.raises(DataError, match="hidden entries"):
        nearest_series(train, sequences([1.0, 5.0]))
    hidden_first = Sequences(torch.tensor([[[NAN], [9.0]]], dtype=torch.float64))
    assert nearest_series(train, hidden_first)[0, :, 0].tolist() == [5.0, 5.0, 2.0]


def test_nearest_series_by_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(12, 5, 2, generator=generator, dtype=torch.float64)
    seen = torch.rand(6, 5, 2, generator=generator) < 0.7
    train, given = Sequences(values[6:]), Sequences(values[:6], mask=seen)
    distance = ((given.values[:, None] - train.values) ** 2 * seen[:, None]).sum((2, 3)) / seen.sum((1, 2))[:, None]
    assert torch.equal(nearest_series(train, given), train.values[distance.argmin(1)])


def test_wrong_arguments() -> None:
    train, given = sequences([1.0, 2.0]), sequences([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="3 steps to compare"):
        nearest_series(train, given)
    with pytest.raises(ShapeError, match="same observations"):
        training_mean(train, Sequences(torch.zeros(1, 2, 3)))
    with pytest.raises(DataError, match="num_steps"):
        last_frame(train, -1)
    with pytest.raises(DataError, match="no seen entry"):
        nearest_series(train, Sequences(torch.full((1, 2, 1), NAN)))
    with pytest.raises(DataError, match="hidden everywhere"):
        training_mean(Sequences(torch.full((1, 2, 1), NAN)), train)


def test_hidden_entries_come_from_the_next_nearest_series_that_shows_them() -> None:
    """Against a loop over series and entries; what nobody shows, and a series without a neighbour, get the fill."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(14, 6, 2, generator=generator, dtype=torch.float64)
    seen = torch.rand(14, 6, 2, generator=generator) < 0.4
    seen[5:, 4, 1] = False  # no training series shows this entry
    seen[0] = False  # a series of which nothing is known
    train, given = Sequences(values[5:], mask=seen[5:]), Sequences(values[:5, :3], mask=seen[:5, :3])
    found = nearest_series(train, given, fill=torch.tensor([7.0, 8.0]))
    for series in range(5):
        joint = [given.entry_mask[series] & train.entry_mask[k, :3] for k in range(9)]
        error = [(given.values[series] - train.values[k, :3]).square()[joint[k]].mean() for k in range(9)]
        for step, entry in torch.cartesian_prod(torch.arange(6), torch.arange(2)).tolist():
            able = [k for k in range(9) if joint[k].any() and train.entry_mask[k, step, entry]]
            best = min(able, key=lambda k: float(error[k]), default=None)
            expected = 7.0 + entry if best is None else float(train.values[best, step, entry])
            assert float(found[series, step, entry]) == expected
    assert found[0].tolist() == [[7.0, 8.0]] * 6 and found[:, 4, 1].tolist() == [8.0] * 5


def test_linear_interpolation_is_that_of_numpy() -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(3, 9, 2, generator=generator, dtype=torch.float64)
    seen = torch.rand(3, 9, 2, generator=generator) < 0.5
    seen[2, :, 1] = False
    times = torch.rand(3, 9, generator=generator, dtype=torch.float64).cumsum(1) + 1e9
    given = Sequences(values, mask=seen, times=times)
    found = linear_interpolation(given, fill=5.0)
    for series, entry in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]:
        known = seen[series, :, entry]
        line = np.interp(times[series], times[series][known], values[series, :, entry][known])
        np.testing.assert_allclose(found[series, :, entry], line, rtol=0, atol=1e-6)  # of times 1e9, 2e-7 are kept
    assert found[2, :, 1].tolist() == [5.0] * 9
    with pytest.raises(DataError, match=r"Series 2 never shows entry \(1,\)"):
        linear_interpolation(given)


def test_training_mean_fills_what_was_never_seen() -> None:
    train = Sequences(torch.tensor([[[1.0, NAN], [3.0, NAN]]]))
    assert training_mean(train, train.first(1), fill=-1.0).tolist() == [[[2.0, -1.0]]]
