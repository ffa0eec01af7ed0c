"""Rows of frames of a prediction: the truth, the mean, the best and the worst sample."""

from __future__ import annotations

import pytest
import torch

from pyro_seq import diagnostics
from pyro_seq.data import Sequences
from pyro_seq.diagnostics import (
    frame_rows,
    plot_sequences,
)
from pyro_seq.errors import ShapeError
from pyro_seq.metrics import ssim
from pyro_seq.posterior import Prediction
from pyro_seq.predict.verbs import reconstruct
from tests.diagnostics.plots.figures import drawn


def test_rows_of_a_prediction(make_posterior, make_data):
    data = make_data(3, 6, (1, 8, 8))
    data = data.hide(torch.arange(6).expand(3, 6) == 2)
    prediction = reconstruct(make_posterior((1, 8, 8)), data, num_samples=5)
    rows = frame_rows(prediction, data, series=1, num_samples=2)
    assert list(rows) == ["truth", "mean", "sample 1", "sample 2", "spread"]
    torch.testing.assert_close(rows["mean"], prediction.mean[1])
    torch.testing.assert_close(rows["spread"], prediction.emission_means[:, 1].std(0))
    assert rows["truth"][2].isnan().all() and torch.equal(rows["truth"][1], data.values[1, 1])
    assert len(drawn(plot_sequences(rows)).axes) == 5 * 6 + 1
    with pytest.raises(ShapeError, match="take_steps"):
        frame_rows(prediction, data.first(4))


def test_rows_are_the_best_and_the_worst_sample() -> None:
    source = torch.Generator().manual_seed(0)
    truth = Sequences(torch.rand(2, 4, 1, 12, 12, generator=source))
    noise = torch.randn(5, 2, 4, 1, 12, 12, generator=source)
    spread = torch.tensor([0.3, 0.1, 0.5, 0.02, 0.4])
    means = truth.values + spread[:, None, None, None, None, None] * noise
    prediction = Prediction(means, means, {}, truth.times)
    for score in ({}, {"score": ssim}):
        rows = diagnostics.sample_rows(prediction, truth, series=1, **score)
        assert list(rows) == ["truth", "best", "worst", "random 1", "random 2"]
        assert rows["best"].equal(means[3, 1].clamp(0, 1)) and rows["worst"].equal(means[2, 1].clamp(0, 1))
        assert rows["random 2"].equal(means[1, 1].clamp(0, 1))
    diagnostics.plot_sequences(rows, num_observed=1)


def test_rows_need_the_truth_of_the_same_steps() -> None:
    means = torch.rand(2, 1, 4, 1, 12, 12)
    with pytest.raises(ShapeError, match="must hold the predicted steps"):
        diagnostics.sample_rows(Prediction(means, means, {}, torch.arange(4.0)), Sequences(torch.rand(1, 5, 1, 12, 12)))
