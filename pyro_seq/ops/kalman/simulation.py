"""Draws from a linear Gaussian state-space model, without conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import ShapeError, UnsupportedError
from pyro_seq.ops.kalman._algebra import append
from pyro_seq.ops.kalman._choice import choose_parallel
from pyro_seq.ops.kalman._recursion import square_root
from pyro_seq.ops.kalman._smoother import affine_path
from pyro_seq.ops.kalman.system import LinearGaussianParameters, prepare
from pyro_seq.ops.precision import full_precision

__all__ = ["Simulation", "simulate"]


class Simulation(NamedTuple):
    """Joint draws.

    Attributes:
        states: ``(*sample, *batch, time, state)``.
        values: Observations of them, ``(*sample, *batch, time, obs)``.
    """

    states: Tensor
    values: Tensor


@full_precision
def simulate(
    parameters: LinearGaussianParameters,
    num_steps: int,
    *,
    sample_shape: Sequence[int] = (),
    batch_shape: Sequence[int] = (),
    generator: torch.Generator | None = None,
    is_parallel: bool | None = None,
) -> Simulation:
    """Draw paths of the state and their observations. Reparameterised; covariances may be singular.

    Args:
        parameters: The model; its time axes are as long as the draw, or 1.
        num_steps: Length of the draw.
        sample_shape: Leading axes for repeated draws.
        batch_shape: Broadcast with the leading axes of the parameters.
        generator: Source of randomness, on the device of the parameters; None uses torch's global one.
        is_parallel: Whether to run in parallel over time; None decides by the sizes.

    Returns:
        States and observations.

    Raises:
        ShapeError: If shapes do not fit or `num_steps` is not positive.
        DataError: If dtypes or devices differ.
        UnsupportedError: If a state has an unknown (diffuse) start.

    Example:
        >>> one = torch.ones(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> simulate(walk, 6, sample_shape=(3,)).values.shape
        torch.Size([3, 6, 1])
    """
    if num_steps < 1:
        raise ShapeError(f"`num_steps` must be at least 1. Got {num_steps}.")
    if parameters.diffuse is not None:
        raise UnsupportedError(
            "A path with a diffuse start cannot be drawn before anything is observed. Got `diffuse` in the parameters. "
            "Give every state a known start, or draw given observations: `sample_posterior`, or `future` and "
            "`replicate` of a `LinearGaussian`."
        )
    like = parameters.initial_mean
    num_obs = parameters.observation.shape[-2] if parameters.observation.ndim > 1 else 0
    system = prepare(like.new_zeros(*batch_shape, num_steps, num_obs), parameters, None)

    def normal(size: int) -> Tensor:
        shape = (*sample_shape, *system.batch_shape, num_steps, size, 1)
        return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)

    noise = normal(like.shape[-1])
    first = system.initial_mean + square_root(system.initial_cov) @ noise[..., 0, :, :]
    later = square_root(system.after_first("transition_cov")) @ noise[..., 1:, :, :]
    if system.offset is not None:
        later = later + system.after_first("offset")
    transition = system.after_first("transition")
    gain = transition.expand(*transition.shape[:-3], num_steps - 1, -1, -1)
    shift = append(first[..., None, :, :], later)
    states = affine_path(gain, shift, choose_parallel(is_parallel, system))
    values = system.observation @ states + square_root(system.observation_cov) @ normal(num_obs)
    return Simulation(states.squeeze(-1), values.squeeze(-1))
