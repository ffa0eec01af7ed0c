"""Frames at even times from a file whose pictures have different durations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def even_frames(durations: Sequence[float]) -> tuple[int, ...]:
    """The number of the picture shown at each frame, if picture k is shown for ``durations[k]``.

    A frame lasts as long as the shortest pictures: the mean over durations below 1.5 times the tenth percentile, so
    that neither rounded clocks nor a single short picture change it. Every picture gives at least one frame, and one
    shown for n frame durations gives n. A duration of 0 means unknown and gives one frame.
    """
    stands = np.asarray(durations, dtype=np.float64)
    known = stands[stands > 0]
    if not known.size:
        return tuple(range(len(stands)))
    frame = known[known < 1.5 * np.quantile(known, 0.1, method="lower")].mean()
    counts = np.maximum(1, np.round(stands / frame)).astype(np.int64)
    return tuple(np.repeat(np.arange(len(stands)), counts).tolist())
