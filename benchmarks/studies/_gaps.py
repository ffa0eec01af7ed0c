"""Imputation as the Kalman VAE's paper measures it: which frames are hidden, how pixels count, trivial predictors.

Fraccaro, Kamronn, Paquet, Winther (2017), section 5.1. A pattern is a tensor `hidden` (series, time), True where a
frame is hidden; ``data.hide(hidden)`` is what a method may see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics.baselines import training_mean

NUM_KEPT = 4  # frames at the start that are always seen
PROBABILITIES = tuple(tenth / 10 for tenth in range(1, 11))
LENGTHS = tuple(range(1, 16, 2))


def random_gaps(data: Sequences, probability: float, *, num_kept: int = NUM_KEPT, seed: int = 0) -> Tensor:
    """Hide each frame after the first `num_kept` by itself, with the same probability.

    At one seed the frames that are hidden with a lower probability are also hidden with a higher one.

    Raises:
        DataError: When `probability` is not one, or no frame is left to hide.
    """
    if not 0 <= probability <= 1:
        raise DataError(f"`probability` must lie between 0 and 1. Got {probability}.")
    _require_kept(data, num_kept, 0)
    numbers = torch.rand(data.num_series, data.num_steps, generator=torch.Generator().manual_seed(seed))
    return ((numbers < probability) & (torch.arange(data.num_steps) >= num_kept)).to(data.device)


def consecutive_gaps(data: Sequences, length: int, *, num_kept: int = NUM_KEPT) -> Tensor:
    """Hide `length` frames in a row after the first `num_kept`, the same in every series; the rest is seen.

    Raises:
        DataError: When the gap does not end within the series.
    """
    _require_kept(data, num_kept, length)
    steps = torch.arange(data.num_steps, device=data.device)
    return ((steps >= num_kept) & (steps < num_kept + length)).expand(data.num_series, -1).clone()


def wrong_pixels(means: Tensor, truth: Tensor, hidden: Tensor) -> float:
    r"""Fraction of pixels of hidden frames that a prediction, cut at one half, gets wrong.

    Args:
        means: Predicted probabilities of white (series, time, \*obs).
        truth: Pixels of the same shape, 0 or 1, or grey and then cut too.
        hidden: True where a frame was hidden, (series, time).

    Returns:
        A number from 0 to 1.

    Raises:
        ShapeError: When the shapes do not fit.
        DataError: When nothing is hidden, or a prediction is not a number.
    """
    if means.shape != truth.shape or hidden.shape != truth.shape[:2]:
        raise ShapeError(
            "`means` and `truth` must be (series, time, *obs) and `hidden` (series, time). "
            f"Got {tuple(means.shape)}, {tuple(truth.shape)} and {tuple(hidden.shape)}."
        )
    if not bool(hidden.any()):
        raise DataError("`hidden` must hide at least one frame. Got none.")
    if not bool(means[hidden].isfinite().all()):
        raise DataError("`means` must be finite at hidden frames. Some are not.")
    return float(((means[hidden] > 0.5) != (truth[hidden] > 0.5)).double().mean())


def last_seen(given: Sequences) -> Tensor:
    r"""Each frame, or the last one seen before it where it is hidden, (series, time, \*obs).

    Raises:
        DataError: When a series begins with a hidden frame.
    """
    if not bool(given.step_mask[:, :1].all()):
        raise DataError("`given` must show the first frame of every series. Some are hidden.")
    steps = torch.arange(given.num_steps, device=given.device)
    source = torch.where(given.step_mask, steps, 0).cummax(1).values
    return given.values[torch.arange(given.num_series, device=given.device)[:, None], source]


def step_distances(train: Sequences, data: Sequences) -> Tensor:
    """Squared distances (time, series, train) of every frame to the same frame of every training series.

    In single precision, which is exact for black and white images of up to 16 million pixels. They serve every pattern.

    Raises:
        ShapeError: When the two sets have frames of other shapes or numbers.
    """
    if train.values.shape[1:] != data.values.shape[1:]:
        raise ShapeError(
            f"`train` and `data` must have equal steps and frames. Got {tuple(train.values.shape[1:])} and "
            f"{tuple(data.values.shape[1:])}."
        )
    distances = []
    for time in range(data.num_steps):
        frames, others = (part.values[:, time].flatten(1).float() for part in (data, train))
        distances.append(frames.square().sum(1)[:, None] - 2 * frames @ others.mT + others.square().sum(1))
    return torch.stack(distances)


def nearest_training(train: Sequences, distances: Tensor, hidden: Tensor) -> Tensor:
    r"""The training series nearest on the frames that are not `hidden`, whole, (series, time, \*obs)."""
    total = torch.zeros_like(distances[0])
    for step, at_step in enumerate(distances):
        total += at_step * ~hidden[:, step, None]
    return train.values[total.argmin(1)]


def trivial_predictions(train: Sequences, data: Sequences, hidden: Tensor, distances: Tensor) -> dict[str, Tensor]:
    r"""Predictions that know no dynamics, (series, time, \*obs) by name; `distances` are those of `step_distances`."""
    return {
        "last seen frame": last_seen(data.hide(hidden)),
        "mean image": training_mean(train, data.seen()),
        "nearest training sequence": nearest_training(train, distances, hidden),
    }


def _require_kept(data: Sequences, num_kept: int, length: int) -> None:
    if not 0 <= num_kept <= num_kept + length <= data.num_steps or num_kept == data.num_steps:
        raise DataError(
            f"`num_kept` = {num_kept} seen frames and a gap of {length} must fit into the {data.num_steps} steps."
        )
