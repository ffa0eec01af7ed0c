"""Frames at even times from a file whose pictures stand for different times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def even_frames(durations: Sequence[float]) -> tuple[int, ...]:
    """The number of the picture that stands at each frame, when picture k stands for ``durations[k]``.

    A frame lasts as long as the shortest pictures: the mean over those below one and a half times the tenth percentile,
    so that neither clocks that round nor a stray short picture change it. Every picture gives one frame at least, and
    one that stands for n frames gives n. A duration of 0 is unknown, and gives one frame.
    """
    stands = np.asarray(durations, dtype=np.float64)
    known = stands[stands > 0]
    if not known.size:
        return tuple(range(len(stands)))
    frame = known[known < 1.5 * np.quantile(known, 0.1, method="lower")].mean()
    counts = np.maximum(1, np.round(stands / frame)).astype(np.int64)
    return tuple(np.repeat(np.arange(len(stands)), counts).tolist())
