"""Points that move straight in a square and bounce off its walls; paths do not depend on the frame rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SIMULTANEOUS = 1e-8  # hits of two walls closer in time than this count as one hit of a corner


def follow(
    start: np.ndarray,
    velocity: np.ndarray,
    limit: float | np.ndarray,
    times: np.ndarray,
    redraw: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Positions at `times`, (path, time, 2), between walls at 0 and `limit`.

    A path is computed from wall to wall, not from time to time, so that the position at a given time has the same bits
    for every set of times that ends there or later. Cost: one round per hit of a path.

    Args:
        start: Positions at time 0, inside the square, (path, 2).
        velocity: Velocities at time 0, (path, 2).
        limit: Position of the upper walls, one number or one per axis.
        times: Increasing, from 0 on, (time,).
        redraw: Returns the velocities (path, 2) of all paths after their hit number 0, 1, 2, ...; afterwards the
            component normal to the wall is turned inwards. By default paths are reflected.
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
        with np.errstate(invalid="ignore"):  # finished paths may have speed 0 and never hit a wall
            place = np.where(is_hit, wall, (place + velocity * first[:, None]).clip(0.0, limit))
        since = since + first
        inwards = np.where(wall > 0, -1.0, 1.0)
        after = velocity if redraw is None else redraw(hit).astype(np.float64)
        velocity = np.where(is_hit, inwards * np.abs(after), after)
