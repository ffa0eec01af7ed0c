"""Scores against time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq import VideoScores, diagnostics
from pyro_seq.errors import DataError
from pyro_seq.metrics import BestOf
from pyro_seq.metrics.frechet import FrechetScore


def some_scores(name: str = "model", metric: str = "psnr") -> VideoScores:
    collector = BestOf(is_larger_better=True)
    collector.add(20 + torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(0)))
    return VideoScores(name, {metric: collector.result()}, FrechetScore(float("nan"), "skipped: no weights", 8, 6))


@pytest.mark.parametrize("which", ["best", "mean", "worst"])
def test_lines_are_the_means_and_bands_their_intervals(which: str) -> None:
    scores = some_scores()
    (axes,) = diagnostics.plot_scores([scores], which=which, first_step=5).axes
    mean, half_width = scores.metrics["psnr"].curve(which)
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xdata(), np.arange(5, 11))
    np.testing.assert_allclose(line.get_ydata(), mean)
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices[:, 1]
    assert corners.max() == pytest.approx(float((mean + half_width).max()), rel=1e-6)
    assert corners.min() == pytest.approx(float((mean - half_width).min()), rel=1e-6)


def test_every_predictor_is_named() -> None:
    figure = diagnostics.plot_scores([some_scores("SRVP"), some_scores("last frame")])
    assert [text.get_text() for text in figure.axes[-1].get_legend().texts] == ["SRVP", "last frame"]
    assert figure.axes[0].get_ylabel() == "PSNR (dB)"


def test_scores_that_do_not_fit_are_refused() -> None:
    for scores, which in (
        ([], "best"),
        ([some_scores(), some_scores(metric="ssim")], "best"),
        ([some_scores()], "top"),
    ):
        with pytest.raises(DataError, match="`which` one of"):
            diagnostics.plot_scores(scores, which=which)
