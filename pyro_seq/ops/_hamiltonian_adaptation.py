r"""How Hamiltonian chains adapt together in a warm-up: steps to the acceptance, paths to how far they carry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_seq.ops._hamiltonian_scale import scale_of, without
from pyro_seq.ops._hamiltonian_state import HamiltonianState, HamiltonianStep
from pyro_seq.ops._langevin_adaptation import DualAveraging

# Shares of the warm-up between which scales are measured, each window with the scales of the one before; the rest is
# for steps and paths alone
_WINDOWS = (0.1, 0.2, 0.4, 0.7)
_SHORT = 20  # leapfrog steps, at most, before the last scale is known: where chains are far out, steps are tiny
_FEWEST_STEPS = 20  # of a warm-up that can measure scales
_ROUND_PATH = 2.2  # about the best length on a round normal target, where sin(T)^2 is the mean of sin(h T)^2
_RATE, _MEMORY = 0.025, 0.95  # of Adam, which climbs the criterion
_FORGETTING = 0.5  # of the averages that are kept in the end, as a power of the count
_LEAST_ACCEPTANCE = 1e-3  # in the harmonic mean


class PathAdaptation:
    r"""Adapts step size, length of paths and scale of a batch of chains in a warm-up, and says how they go on after it.

    Paths have the random lengths :math:`h_n T`, h the van der Corput sequence. T climbs the expected change of the
    squared distance from the centre, in units of the scale (the ChEES criterion),

    .. math::
        \tfrac14 \mathbb E\big[(\|u' - \mathbb E u'\|^2 - \|u - \mathbb E u\|^2)^2\big],

    by Adam on :math:`\log T`, expectations being means over chains, with :math:`u'` the ends of the paths, weighed by
    their acceptance. The step size follows the harmonic mean of the acceptances by dual averaging. The scale is
    measured in windows of the warm-up, over all chains.

    Args:
        scale: The first scale, (entry,) or (entry, entry).
        num_steps: Length of the warm-up.
        target_accept: Acceptance that step sizes adapt to.
        is_dense: Measure covariances rather than deviations.
        most_leapfrogs: Longest path, in leapfrog steps.

    Attributes:
        step_size: Of the next step.
        path_length: T.
        scale: Of the next step.

    References:
        Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian Monte
        Carlo.
    """

    def __init__(
        self, scale: Tensor, num_steps: int, *, target_accept: float, is_dense: bool, most_leapfrogs: int
    ) -> None:
        self.scale = scale if scale.ndim == 2 or not is_dense else scale.diag()
        self.num_steps, self.target, self.is_dense, self.most = num_steps, target_accept, is_dense, most_leapfrogs
        self._window_ends = [int(share * num_steps) for share in _WINDOWS] if num_steps >= _FEWEST_STEPS else []
        self._window: list[Tensor] = []
        self._count = self._paths = 0
        self._averaging = DualAveraging.start(torch.ones((), dtype=torch.float64))
        self._square = self._log_average = 0.0  # of the slope, and of the log of the path length
        self._since = 0  # the last new scale
        self._restart()

    def next_leapfrogs(self) -> int:
        """Number of leapfrog steps of the next path, which does not depend on where the chains are."""
        self._paths += 1
        length = _van_der_corput(self._paths) * self.path_length
        is_early = bool(self._window_ends) and self._count < self._window_ends[-1]
        return min(max(math.ceil(length / self.step_size), 1), min(self.most, _SHORT) if is_early else self.most)

    def update(self, before: HamiltonianState, after: HamiltonianState, step: HamiltonianStep) -> None:
        """Take in one step of the warm-up; the last one puts averages in place."""
        self._count += 1
        harmonic = 1.0 / (1.0 / step.acceptance.double().clamp(min=_LEAST_ACCEPTANCE)).mean()
        self._averaging, proposed = self._averaging.update(self.target - harmonic)
        self.step_size = float(proposed)
        self._climb(before, step)
        if self._window_ends and self._window_ends[0] < self._count <= self._window_ends[-1]:
            self._window.append(after.value)
            if self._count in self._window_ends:
                self.scale = scale_of(torch.cat(self._window), is_dense=self.is_dense)
                self._window = []
                self._restart()
        if self._count == self.num_steps:
            self.step_size = float(self._averaging.log_average.exp())
            self.path_length = math.exp(self._log_average)
            self._paths = 0

    def _climb(self, before: HamiltonianState, step: HamiltonianStep) -> None:
        """One step of Adam on the log of the path length."""
        weight = torch.where(step.is_divergent, 0.0, step.acceptance)
        weight = (weight / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny))[:, None]
        proposal = torch.where(step.is_divergent[:, None], before.value, step.proposal)
        momentum = torch.where(step.is_divergent[:, None], 0.0, step.momentum)
        start = without(self.scale, before.value - before.value.mean(0))
        end = without(self.scale, proposal - (weight * proposal).sum(0))
        change = (end.square() - start.square()).sum(-1) * (end * momentum).sum(-1)
        slope = step.duration * float((weight[:, 0] * change).double().sum())
        if math.isfinite(slope):
            self._square = _MEMORY * self._square + (1 - _MEMORY) * slope**2
            mean_square = self._square / (1 - _MEMORY ** (self._count - self._since))
            log_length = math.log(self.path_length) + _RATE * slope / (math.sqrt(mean_square) + 1e-30)
            log_most = math.log(self.most) + float(self._averaging.log_average)
            log_length = min(log_length, log_most)  # beyond, it would change nothing
            self.path_length = math.exp(log_length)
        gain = (self._count - self._since) ** -_FORGETTING
        self._log_average += gain * (math.log(self.path_length) - self._log_average)

    def _restart(self) -> None:
        """A new scale asks for steps and paths that are new, too: here about right for a round normal target.

        A path that was right in other units may lie near a higher maximum, of paths that turn back on themselves.
        """
        self.step_size = float(self.scale.shape[0]) ** -0.25
        self._averaging = DualAveraging.start(torch.tensor(self.step_size, dtype=torch.float64))
        self.path_length = _ROUND_PATH
        self._square, self._log_average, self._since = 0.0, 0.0, self._count


def _van_der_corput(number: int) -> float:
    """The binary digits of a number mirrored at the point: 1/2, 1/4, 3/4, 1/8, ..."""
    fraction, weight = 0.0, 0.5
    while number:
        fraction, number, weight = fraction + weight * (number & 1), number >> 1, weight / 2
    return fraction
