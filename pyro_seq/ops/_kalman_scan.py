"""The recursions of the Kalman filter and smoother as associative scans, in a number of rounds that is log2(time)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_seq.ops._kalman_steps import Affine, update
from pyro_seq.ops._kalman_system import System

Elements = tuple[Tensor, ...]
Combine = Callable[[Elements, Elements], Elements]


def associative_scan(combine: Combine, elements: Elements) -> Elements:
    """All prefixes x_1, x_1 * x_2, ... of an associative operation, along the third axis from the right.

    Neighbours are combined in pairs, the half as long sequence is scanned, and the prefixes that end between pairs
    are filled in: 2 log2(time) calls of `combine`, 2 time combinations in all.
    """
    num_steps = elements[0].shape[-3]
    if num_steps == 1:
        return elements
    pairs = combine(_every_second(elements, 0, num_steps - 1), _every_second(elements, 1, num_steps))
    odd = associative_scan(combine, pairs)
    first = _every_second(elements, 0, 1)
    if num_steps == 2:
        return tuple(torch.cat(both, -3) for both in zip(_match(first, odd), odd, strict=True))
    before = tuple(prefix[..., : (num_steps - 1) // 2, :, :] for prefix in odd)
    even = combine(before, _every_second(elements, 2, num_steps))
    even = tuple(torch.cat(both, -3) for both in zip(_match(first, even), even, strict=True))
    return tuple(_interleave(*both) for both in zip(even, odd, strict=True))


def _every_second(elements: Elements, start: int, stop: int) -> Elements:
    return tuple(element[..., start:stop:2, :, :] for element in elements)


def _match(elements: Elements, like: Elements) -> Elements:
    """Expand the leading axes: a combination has those of all that went into it."""
    return tuple(
        element.expand(*other.shape[:-3], *element.shape[-3:]) for element, other in zip(elements, like, strict=True)
    )


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    shared = odd.shape[-3]
    mixed = torch.stack([even[..., :shared, :, :], odd], -3).flatten(-4, -3)
    return mixed if even.shape[-3] == shared else torch.cat([mixed, even[..., shared:, :, :]], -3)


def backward_by_scan(moves: Affine) -> tuple[Tensor, Tensor | None]:
    """Means and covariances of all states when each move leads from its successor; the last one has gain 0."""

    def combine(later: Elements, earlier: Elements) -> Elements:
        gain = earlier[0]
        composed = (gain @ later[0], gain @ later[1] + earlier[1])
        if moves.cov is None:
            return composed
        return (*composed, gain @ later[2] @ gain.mT + earlier[2])

    elements = tuple(element.flip(-3) for element in moves if element is not None)
    scanned = [element.flip(-3) for element in associative_scan(combine, elements)]
    return scanned[1], None if moves.cov is None else scanned[2]


def filter_by_scan(system: System) -> tuple[Tensor, Tensor]:
    r"""Filtered means and covariances of all steps.

    Element t is the pair :math:`p(z_t | a_t, z_{t-1}) = N(A z_{t-1} + b, C)` and
    :math:`p(a_t | z_{t-1}) \propto N^{-1}(z_{t-1}; \eta, J)`; pairs of neighbours combine into pairs of longer spans.
    Needs :math:`C_t Q_t C_t^T + R_t` positive definite, where the sequential filter only needs it of the innovations.
    """
    later = _later_elements(system)
    first = _first_element(system, later)
    elements = tuple(torch.cat(both, -3) for both in zip(_match(first, later), later, strict=True))
    _, mean, cov, _, _ = associative_scan(_combine_filters, elements)
    return mean, (cov + cov.mT) / 2


def _later_elements(system: System) -> Elements:
    transition, noise = system.after_first("transition"), system.after_first("transition_cov")
    observation, observation_cov = system.observation, system.observation_cov
    if observation.shape[-3] > 1:
        observation = observation[..., 1:, :, :]
    if observation_cov.shape[-3] > 1:
        observation_cov = observation_cov[..., 1:, :, :]
    values = system.values[..., 1:, :, :]
    offset = transition.new_zeros(transition.shape[-1], 1)
    if system.offset is not None:
        offset = system.after_first("offset")
    shift, cov, rest, factor = update(offset, noise, observation, observation_cov, values)
    seen = observation @ transition
    weighted = torch.cholesky_solve(seen, factor).mT
    information = weighted @ (values - observation @ offset)
    matrices = (rest @ transition, cov, weighted @ seen)
    steps = system.num_steps - 1
    batch = torch.broadcast_shapes(*(matrix.shape[:-3] for matrix in matrices), system.initial_cov.shape[:-2])
    gain, cov, precision = (matrix.expand(*batch, steps, *matrix.shape[-2:]) for matrix in matrices)
    shift, information = (
        vector.expand(*system.batch_shape, steps, *vector.shape[-2:]) for vector in (shift, information)
    )
    return gain, shift, cov, information, precision


def _first_element(system: System, later: Elements) -> Elements:
    mean, cov, _, _ = update(
        system.initial_mean,
        system.initial_cov,
        system.observation[..., 0, :, :],
        system.observation_cov[..., 0, :, :],
        system.values[..., 0, :, :],
    )
    gain, _, _, information, precision = (torch.zeros_like(element[..., :1, :, :]) for element in later)
    return gain, mean[..., None, :, :], cov[..., None, :, :], information, precision


def _combine_filters(left: Elements, right: Elements) -> Elements:
    gain_1, shift_1, cov_1, information_1, precision_1 = left
    gain_2, shift_2, cov_2, information_2, precision_2 = right
    mixed = torch.eye(cov_1.shape[-1], dtype=cov_1.dtype, device=cov_1.device) + cov_1 @ precision_2
    carry = torch.linalg.solve(mixed, gain_2, left=False)
    back = torch.linalg.solve(mixed, gain_1).mT
    cov = carry @ cov_1 @ gain_2.mT + cov_2
    precision = back @ precision_2 @ gain_1 + precision_1
    return (
        carry @ gain_1,
        carry @ (shift_1 + cov_1 @ information_2) + shift_2,
        (cov + cov.mT) / 2,
        back @ (information_2 - precision_2 @ shift_1) + information_1,
        (precision + precision.mT) / 2,
    )
