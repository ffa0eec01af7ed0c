"""Rows of images over time, for all plots of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pyro_seq._style import as_numpy
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import psnr
from pyro_seq.posterior import Prediction


def frame_rows(
    prediction: Prediction, data: Sequences | None = None, *, series: int = 0, num_samples: int = 3
) -> dict[str, Any]:
    r"""Rows for `plot_sequences` and `save_gif`: truth, mean, samples and the spread of the mean.

    Args:
        prediction: Prediction of image sequences.
        data: The truth on the same steps, if known; hidden entries are left blank.
        series: Which series.
        num_samples: Number of sample rows. Each shows the mean of the emission for one latent draw, without pixel
            noise.

    Returns:
        Frames (time, \*image) by name: ``truth``, ``mean``, ``sample 1``, ..., ``spread`` (one standard deviation over
        draws of the latents).

    Raises:
        ShapeError: When `data` have other frames than the prediction.
    """
    means = prediction.emission_means[:, series]
    rows: dict[str, Any] = {}
    if data is not None:
        truth = data.values[series].masked_fill(~data.entry_mask[series], float("nan"))
        if truth.shape != means.shape[1:]:
            raise ShapeError(
                f"`data` must hold the predicted steps, (time, *obs) {tuple(means.shape[1:])}. "
                f"Got {tuple(truth.shape)}. Cut its steps with `take_steps`."
            )
        rows["truth"] = truth
    rows["mean"] = means.mean(0)
    rows |= {f"sample {i + 1}": means[i] for i in range(min(num_samples, len(means)))}
    if len(means) > 1:
        rows["spread"] = means.std(0)
    return rows


def sample_rows(
    prediction: Prediction,
    data: Sequences,
    *,
    series: int = 0,
    score: Callable[..., Tensor] = psnr,
    num_random: int = 2,
) -> dict[str, Any]:
    r"""Rows for `plot_sequences` and `save_gif`: truth, the best and the worst sample, and some at random.

    Args:
        prediction: Prediction of image sequences; shown is the mean of the emission per draw, without pixel noise.
        data: The truth on the same steps.
        series: Which series.
        score: Score that selects the best (larger is better), called as ``score(frames, truth, keep=0)`` with a leading
            axis of samples.
        num_random: Number of further samples; the first ones are taken, since samples are in random order.

    Returns:
        Frames (time, \*image) by name: ``truth``, ``best``, ``worst``, ``random 1``, ...

    Raises:
        ShapeError: When `data` have other frames than the prediction.

    Example:
        >>> figure = plot_sequences(sample_rows(prediction, truth))  # doctest: +SKIP
    """
    truth = frame_rows(prediction, data, series=series, num_samples=0)["truth"]
    means = prediction.emission_means[:, series].clamp(0, 1)
    values = score(means, data.values[series].to(means).expand_as(means), keep=0)
    rows = {"truth": truth, "best": means[int(values.argmax())], "worst": means[int(values.argmin())]}
    return rows | {f"random {number + 1}": frames for number, frames in enumerate(means[:num_random])}


def as_rows(frames: Any) -> dict[str, np.ndarray]:
    """Frames as images (time, height, width) or (time, height, width, 3) by row name."""
    rows = frames if isinstance(frames, Mapping) else {"": frames}
    if not rows:
        raise DataError("`frames` must hold at least one row. Got none.")
    return {str(name): _images(name, as_numpy(values)) for name, values in rows.items()}


def _images(name: Any, values: np.ndarray) -> np.ndarray:
    if values.ndim == 4 and values.shape[1] in (1, 3):
        values = values[:, 0] if values.shape[1] == 1 else np.moveaxis(values, 1, -1)
    if values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[-1] != 3) or not values.size:
        raise ShapeError(
            f"`frames` must be (time, height, width), or (time, channel, height, width) with 1 or 3 channels. "
            f"Got {values.shape} for row {name!r}. Select one series first."
        )
    return values.astype(np.float32)


def value_range(
    rows: Mapping[str, np.ndarray], names: list[str], given: tuple[float, float] | None
) -> tuple[float, float]:
    """Values shown black and white: [0, 1] if the numbers lie in it, otherwise their range."""
    if given is not None:
        if not given[0] < given[1]:
            raise DataError(f"`limits` must be (low, high). Got {given}.")
        return given
    low = min(float(np.nanmin(rows[name])) if np.isfinite(rows[name]).any() else 0.0 for name in names)
    high = max(float(np.nanmax(rows[name])) if np.isfinite(rows[name]).any() else 1.0 for name in names)
    return (0.0, 1.0) if low >= 0.0 and high <= 1.0 else (low, high)
