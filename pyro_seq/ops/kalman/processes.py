"""Stationary Gaussian processes as linear Gaussian state spaces, in closed form at any times."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq._nonfinite import is_chanced
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.kalman._algebra import common_shape
from pyro_seq.ops.kalman.system import LinearGaussianParameters
from pyro_seq.ops.precision import full_precision

__all__ = ["Process", "add_processes", "damped_oscillator", "matern", "periodic"]

_LONGER = 50  # terms of the continued fraction beyond the last one needed


class Process(NamedTuple):
    """A Gaussian process at times with given gaps, as a projection of a state.

    Attributes:
        transition: A, ``(*batch, time, state, state)``; entry t belongs to the move into step t.
        transition_cov: Q, of the same shape.
        observation: The row h that reads the value of the process from the state, ``(*batch, state)``.
        stationary_cov: Covariance P of the state at any step, ``(*batch, state, state)``.
    """

    transition: Tensor
    transition_cov: Tensor
    observation: Tensor
    stationary_cov: Tensor

    def seen_with(self, noise_variance: Tensor) -> LinearGaussianParameters:
        """The process seen with independent noise, for filter, smoother, draws and `LinearGaussian`.

        Args:
            noise_variance: Variance of the noise, ``()``, or ``(*batch,)`` per series.
        """
        return LinearGaussianParameters(
            transition=self.transition,
            transition_cov=self.transition_cov,
            observation=self.observation[..., None, None, :],
            observation_cov=noise_variance[..., None, None, None],
            initial_mean=torch.zeros_like(self.observation),
            initial_cov=self.stationary_cov,
        )


@full_precision
def matern(gaps: Tensor, lengthscale: Tensor, variance: Tensor, *, num_derivatives: int = 1) -> Process:
    r"""Matern process of smoothness :math:`\nu = m + 1/2`, which has m derivatives.

    .. math::
        k(\tau) = \sigma^2 e^{-x}, \quad \sigma^2 (1 + x) e^{-x}, \quad \sigma^2 (1 + x + x^2 / 3) e^{-x}, \quad \dots
        \qquad x = \sqrt{2 m + 1}\; \tau / \ell

    for m = 0, the Ornstein-Uhlenbeck process, 1 and 2. The state is the value and its derivatives, each in the unit of
    time :math:`\ell / \sqrt{2 m + 1}`. In that unit the drift is N - I with :math:`N^{m + 1} = 0`, and the noise enters
    by the last entry, e, so that

    .. math::
        A = e^{-x} \sum_{k \le m} \frac{x^k}{k!} N^k, \qquad
        Q = q \sum_{k, l \le m} \frac{N^k e\, e^\top N^{l \top}}{k!\, l!} \int_0^x s^{k + l} e^{-2 s}\, ds

    with incomplete gamma functions, which are precise for short gaps, unlike a difference of P.

    Args:
        gaps: Times from one step to the next, 0 or more, ``(*batch, time)``; the first, into the first step, is not
            used by filters.
        lengthscale: :math:`\ell`, in the unit of time of the gaps, ``(*batch,)``.
        variance: :math:`\sigma^2`, ``(*batch,)``.
        num_derivatives: m; the state has m + 1 entries.

    Raises:
        DataError: If a gap is negative or not finite, a parameter not positive, or m negative.
        ShapeError: If `gaps` have no axis of time.

    Example:
        >>> process = matern(torch.tensor([0.0, 0.5]), torch.tensor(1.0), torch.tensor(4.0))
        >>> process.stationary_cov.round(decimals=4)
        tensor([[4., 0.],
                [0., 4.]])
        >>> covariance = process.transition @ process.stationary_cov  # of each step with the one before
        >>> covariance[:, 0, 0].round(decimals=4)
        tensor([4.0000, 3.1396])

    References:
        Hartikainen, Saerkkae, "Kalman filtering and smoothing solutions to temporal Gaussian process regression
        models", MLSP 2010.
    """
    _check(gaps, lengthscale=lengthscale, variance=variance)
    if num_derivatives < 0:
        raise DataError(f"`num_derivatives` must be 0 or more. Got {num_derivatives}.")
    powers, paths = _matern_series(num_derivatives, gaps)
    x = gaps * (math.sqrt(2 * num_derivatives + 1) / lengthscale)[..., None]
    orders = torch.arange(2 * num_derivatives + 1, dtype=gaps.dtype, device=gaps.device)
    # integrals of e^{-2 s} s^k from 0 on, in all and up to x, which is not quite 0 as the gradient is not defined there
    whole = torch.exp(torch.lgamma(orders + 1)) / 2 ** (orders + 1)
    partial = whole * torch.special.gammainc(orders + 1, 2 * x[..., None] + torch.finfo(x.dtype).tiny)
    stationary = torch.einsum("ijk,k->ij", paths, whole)
    scale = variance[..., None, None] / stationary[0, 0]
    fading = torch.stack([torch.exp(-x) * x**k for k in range(num_derivatives + 1)], -1)
    observation = torch.zeros_like(stationary[0])
    observation[0] = 1.0
    cov = scale * stationary
    return Process(
        torch.einsum("...k,kij->...ij", fading, powers),
        scale[..., None, :, :] * torch.einsum("...k,ijk->...ij", partial, paths),
        observation.expand(cov.shape[:-1]),
        cov,
    )


def _matern_series(num_derivatives: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """N^k / k!, (k, state, state), and the coefficient of each power of s in the integrand, (state, state, k)."""
    size = num_derivatives + 1
    nilpotent = torch.eye(size, dtype=torch.float64) + torch.diag(torch.ones(num_derivatives, dtype=torch.float64), 1)
    nilpotent[-1] -= torch.tensor([math.comb(size, k) for k in range(size)], dtype=torch.float64)
    powers = [torch.eye(size, dtype=torch.float64)]
    for k in range(1, size):
        powers.append(powers[-1] @ nilpotent / k)
    columns = [power[:, -1] for power in powers]
    paths = torch.zeros(size, size, 2 * size - 1, dtype=torch.float64)
    for k, left in enumerate(columns):
        for j, right in enumerate(columns):
            paths[..., k + j] += torch.outer(left, right)
    return torch.stack(powers).to(like), paths.to(like)


@full_precision
def damped_oscillator(gaps: Tensor, period: Tensor, lifetime: Tensor, variance: Tensor) -> Process:
    r"""Oscillation with randomly changing amplitude and phase, which decay at a given rate.

    .. math::
        k(\tau) = \sigma^2 e^{-\tau / \lambda} \cos(2 \pi \tau / p), \qquad
        A = e^{-\Delta / \lambda} \begin{pmatrix} \cos \phi & -\sin \phi \\ \sin \phi & \cos \phi \end{pmatrix},
        \quad \phi = 2 \pi \Delta / p, \qquad Q = \sigma^2 \left(1 - e^{-2 \Delta / \lambda}\right) I

    the stochastic cycle of the structural time series models. An infinite lifetime gives an oscillation of constant
    random amplitude and phase.

    Args:
        gaps: Times from one step to the next, 0 or more, ``(*batch, time)``.
        period: p, in the unit of time of the gaps, ``(*batch,)``.
        lifetime: :math:`\lambda`, likewise; may be infinite.
        variance: :math:`\sigma^2`, ``(*batch,)``.

    Raises:
        DataError: If a gap is negative or not finite, or a parameter not positive.
        ShapeError: If `gaps` have no axis of time.

    References:
        Harvey, "Forecasting, Structural Time Series Models and the Kalman Filter", 1989, section 9.3.
    """
    _check(gaps, period=period, lifetime=lifetime, variance=variance)
    ages, turns = gaps / lifetime[..., None], gaps * (2 * math.pi / period)[..., None]
    ages, turns = torch.broadcast_tensors(ages, turns)
    eye = torch.eye(2, dtype=gaps.dtype, device=gaps.device)
    cov = variance[..., None, None] * eye
    observation = torch.broadcast_to(eye[0], (*common_shape(lifetime.shape, period.shape, variance.shape), 2))
    return Process(
        torch.exp(-ages)[..., None, None] * _rotations(turns),
        cov[..., None, :, :] * -torch.expm1(-2 * ages)[..., None, None],
        observation,
        cov,
    )


@full_precision
def periodic(gaps: Tensor, period: Tensor, lengthscale: Tensor, variance: Tensor, *, num_harmonics: int = 7) -> Process:
    r"""Periodic process, by the first harmonics of its kernel.

    .. math::
        k(\tau) = \sigma^2 \exp\left(-\frac{2 \sin^2(\pi \tau / p)}{\ell^2}\right)
        = \sigma^2 \sum_{j \ge 0} w_j \cos(2 \pi j \tau / p), \qquad
        w_0 = e^{-\ell^{-2}} I_0(\ell^{-2}), \quad w_j = 2 e^{-\ell^{-2}} I_j(\ell^{-2})

    Each is an oscillator without damping; together they move without noise, Q = 0. All entries of the state have
    variance :math:`\sigma^2`; the observation row has the roots of the weights. The truncated harmonics have a share of
    :math:`1 - \sum_{j \le J} w_j` of the variance: 8e-8 for seven at a lengthscale of 1, 5e-4 at 0.5, 0.03 at 0.3.
    :math:`4 / \ell` of them leave out 2e-4 at most.

    Args:
        gaps: Times from one step to the next, 0 or more, ``(*batch, time)``.
        period: p, in the unit of time of the gaps, ``(*batch,)``.
        lengthscale: :math:`\ell`, without a unit, ``(*batch,)``.
        variance: :math:`\sigma^2`, ``(*batch,)``.
        num_harmonics: J; the state has 2 J + 1 entries.

    Raises:
        DataError: If a gap is negative or not finite, a parameter not positive, or J negative.
        ShapeError: If `gaps` have no axis of time.

    References:
        Solin, Saerkkae, "Explicit link between periodic covariance functions and state space models", AISTATS 2014.
    """
    _check(gaps, period=period, lengthscale=lengthscale, variance=variance)
    if num_harmonics < 0:
        raise DataError(f"`num_harmonics` must be 0 or more. Got {num_harmonics}.")
    number = torch.arange(1, num_harmonics + 1, dtype=gaps.dtype, device=gaps.device)
    turns = (gaps * (2 * math.pi / period)[..., None])[..., None] * number
    constant = torch.ones_like(turns[..., :0].sum(-1))[..., None, None]
    transition = _block_diagonal([constant, *_rotations(turns).unbind(-3)])
    size = 2 * num_harmonics + 1
    cov = variance[..., None, None] * torch.eye(size, dtype=gaps.dtype, device=gaps.device)
    roots = _periodic_weights(lengthscale, num_harmonics).sqrt()
    pairs = torch.stack([roots[..., 1:], torch.zeros_like(roots[..., 1:])], -1).flatten(-2)
    observation = torch.cat([roots[..., :1], pairs], -1)
    batch = common_shape(observation.shape[:-1], cov.shape[:-2], period.shape)
    return Process(transition, torch.zeros_like(transition), observation.expand(*batch, -1), cov.expand(*batch, -1, -1))


def add_processes(*processes: Process) -> Process:
    """The sum of independent processes at the same times: their states side by side.

    Raises:
        ShapeError: If their axes of batch and time do not broadcast.

    Example:
        >>> gaps, one = torch.ones(3), torch.tensor(1.0)
        >>> both = add_processes(matern(gaps, one, one), periodic(gaps, 7 * one, one, one, num_harmonics=2))
        >>> both.transition.shape, both.observation.shape
        (torch.Size([3, 7, 7]), torch.Size([7]))
    """
    try:
        rows = common_shape(*(process.observation.shape[:-1] for process in processes))
        transition, transition_cov, stationary_cov = (
            _block_diagonal([getattr(process, name) for process in processes])
            for name in ("transition", "transition_cov", "stationary_cov")
        )
    except RuntimeError:
        found = ", ".join(str(tuple(process.transition.shape)) for process in processes)
        raise ShapeError(
            f"`processes` must be at the same times, with leading axes that broadcast. Got transitions {found}."
        ) from None
    observation = torch.cat([process.observation.expand(*rows, -1) for process in processes], -1)
    return Process(transition, transition_cov, observation, stationary_cov)


def _periodic_weights(lengthscale: Tensor, num_harmonics: int) -> Tensor:
    """Weights (*batch, harmonic) of the harmonics, from 0 on.

    Ratios of neighbouring Bessel functions follow a backward continued fraction, so that all stay positive and precise,
    even if tiny; the last ratio is set from its bounds (Amos, 1974).
    """
    x = lengthscale.square().reciprocal()
    last = num_harmonics + _LONGER
    ratio = x / (last + 0.5 + torch.hypot(x, x.new_tensor(last + 1.5)))
    ratios = []
    for order in range(last, 0, -1):
        ratio = x / (2 * order + x * ratio)  # I_order / I_(order - 1)
        ratios.append(ratio)
    first = torch.special.i0e(x)
    relative = torch.stack([2 * torch.ones_like(x), *ratios[: _LONGER - 1 : -1]], -1).cumprod(-1)
    return first[..., None] * torch.cat([torch.ones_like(x)[..., None], relative[..., 1:]], -1)


def _rotations(angles: Tensor) -> Tensor:
    """Matrices (..., 2, 2) that turn by angles (...)."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    """Matrices (..., size, size) with blocks on their diagonals; leading axes broadcast."""
    batch = common_shape(*(block.shape[:-2] for block in blocks))
    sizes = [block.shape[-1] for block in blocks]
    whole = blocks[0].new_zeros(*batch, sum(sizes), sum(sizes))
    start = 0
    for block, size in zip(blocks, sizes, strict=True):
        whole[..., start : start + size, start : start + size] = block
        start += size
    return whole


def _check(gaps: Tensor, **parameters: Tensor) -> None:
    if not gaps.ndim:
        raise ShapeError("`gaps` must be (*batch, time). Got a number. Add an axis of time with `gaps[None]`.")
    known = on_host(gaps)
    if not gaps.is_floating_point() or not ((known >= 0) & known.isfinite()).all():
        raise DataError(
            f"`gaps` must be finite numbers, 0 or more, of a floating type. Got {gaps.dtype} with a smallest one of "
            f"{float(gaps.min()):g}. Sort the times, and take `times.diff(dim=-1)`."
        )
    for name, value in parameters.items():
        if (value.dtype, value.device) != (gaps.dtype, gaps.device):
            raise DataError(
                f"`{name}` must have the dtype and device of `gaps`, {gaps.dtype} on {gaps.device}. "
                f"Got {value.dtype} on {value.device}. Convert it with `.to(gaps)`."
            )
        if not is_chanced() and (value.detach() <= 0).any():
            raise DataError(f"`{name}` must be positive. Got a smallest one of {float(value.min()):g}.")
