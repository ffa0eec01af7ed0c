"""The paper's imputation protocol: which frames are hidden, which pixels count, and the trivial predictors."""

from __future__ import annotations

import itertools

import pytest
import torch

from benchmarks.studies._gaps import (
    LENGTHS,
    NUM_KEPT,
    PROBABILITIES,
    consecutive_gaps,
    last_seen,
    nearest_training,
    random_gaps,
    step_distances,
    trivial_predictions,
    wrong_pixels,
)
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import nearest_series


def images(num_series=7, num_steps=20, seed=0) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    return Sequences((torch.rand(num_series, num_steps, 1, 4, 5, generator=generator) < 0.4).float())


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_random_gaps_hide_by_chance_after_the_first_frames(probability):
    data = images(500)
    hidden = random_gaps(data, probability, seed=3)
    assert hidden.shape == (500, 20) and not bool(hidden[:, :NUM_KEPT].any())
    rate, count = hidden[:, NUM_KEPT:].double().mean(), 500 * 16
    assert abs(float(rate) - probability) <= 4 * (probability * (1 - probability) / count) ** 0.5
    assert bool((hidden.sum(0)[NUM_KEPT:] > 0).all())


def test_random_gaps_are_nested_and_reproducible():
    data = images()
    patterns = [random_gaps(data, probability, seed=3) for probability in PROBABILITIES]
    for few, many in itertools.pairwise(patterns):
        assert bool((many | ~few).all())
    assert bool(patterns[-1][:, NUM_KEPT:].all())
    assert torch.equal(patterns[4], random_gaps(data, 0.5, seed=3))
    assert not torch.equal(patterns[4], random_gaps(data, 0.5, seed=4))
    assert not bool(random_gaps(data, 0.0).any())


@pytest.mark.parametrize("length", [0, *LENGTHS, 16])
def test_consecutive_gaps_hide_frames_in_a_row(length):
    hidden = consecutive_gaps(images(), length)
    expected = [False] * 4 + [True] * length + [False] * (16 - length)
    assert hidden.tolist() == [expected] * 7


def test_published_grids():
    assert PROBABILITIES == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert LENGTHS == (1, 3, 5, 7, 9, 11, 13, 15)


# ---------------------------------------------------------------- score


def test_wrong_pixels_are_counted_on_hidden_frames_only():
    data = images()
    hidden = random_gaps(data, 0.4)
    means = torch.where(data.values > 0, 0.9, 0.1)
    assert wrong_pixels(means, data.values, hidden) == 0.0
    assert wrong_pixels(1 - means, data.values, hidden) == 1.0
    seen_wrong = torch.where(hidden[..., None, None, None], means, 1 - means)
    assert wrong_pixels(seen_wrong, data.values, hidden) == 0.0
    series, time = hidden.nonzero()[0].tolist()
    means[series, time, 0, 1, 2] = 1 - means[series, time, 0, 1, 2]
    assert wrong_pixels(means, data.values, hidden) == pytest.approx(1 / (int(hidden.sum()) * 20), rel=1e-12)


def test_wrong_pixels_refuses_what_it_cannot_count():
    data = images()
    with pytest.raises(DataError, match="`hidden` must hide at least one frame"):
        wrong_pixels(data.values, data.values, torch.zeros(7, 20, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"`hidden` \(series, time\)"):
        wrong_pixels(data.values[:, :3], data.values, random_gaps(data, 1.0))
    with pytest.raises(DataError, match="`means` must be finite"):
        wrong_pixels(data.values * torch.nan, data.values, random_gaps(data, 1.0))


# ---------------------------------------------------------------- predictors


def test_last_seen_frame_of_each_series():
    data = images()
    hidden = random_gaps(data, 0.6)
    guess = last_seen(data.hide(hidden))
    for series in range(7):
        for time in range(20):
            source = max(t for t in range(time + 1) if not hidden[series, t])
            assert torch.equal(guess[series, time], data.values[series, source])


def test_nearest_training_series_is_that_of_the_metrics():
    train, data = images(30, seed=1), images()
    distances = step_distances(train, data)
    exact = (data.values[:, None] - train.values).square().flatten(3).sum(-1).movedim(2, 0)
    torch.testing.assert_close(distances, exact, rtol=0, atol=0)
    for hidden in (random_gaps(data, 0.5), consecutive_gaps(data, 15), random_gaps(data, 1.0)):
        assert torch.equal(nearest_training(train, distances, hidden), nearest_series(train, data.hide(hidden)))


def test_trivial_predictions_do_not_look_at_hidden_frames():
    train, data = images(30, seed=1), images()
    hidden = random_gaps(data, 0.5)
    distances = step_distances(train, data)
    other = Sequences(torch.where(hidden[..., None, None, None], 1 - data.values, data.values))
    first = trivial_predictions(train, data, hidden, distances)
    second = trivial_predictions(train, other, hidden, step_distances(train, other))
    assert len(first) == 3
    for name, guess in first.items():
        assert guess.shape == data.values.shape
        assert torch.equal(guess, second[name])
    assert torch.equal(first["mean image"][0, 0], train.values.double().mean((0, 1)).float())


def test_errors_name_the_argument():
    data = images()
    with pytest.raises(DataError, match="`probability` must lie between 0 and 1"):
        random_gaps(data, 1.1)
    with pytest.raises(DataError, match="`num_kept` = 4 seen frames and a gap of 17 must fit"):
        consecutive_gaps(data, 17)
    with pytest.raises(DataError, match="`given` must show the first frame"):
        last_seen(data.hide(torch.ones(7, 20, dtype=torch.bool)))
    with pytest.raises(ShapeError, match="`train` and `data` must have equal steps"):
        step_distances(data.first(5), data)
