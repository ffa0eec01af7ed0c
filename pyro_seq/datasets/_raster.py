"""Black and white drawing of balls, walls and paddles, many frames at once.

Every pixel is what the drawing library of the public data sets sets, where anything above zero counts as white.
Coordinates have x to the right and y up; row 0 of an image is y equal to its size.
"""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-9


def draw_balls(frames: np.ndarray, centres: np.ndarray, radius: int) -> None:
    """Set a disc around centres (frame, 2) in frames (frame, size, size), cut at the edges.

    Coordinates are cut to whole numbers. The disc is an octagon of 2 r (r + 1) pixels; one more pixel, right of it, is
    the end of the line by which the engine shows the ball's angle, which never changes without friction.
    """
    span = np.arange(-radius, radius)
    rows, columns = np.nonzero(np.abs(span + 0.5)[:, None] + np.abs(span + 0.5) <= radius)
    x, y = np.trunc(centres).astype(int).T
    for row, column in [*zip(span[rows], span[columns], strict=True), (0, radius)]:
        _set(frames, np.arange(len(frames)), frames.shape[1] - y + row, x + column)


def draw_bars(frames: np.ndarray, x: float, heights: np.ndarray, half_length: int) -> None:
    """Set upright bars, two pixels wide, around x and heights (frame,)."""
    rows = frames.shape[1] - np.trunc(heights).astype(int)
    for column in (int(x), int(x) + 1):
        for offset in range(-half_length, half_length + 1):
            _set(frames, np.arange(len(frames)), rows + offset, np.full_like(rows, column))


def lines(segments: np.ndarray, size: int) -> np.ndarray:
    """One image (size, size) of segments (segment, 2, 2), smooth lines: the one or two pixels nearest to each point."""
    image = np.zeros((1, size, size), dtype=bool)
    for ends in np.trunc(segments).astype(int):
        start, end = ends * (1, -1) + (0, size)  # columns and rows
        length = int(np.abs(end - start).max())
        is_steep = abs(end[1] - start[1]) > abs(end[0] - start[0])
        points = start + (end - start) * (np.arange(length + 1) / max(length, 1))[:, None]
        major, minor = points.T[::-1] if is_steep else points.T
        for side in (np.floor(minor + _ROUNDING), np.ceil(minor - _ROUNDING)):
            row, column = (major, side) if is_steep else (side, major)
            _set(image, np.zeros(length + 1, dtype=int), np.rint(row).astype(int), np.rint(column).astype(int))
    return image[0]


def _set(frames: np.ndarray, which: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Set pixels, each in the frame that `which` says; those outside are left out."""
    inside = (rows >= 0) & (rows < frames.shape[1]) & (columns >= 0) & (columns < frames.shape[2])
    frames[which[inside], rows[inside], columns[inside]] = 1
