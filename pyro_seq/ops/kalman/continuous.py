"""Linear stochastic differential equations at the times of observations: exact transitions over any gaps.

Equations are those of docs/derivations.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.kalman._algebra import common_shape
from pyro_seq.ops.precision import full_precision

__all__ = ["discretise"]


@full_precision
def discretise(drift: Tensor, diffusion: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
    r"""Transition and its noise over gaps in time, exactly, for a state in continuous time.

    .. math::
        dz = F z\, dt + dW, \quad \operatorname{E} dW\, dW^\top = D\, dt, \qquad
        A = e^{F \Delta}, \quad Q = \int_0^\Delta e^{F s} D\, e^{F^\top s}\, ds

    This is (G1) of docs/derivations.md. Both are summed as power series over :math:`\Delta / 2^s`, short enough for few
    terms, and doubled s times, (G2) and (G3). Doubling only adds covariances, so short gaps keep their precision, and
    long gaps with stiff drifts do not overflow, as they do in Van Loan's block exponential. Any drift is allowed, even
    without the stationary covariance P that :math:`Q = P - A P A^\top` needs. A gap of 0 gives A = I and Q = 0.
    Differentiable in all arguments.

    With an input u that is constant over each gap, :math:`dz = (F z + B u)\,dt + dW`, append the columns of B to F, and
    rows of zeros below: the transition of the joint state then has the `input_matrix` of the step to the right of A.

    Cost: about 20 products of small matrices, and 3 for each doubling, of which there are :math:`\log_2 (2 \|F\|
    \Delta)` for the longest gap.

    Args:
        drift: F, per unit of time, ``(*batch, state, state)``.
        diffusion: D, symmetric and without negative eigenvalues, per unit of time, of the shape of `drift`. For white
            noise of spectral density q that enters through L it is :math:`L q L^\top`.
        gaps: Times :math:`\Delta` from one step to the next, 0 or more, ``(*batch,)``. All leading axes broadcast: one
            process seen at irregular times has gaps ``(time,)`` or ``(series, time)``, and a process for each series
            needs a time axis of 1 in front of the matrices, ``(series, 1, state, state)``.

    Returns:
        A and Q, ``(*batch, state, state)`` each, as :class:`LinearGaussianParameters` takes them for gaps whose last
        axis is time, gap t being the one *into* step t.

    Raises:
        ShapeError: If the matrices are not square and of one size, or leading axes do not broadcast.
        DataError: If a gap is negative or not finite, the diffusion is not a covariance (by its diagonal or symmetry),
            or dtypes or devices differ.

    Example:
        A velocity that wanders, and its integral, the position:

        >>> drift = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
        >>> diffusion = torch.tensor([[0.0, 0.0], [0.0, 3.0]])
        >>> transition, cov = discretise(drift, diffusion, torch.tensor([0.0, 2.0]))
        >>> transition[1]
        tensor([[1., 2.],
                [0., 1.]])
        >>> cov
        tensor([[[0., 0.],
                 [0., 0.]],
        <BLANKLINE>
                [[8., 6.],
                 [6., 6.]]])

    References:
        Van Loan, "Computing integrals involving the matrix exponential", IEEE Trans. Automatic Control, 1978. Higham,
        "Functions of Matrices", 2008, chapter 10. Saerkkae, Solin, "Applied Stochastic Differential Equations", 2019,
        section 6.2.
    """
    _check(drift, diffusion, gaps)
    size = drift.detach().abs().sum(-1).amax(-1).clamp(min=torch.finfo(drift.dtype).tiny)
    angles = size * gaps
    # non-finite values stay so, without doubling
    doublings = (2 * angles.detach()).nan_to_num(0.0, 0.0).clamp(min=1.0).log2().ceil()
    share = torch.exp2(-doublings)
    powers, terms = _series(drift / size[..., None, None], diffusion)
    orders = torch.stack([(angles * share) ** k for k in range(len(powers))], -1)
    transition = torch.einsum("...k,k...ij->...ij", orders, powers)
    cov = torch.einsum("...k,k...ij->...ij", orders * (gaps * share)[..., None], terms)
    for left in range(int(doublings.max()) if doublings.numel() else 0, 0, -1):
        # gaps that need fewer doublings begin later, so that their unused results are small, with finite gradients
        is_due = (doublings >= left)[..., None, None]
        cov = torch.where(is_due, cov + transition @ cov @ transition.mT, cov)  # (G3)
        transition = torch.where(is_due, transition @ transition, transition)
    return transition, (cov + cov.mT) / 2


def _series(drift: Tensor, diffusion: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the powers of a short gap in (G2), (order, *batch, state, state), for A and for Q over the gap.

    For a drift of norm 1, and gaps of up to 1/2; independent of gaps, so a drift shared by all steps is computed once.
    """
    power = torch.eye(drift.shape[-1], dtype=drift.dtype, device=drift.device).expand_as(drift)
    term = diffusion.expand(common_shape(drift.shape, diffusion.shape))
    powers, terms = [power], [term]
    for k in range(1, _num_terms(drift.dtype)):
        power = drift @ power / k
        half = drift @ term / (k + 1)
        term = half + half.mT
        powers.append(power)
        terms.append(term)
    return torch.stack(powers), torch.stack(terms)


