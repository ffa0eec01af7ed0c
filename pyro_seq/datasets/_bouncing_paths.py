"""Points that move straight in a square and meet its walls: a path is a function of time, whatever the frame rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SIMULTANEOUS = 1e-8  # hits of two walls closer in time than this are one hit of a corner


def follow(
    start: np.ndarray,
    velocity: np.ndarray,
    limit: float | np.ndarray,
    times: np.ndarray,
    redraw: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Positions at `times`, (path, time, 2), between walls at 0 and `limit`.

    A path is found from one wall to the next, not from one time to the next, so that its positions at a time have the
    same bits for every set of times that ends at the same one or later. Cost: one round for every hit of a path.

    Args:
        start: Positions at time 0, inside the square, (path, 2).
        velocity: Velocities at time 0, (path, 2).
        limit: Where the upper walls are, one number or one for each axis.
        times: Increasing, from 0 on, (time,).
        redraw: Gives the velocities (path, 2) of all paths after their hit number 0, 1, 2, ..., before those normal to
            the wall that was hit are turned inwards. Paths are reflected by default.
    """
    place, velocity = start.astype(np.float64), velocity.astype(np.float64)
    since = np.zeros(len(start))
    positions = np.empty((len(start), len(times), 2))
    open_paths = np.arange(len(start))
    hit = -1
    while True:
        hit += 1
        elapsed = times - since[open_paths, None]
        piece = place[open_paths, None] + velocity[open_paths, None] * elapsed[..., None]
        positions[open_paths] = np.where(elapsed[..., None] >= 0, piece, positions[open_paths])
        wall = np.where(velocity > 0, limit, 0.0)
        wait = np.divide(wall - place, velocity, out=np.full_like(place, np.inf), where=velocity != 0)
        first = wait.min(-1)
        open_paths = open_paths[(since + first)[open_paths] <= times[-1]]
        if not len(open_paths):
            return positions.clip(0.0, limit)
        is_hit = wait <= first[:, None] + _SIMULTANEOUS
        with np.errstate(invalid="ignore"):  # paths that are done may wait for ever, at no speed
            place = np.where(is_hit, wall, (place + velocity * first[:, None]).clip(0.0, limit))
        since = since + first
        inwards = np.where(wall > 0, -1.0, 1.0)
        after = velocity if redraw is None else redraw(hit).astype(np.float64)
        velocity = np.where(is_hit, inwards * np.abs(after), after)
