"""What no model can beat on noisy pictures of the pendulum: their log evidence, and forecasts by the true physics.

The torques are known and nothing else is random, so a series is a function of two numbers, its angle and velocity at
the start, and its evidence an integral over them, found here by importance sampling around the mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pyro_seq.data import Sequences
from pyro_seq.datasets.torque_pendulum import Pendulum, render, simulate

MAX_SPEED = 5.0  # of the start, in radians a second
_STEP = 1e-3  # of the finite differences; pictures have single precision
_WIDTH, _FREEDOM = 1.3, 6.0  # of Student's t that proposes starts

Frames = Callable[[np.ndarray], np.ndarray]


class Truth(NamedTuple):
    """What the true generator says of each series.

    Attributes:
        log_evidence: Of the seen frames, in nats, (series,).
        frames: Mean pictures at all steps given the seen ones, (series, time, 1, size, size).
        effective_draws: Effective number of draws of starts, (series,); a few are enough.
    """

    log_evidence: np.ndarray
    frames: np.ndarray
    effective_draws: np.ndarray


def truth(data: Sequences, noise: float, *, num_seen: int | None = None, num_draws: int = 100, seed: int = 0) -> Truth:
    """Evidence of the first `num_seen` frames under white noise of a known scale, and all frames as they predict them.

    Args:
        data: Pictures with noise (series, time, 1, size, size), torques, and the true ``context["state"]``.
        noise: Standard deviation of the noise of a pixel.
        num_seen: Number of frames that are seen; all when absent.
        num_draws: Number of starts drawn for each series.
        seed: Seed of the draws.
    """
    seen, torque = data.values[:, :num_seen].double().numpy(), data.inputs[..., 0].double().numpy()
    constant = seen[0].size * math.log(noise * math.sqrt(2 * math.pi)) + math.log(4 * math.pi * MAX_SPEED)

    def frames(starts: np.ndarray) -> np.ndarray:
        return render(simulate(Pendulum(), starts, torque)[..., 0], seen.shape[-1])

    mode, factor = _laplace(data.context["state"][:, 0].double().numpy(), frames, seen, noise)
    rng, mean = np.random.default_rng(seed), 0.0
    total, total_of_squares = np.full((2, len(seen)), -np.inf)
    for _ in range(num_draws):
        unit = rng.standard_normal(mode.shape) / np.sqrt(rng.chisquare(_FREEDOM, (len(mode), 1)) / _FREEDOM)
        starts = mode + (factor @ unit[..., None])[..., 0]
        pictures = frames(starts)
        errors = np.square(pictures[:, :num_seen] - seen).sum((1, 2, 3, 4))
        weight = -errors / (2 * noise**2) - constant - _log_proposal(unit, factor)
        weight[np.abs(starts[:, 1]) > MAX_SPEED] = -np.inf
        total, total_of_squares = np.logaddexp(total, weight), np.logaddexp(total_of_squares, 2 * weight)
        share = np.exp(weight - np.maximum(total, -1e300))[:, None, None, None, None]
        mean = mean + share * (pictures - mean)
    return Truth(total - math.log(num_draws), mean, np.exp(2 * total - total_of_squares))


def _laplace(start: np.ndarray, frames: Frames, seen: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Mode of the likelihood by Gauss and Newton from the true start, and a factor of its widened covariance."""
    for _ in range(4):
        slopes = [frames(start + _STEP * axis) - frames(start - _STEP * axis) for axis in np.eye(2)]
        jacobian = np.stack(slopes, -1)[:, : seen.shape[1]].astype(float).reshape(len(seen), -1, 2) / (2 * _STEP)
        residual = (seen - frames(start)[:, : seen.shape[1]]).reshape(len(seen), -1, 1)
        information = np.swapaxes(jacobian, 1, 2) @ jacobian
        start = start + np.linalg.solve(information, np.swapaxes(jacobian, 1, 2) @ residual)[..., 0]
    return start, _WIDTH * noise * np.linalg.cholesky(np.linalg.inv(information))


def _log_proposal(unit: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Log density of Student's t in two dimensions."""
    constant = math.log(2 * math.pi) + np.log(np.linalg.det(factor))  # Gamma(n/2 + 1) / Gamma(n/2) = n/2
    return -constant - (_FREEDOM / 2 + 1) * np.log1p(np.square(unit).sum(-1) / _FREEDOM)