def _num_terms(dtype: torch.dtype) -> int:
    """Number of terms of (G2) up to rounding: term k of Q is at most 1 / (k + 1)! of the first, and less of A."""
    k = 1
    while 1 / math.factorial(k + 1) > torch.finfo(dtype).eps / 8:
        k += 1
    return k


def _check(drift: Tensor, diffusion: Tensor, gaps: Tensor) -> None:
    for name, tensor in (("diffusion", diffusion), ("gaps", gaps)):
        if (tensor.dtype, tensor.device) != (drift.dtype, drift.device):
            raise DataError(
                f"`{name}` must have the dtype and device of `drift`, {drift.dtype} on {drift.device}. "
                f"Got {tensor.dtype} on {tensor.device}. Convert it with `.to(drift)`."
            )
    sizes = drift.shape[-2:]
    if drift.ndim < 2 or sizes[0] != sizes[1] or diffusion.shape[-2:] != sizes or not drift.is_floating_point():
        raise ShapeError(
            "`drift` and `diffusion` must be square matrices of one size, (*batch, state, state), of floating-point "
            f"numbers. Got {tuple(drift.shape)} and {tuple(diffusion.shape)}, {drift.dtype}."
        )
    try:
        common_shape(drift.shape[:-2], diffusion.shape[:-2], gaps.shape)
    except RuntimeError:
        raise ShapeError(
            "`gaps` and the axes in front of the matrices must broadcast. "
            f"Got {tuple(gaps.shape)}, {tuple(drift.shape[:-2])} for `drift` and {tuple(diffusion.shape[:-2])} for "
            "`diffusion`. Matrices that differ between series but not over time need a time axis of 1."
        ) from None
    wrong = ~((gaps.detach() >= 0) & gaps.detach().isfinite())
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise DataError(
            f"`gaps` must be finite and 0 or more. Got gaps{place} = {gaps[tuple(place)].item():g}. "
            "Sort the times, and take `times.diff(dim=-1)`."
        )
    values = diffusion.detach()
    largest = values.abs().amax() if values.numel() else values.new_zeros(())
    slack = torch.finfo(values.dtype).eps ** 0.5 * largest
    if ((values - values.mT).abs() > slack).any() or (values.diagonal(dim1=-2, dim2=-1) < -slack).any():
        raise DataError(
            "`diffusion` must be a covariance per unit of time: symmetric, with no negative entry on its diagonal. Got "
            f"one with a diagonal from {float(values.diagonal(dim1=-2, dim2=-1).min()):g} and entries that differ from "
            f"their mirror images by up to {float((values - values.mT).abs().max()):g}. Write it as L @ L.mT."
        )
