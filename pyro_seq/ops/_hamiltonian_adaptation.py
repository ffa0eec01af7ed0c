r"""Joint warm-up adaptation of Hamiltonian chains: step size by acceptance, path length by distance moved."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_seq.ops._hamiltonian_scale import scale_of, without
from pyro_seq.ops._hamiltonian_state import HamiltonianState, HamiltonianStep
from pyro_seq.ops._langevin_adaptation import DualAveraging

# Boundaries of the windows that measure scales, as shares of the warm-up; each runs with the last scales. The rest is
# for steps and paths alone
_WINDOWS = (0.1, 0.2, 0.4, 0.7)
_SHORT = 20  # most leapfrog steps before the last scale is known, because steps are tiny while chains are far out
_FEWEST_STEPS = 20  # fewest steps of a warm-up that can measure scales
_ROUND_PATH = 2.2  # about the best length for a standard normal target, where sin(T)^2 is the mean of sin(h T)^2
_RATE, _MEMORY = 0.025, 0.95  # of Adam, which maximises the criterion
_FORGETTING = 0.5  # of the final averages, as a power of the count
_LEAST_ACCEPTANCE = 1e-3  # floor in the harmonic mean


class PathAdaptation:
    r"""Adapts step size, path length and scale of a batch of chains in a warm-up, and holds the final values.

    Paths have the quasi-random lengths :math:`h_n T`, with the van der Corput sequence h. T maximises the expected
    change of the squared distance from the centre, in units of the scale (the ChEES criterion),

    .. math::
        \tfrac14 \mathbb E\big[(\|u' - \mathbb E u'\|^2 - \|u - \mathbb E u\|^2)^2\big],

    by Adam on :math:`\log T`; expectations are means over chains, and :math:`u'` are the ends of the paths, weighted by
    their acceptance. The step size is adapted to the harmonic mean of the acceptances by dual averaging. The scale is
    measured in windows of the warm-up, over all chains.

    Args:
        scale: The initial scale, (entry,) or (entry, entry).
        num_steps: Length of the warm-up.
        target_accept: Target acceptance of the step sizes.
        is_dense: Measure covariances instead of standard deviations.
        most_leapfrogs: Length of the longest path, in leapfrog steps.

    Attributes:
        step_size: Size of the next leapfrog step.
        path_length: The length T.
        scale: Scale of the next step.

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
        self._square = self._log_average = 0.0  # averages of the slope, and of the log path length
        self._since = 0  # steps since the last new scale
        self._restart()

    def next_leapfrogs(self) -> int:
        """Number of leapfrog steps of the next path, which does not depend on the positions of the chains."""
        self._paths += 1
        length = _van_der_corput(self._paths) * self.path_length
        is_early = bool(self._window_ends) and self._count < self._window_ends[-1]
        return min(max(math.ceil(length / self.step_size), 1), min(self.most, _SHORT) if is_early else self.most)

    def update(self, before: HamiltonianState, after: HamiltonianState, step: HamiltonianStep) -> None:
        """Update by one step of the warm-up; the last one sets the averages."""
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
        """One step of Adam on the log path length."""
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
            log_length = min(log_length, log_most)  # a larger value would have no effect
            self.path_length = math.exp(log_length)
        gain = (self._count - self._since) ** -_FORGETTING
        self._log_average += gain * (math.log(self.path_length) - self._log_average)

    def _restart(self) -> None:
        """Reset step size and path length for a new scale, to good values for a standard normal target.

        The old path length, in other units, may be near a higher maximum, of paths that turn back on themselves.
        """
        self.step_size = float(self.scale.shape[0]) ** -0.25
        self._averaging = DualAveraging.start(torch.tensor(self.step_size, dtype=torch.float64))
        self.path_length = _ROUND_PATH
        self._square, self._log_average, self._since = 0.0, 0.0, self._count


def _van_der_corput(number: int) -> float:
    """The binary digits of a number mirrored at the binary point: 1/2, 1/4, 3/4, 1/8, ..."""
    fraction, weight = 0.0, 0.5
    while number:
        fraction, number, weight = fraction + weight * (number & 1), number >> 1, weight / 2
    return fraction
