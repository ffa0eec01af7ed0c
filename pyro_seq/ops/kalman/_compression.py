r"""Many observations with independent noise, compressed to the number of states: docs/derivations.md, (F12) to (F14).

The information of a step's observations about the state has the dimension of the state. The filter runs on these
numbers; its adjoint is mapped back to the whole observation by products with thin matrices.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops.kalman._algebra import identity, product, sum_to, symmetric, to_first, to_last, transpose
from pyro_seq.ops.kalman._filter import Front, Observed, States


class Compressed(NamedTuple):
    """A system with the same information on its state as the whole one, axes of matrices in front.

    Attributes:
        system: System with as many observations as states, and unit noise.
        basis: E, (obs, state, time, *batch); 0 in the rows of hidden entries.
        precision: Precision of the noise of each observation, (obs, 1, time, *batch); 0 where hidden.
        log_density: Contribution of the rest of the observations, (time, *batch), without its constant.
    """

    system: Front
    basis: Tensor
    precision: Tensor
    log_density: Tensor


def compress(whole: Front, seen: Tensor | None) -> Compressed:
    """(F12) and (F13); `seen` is 1 at observed entries, (obs, 1, time, *batch), or None if all are observed."""
    precision = 1 / torch.diagonal(whole.observation_cov).movedim(-1, 0)[:, None]
    log_det = -precision.log()
    if seen is not None:
        precision, log_det = seen * precision, seen * log_det
    root = precision.sqrt()
    directions = to_first(torch.linalg.qr(to_last(root * whole.observation))[0])
    basis = root * directions
    observation, values = product(transpose(basis), whole.observation), product(transpose(basis), whole.values)
    # the part that no state explains; a difference of squares would lose precision
    rest = root * whole.values - product(directions, values)
    log_density = -0.5 * (rest.square() + log_det).sum((0, 1))
    system = whole._replace(observation=observation, observation_cov=identity(observation), values=values)
    return Compressed(system, basis, precision, log_density)


class Pulls(NamedTuple):
    """Gradients of the observation's quantities, each a sum of parts still to be summed over expanded axes."""

    observation: tuple[Tensor, ...]
    observation_cov: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def masked(self, seen: Tensor) -> Pulls:
        """The gradients of a system to which `hide` was applied."""
        return Pulls(
            tuple(seen * part for part in self.observation),
            tuple(seen * part * transpose(seen) for part in self.observation_cov),
            self.values,
        )


def hide(whole: Front, seen: Tensor) -> Front:
    """Replace hidden entries by entries without information; matrices are expanded as needed."""
    noise = seen * whole.observation_cov * transpose(seen) + identity(whole.observation_cov) * (1 - seen)
    return whole._replace(observation=seen * whole.observation, observation_cov=noise)


def expand_gradients(
    whole: Front, small: Compressed, seen: Observed, states: States, adjoint: Tensor, spread: Tensor, density: Tensor
) -> Pulls:
    """(F11) for the whole observation, from adjoints of the compressed filter, by (F14)."""
    means, covs, predicted_means, predicted = states
    missed = small.system.values - product(small.system.observation, predicted_means)
    force = product(seen.precision, missed)
    innovation = whole.values - product(whole.observation, predicted_means)
    white = small.precision * innovation - product(small.basis, missed - force)  # (F14)
    gain = product(small.basis, transpose(seen.gain))
    pull, pushed = product(gain, adjoint), product(gain, spread)
    state_force = product(transpose(small.system.observation), force)
    observation = (
        white * transpose(product(covs, adjoint) + density * (predicted_means + product(predicted, state_force))),
        -pull * transpose(means),
        -density * gain,
        -2 * product(pushed, covs),
    )
    unexplained = identity(seen.precision) - seen.precision
    factors = (
        (pushed, gain),
        (0.5 * density * white - pull, white),
        (0.5 * density * product(small.basis, unexplained), small.basis),
    )
    shape = whole.observation_cov.shape
    noise = torch.stack([_summed(*pair, shape) for pair in factors]).sum(0)
    each, _ = torch.broadcast_tensors(0.5 * density * small.precision, white)
    noise = symmetric(noise) - identity(noise) * sum_to(each, torch.Size((shape[0], 1, *shape[2:])))
    return Pulls(observation, (noise,), (pull - density * white,))


def _summed(left: Tensor, right: Tensor, shape: torch.Size) -> Tensor:
    """The product with a transpose, summed over the axes along which a matrix of that shape was expanded."""
    batch = torch.broadcast_shapes(left.shape[2:], right.shape[2:])
    axes = string.ascii_lowercase[: len(batch)]
    kept = "".join(axis for axis, size in zip(axes, shape[2:], strict=True) if size > 1)
    parts = (part.expand(*part.shape[:2], *batch) for part in (left, right))
    total = torch.einsum(f"XZ{axes},YZ{axes}->XY{kept}", *parts)
    return total.reshape(shape)
