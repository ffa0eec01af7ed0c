"""``plot_scores``: scores of predicted videos against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_seq._style import SERIES, add_legend, as_numpy, new_figure, tidy
from pyro_seq.errors import DataError
from pyro_seq.predict.evaluate_video import VideoScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}
_CHOICES = ("best", "mean", "worst")


def plot_scores(scores: Sequence[VideoScores], *, which: str = "best", first_step: int = 0) -> Figure:
    """Mean score of the predicted frames at each step with its 95 % interval, one line per predictor.

    Args:
        scores: Results of `evaluate_video` and `evaluate_video_baselines`, all with the same metrics.
        which: ``"best"`` or ``"worst"`` for that sample of each series, ``"mean"`` for the mean over samples.
        first_step: Number of the first predicted frame, for the axis.

    Returns:
        The figure, a panel for each metric.

    Raises:
        DataError: When there are no scores, the metrics differ or `which` is unknown.

    Example:
        >>> figure = plot_scores([evaluate_video(posterior, test, Forecasting(5))], first_step=5)  # doctest: +SKIP
    """
    names = list(scores[0].metrics) if scores else []
    if not names or any(list(scored.metrics) != names for scored in scores) or which not in _CHOICES:
        raise DataError(
            f"`scores` must be scores by the same metrics, and `which` one of {_CHOICES}. "
            f"Got {[list(scored.metrics) for scored in scores]} and {which!r}."
        )
    figure = new_figure(4.2 * len(names), 3.0)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for number, scored in enumerate(scores):
            mean, half_width = (as_numpy(part) for part in scored.metrics[name].curve(which))
            steps, colour = first_step + np.arange(len(mean)), SERIES[number % len(SERIES)]
            axes.plot(steps, mean, color=colour, linewidth=1.4, label=scored.name)
            axes.fill_between(steps, mean - half_width, mean + half_width, color=colour, alpha=0.18, linewidth=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes, x="frame", y=_LABELS.get(name, name))
    add_legend(figure.axes[-1])
    return figure
