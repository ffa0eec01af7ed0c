"""Recursions along time, step by step or by cyclic reduction in log2(time) rounds; axes of matrices in front.

Reduction composes moves in pairs, solves the recursion of half the length, and fills in the states between: twice
log2(time) rounds, each over all its steps at once; docs/derivations.md, (P1) to (P5).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pyro_seq.ops.kalman._algebra import (
    along_time,
    identity,
    interleaved,
    join,
    layers,
    plus,
    product,
    sandwich,
    solve,
    symmetric,
    transpose,
)


class Span(NamedTuple):
    r"""How the covariance P of a filtered state becomes that of a later one: F (I + P J)^{-1} P F^T + C, (P3).

    Attributes:
        gain: F; the later state given the earlier one and the observations after it is F z + b + N(0, C).
        cov: C.
        precision: J, the information on the earlier state from the observations after it.
    """

    gain: Tensor
    cov: Tensor
    precision: Tensor

    def every_second(self, start: int, number: int) -> Span:
        """Every second one from `start` on."""
        return Span(*(part[:, :, start : start + 2 * number : 2] for part in self))

    def after(self, before: Span) -> Span:
        """Two adjacent spans as one, (P5)."""
        size = before.cov.shape[0]
        solved = _solve_mixed(before.cov, self.precision, join([transpose(self.gain), self.precision], 1))
        carry, precision = transpose(solved[:, :size]), symmetric(solved[:, size:])
        return Span(
            product(carry, before.gain),
            plus(symmetric(product(product(carry, before.cov), transpose(self.gain))), self.cov),
            sandwich(transpose(before.gain), precision, before.precision),
        )

    def __call__(self, cov: Tensor) -> Tensor:
        back = transpose(self.gain)
        carry = transpose(_solve_mixed(cov, self.precision, back))
        return plus(symmetric(product(product(carry, cov), back)), self.cov)


def _solve_mixed(cov: Tensor, precision: Tensor, right: Tensor) -> Tensor:
    """Solve (I + J P) X = B. The transposed system has rows of very different size, for which pivoting works badly."""
    return solve(identity(cov) + product(precision, cov), right)


def riccati_states(first: Tensor, spans: Span) -> Tensor:
    """Covariances of all filtered states from the first and the spans between neighbours, (..., time - 1, *batch)."""
    num_spans = spans.cov.shape[2]
    if not num_spans:
        return first
    if num_spans == 1:
        return join([first, spans(first)], 2)
    pairs = num_spans // 2  # (P2)
    even = riccati_states(first, spans.every_second(1, pairs).after(spans.every_second(0, pairs)))
    number = (num_spans + 1) // 2
    return interleaved(even, spans.every_second(0, number)(even[:, :, :number]))


class Moments(NamedTuple):
    """Means (state, column, time, *batch) and covariances (state, state, time, *batch), or one of the two."""

    mean: Tensor | None = None
    cov: Tensor | None = None

    def at(self, steps: slice) -> Moments:
        """The moments of some steps."""
        return Moments(*(None if part is None else part[:, :, steps] for part in self))

    def moved(self, gain: Tensor, added: Moments) -> Moments:
        """G x + s and G P G^T + N, (P1)."""
        mean = None if self.mean is None or added.mean is None else plus(product(gain, self.mean), added.mean)
        if self.cov is None or added.cov is None:
            return Moments(mean)
        return Moments(mean, plus(product(product(gain, self.cov), transpose(gain)), added.cov))

    def joined(self, later: Moments) -> Moments:
        """These, then the later ones."""
        return Moments(
            *(None if a is None or b is None else along_time(a, b) for a, b in zip(self, later, strict=True))
        )

    def interleaved(self, odd: Moments) -> Moments:
        """These at steps 0, 2, ..., and `odd` between them."""
        return Moments(*(None if a is None or b is None else interleaved(a, b) for a, b in zip(self, odd, strict=True)))

    def flip(self) -> Moments:
        """Reversed in time."""
        return Moments(*(None if part is None else part.flip(2) for part in self))


def affine_states(gain: Tensor, added: Moments, *, is_parallel: bool) -> Moments:
    """States x_t = G_t x_{t-1} + s_t and P_t = G_t P_{t-1} G_t^T + N_t, from x_1 = s_1 and P_1 = N_1.

    Args:
        gain: (state, state, time - 1, *batch).
        added: s and N.
        is_parallel: Whether to reduce.
    """
    return _by_reduction(gain, added) if is_parallel else _by_loop(gain, added)


def affine_means(gain: Tensor, shift: Tensor, *, is_parallel: bool) -> Tensor:
    """The means alone."""
    mean = affine_states(gain, Moments(shift), is_parallel=is_parallel).mean
    assert mean is not None
    return mean


def affine_covs(gain: Tensor, noise: Tensor, *, is_parallel: bool) -> Tensor:
    """The covariances alone."""
    cov = affine_states(gain, Moments(cov=noise), is_parallel=is_parallel).cov
    assert cov is not None
    return cov


def _by_loop(gain: Tensor, added: Moments) -> Moments:
    mean = cov = None
    gains = gain.unbind(2)
    if added.mean is not None:
        shifts = added.mean.unbind(2)
        means = [shifts[0]]
        for move, shift in zip(gains, shifts[1:], strict=True):
            means.append(product(move, means[-1]) + shift)
        mean = layers(means)
    if added.cov is not None:
        noises = added.cov.unbind(2)
        covs = [noises[0]]
        for move, noise in zip(gains, noises[1:], strict=True):
            covs.append(product(product(move, covs[-1]), transpose(move)) + noise)
        cov = layers(covs)
    return Moments(mean, cov)


def _by_reduction(gain: Tensor, added: Moments) -> Moments:
    num_moves = gain.shape[2]
    if num_moves < 2:
        return _by_loop(gain, added)
    pairs = num_moves // 2  # (P2)
    first, second = gain[:, :, 0::2], gain[:, :, 1::2]
    odd, even = added.at(slice(1, None, 2)), added.at(slice(2, None, 2))
    composed = added.at(slice(0, 1)).joined(odd.at(slice(0, pairs)).moved(second, even))
    states = _by_reduction(product(second, first[:, :, :pairs]), composed)
    return states.interleaved(states.at(slice(0, first.shape[2])).moved(first, odd))
