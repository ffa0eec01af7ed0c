"""The continuous Bernoulli distribution, exact at any logit."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

_NEAR = 0.1  # logit below which series expansions are more accurate than the formulas


class ContinuousBernoulli(dist.TorchDistribution):
    r"""Numbers in [0, 1] with the Bernoulli cross-entropy, normalised to a density.

    .. math::
        p(x) = \frac{e^{\lambda (x - 1/2)}}{\mathrm{sinhc}(\lambda / 2)}, \qquad
        \mathbb E[x] = \frac12 + \frac12 \left(\coth \frac\lambda2 - \frac2\lambda\right), \qquad
        \mathrm{sinhc}(u) = \frac{\sinh u}{u}

    This is an exponential distribution truncated to the unit interval. The versions in torch and Pyro clamp the
    probability beyond a logit of 16 in single precision; this one stays normalised.

    Args:
        logits: Logits :math:`\lambda`.
        validate_args: Check the arguments; Pyro's setting by default.

    References:
        Loaiza-Ganem, Cunningham, "The continuous Bernoulli: fixing a pervasive error in variational autoencoders",
        NeurIPS 2019.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Means, of the batch shape."""
        half = self.logits / 2
        is_near = half.abs() < _NEAR
        far = torch.where(is_near, 1.0, half)
        near = torch.where(is_near, half, 0.0)
        series = near / 3 - near**3 / 45 + 2 * near**5 / 945 - near**7 / 4725
        langevin = torch.where(is_near, series, 1 / far.tanh() - 1 / far)
        return 0.5 + 0.5 * langevin

    @property
    def variance(self) -> Tensor:
        """Variances, of the batch shape: the derivative of the mean with respect to the logit."""
        half = self.logits.abs() / 2
        is_near = half < _NEAR
        far, near = torch.where(is_near, 1.0, half), torch.where(is_near, half, 0.0)
        series = 1 / 3 - near**2 / 15 + 2 * near**4 / 189 - near**6 / 675
        steep = 2 * (-far).exp() / -torch.expm1(-2 * far)  # one by the hyperbolic sine
        return torch.where(is_near, series, far**-2 - steep.square()) / 4

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of values in [0, 1], of the batch shape."""
        half = self.logits.abs() / 2
        is_near = half < _NEAR
        far = torch.where(is_near, 1.0, half)
        near = torch.where(is_near, half, 0.0)
        constant = torch.where(
            is_near,
            near**2 / 6 - near**4 / 180 + near**6 / 2835,
            far + torch.log1p(-(-2 * far).exp()) - (2 * far).log(),
        )
        return self.logits * (value - 0.5) - constant

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch), by the inverse distribution function, computed from the end with most mass."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            steep = self.logits.abs().expand(shape)
            is_flat = steep < torch.finfo(steep.dtype).eps
            rate = torch.where(is_flat, 1.0, steep)
            near_zero = torch.where(is_flat, uniform, -torch.log1p(uniform * torch.expm1(-rate)) / rate).clamp(0, 1)
            return torch.where(self.logits > 0, 1 - near_zero, near_zero)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> ContinuousBernoulli:
        """The same for more series or draws."""
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=False)
