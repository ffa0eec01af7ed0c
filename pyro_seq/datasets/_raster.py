"""Black and white drawing of balls, walls and paddles, many frames at once.

Every pixel is as set by the drawing library of the public data sets, where any value above zero counts as white.
Coordinates have x to the right and y up; row 0 of an image is y equal to its size.
"""

from __future__ import annotations

import numpy as np


def draw_balls(frames: np.ndarray, centres: np.ndarray, radius: int) -> None:
    """Draw a disc around centres (frame, 2) in frames (frame, size, size), clipped at the edges.

    Coordinates are truncated to whole numbers. The disc is an octagon of 2 r (r + 1) pixels; one more pixel, right of
    it, is the end of the line by which the engine shows the ball's angle, which never changes without friction.
    """
    span = np.arange(-radius, radius)
    rows, columns = np.nonzero(np.abs(span + 0.5)[:, None] + np.abs(span + 0.5) <= radius)
    x, y = np.trunc(centres).astype(int).T
    for row, column in [*zip(span[rows], span[columns], strict=True), (0, radius)]:
        _set(frames, np.arange(len(frames)), frames.shape[1] - y + row, x + column)


def draw_bars(frames: np.ndarray, x: float, heights: np.ndarray, half_length: int) -> None:
    """Draw vertical bars, two pixels wide, around x and heights (frame,)."""
    rows = frames.shape[1] - np.trunc(heights).astype(int)
    for column in (int(x), int(x) + 1):
        for offset in range(-half_length, half_length + 1):
            _set(frames, np.arange(len(frames)), rows + offset, np.full_like(rows, column))


def lines(segments: np.ndarray, size: int) -> np.ndarray:
    """One image (size, size) of segments (segment, 2, 2), one pixel wide, without smoothing."""
    image = np.zeros((1, size, size), dtype=bool)
    for start, end in np.trunc(segments).astype(int) * (1, -1) + (0, size):  # columns and rows
        across, along = np.sort(np.abs(end - start))  # the line has one pixel for each step of the longer side
        steps = np.arange(along + 1)
        shifts = -((along // 2 - steps * across) // max(along, 1))
        is_steep = abs(end[1] - start[1]) > abs(end[0] - start[0])
        moves = np.stack((shifts, steps) if is_steep else (steps, shifts), axis=-1)
        columns, rows = (start + np.sign(end - start) * moves).T
        _set(image, np.zeros_like(rows), rows, columns)
    return image[0]


def _set(frames: np.ndarray, which: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Set pixels, each in the frame given by `which`; pixels outside are ignored."""
    inside = (rows >= 0) & (rows < frames.shape[1]) & (columns >= 0) & (columns < frames.shape[2])
    frames[which[inside], rows[inside], columns[inside]] = 1
