"""``Autoregression``: stationary deviations from the other components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._arguments import keep_whole
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.components._whole_steps import over_steps
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter, positive, uniform


@rebuildable
@dataclass(frozen=True)
class Autoregression(Component):
    r"""A stationary autoregression around zero, on whole steps.

    .. math::
        a_t = \sum_{k=1}^p \phi_k a_{t-k} + N(0, \sigma^2)

    It starts from its stationary distribution. Parameters: ``autoregression_scale``, the standard deviation of the
    process, and partial autocorrelations ``autoregression_partial_1``, ..., each between -1 and 1, which is equivalent
    to stationarity; the coefficients ``autoregression_1``, ... are reported as well. For steps of any length use
    `Matern`.

    Args:
        order: Number of earlier values that a value depends on.
        name: Name of the path, and prefix of the parameters.

    Raises:
        DataError: When the order is not a positive whole number.

    References:
        Monahan (1984), A note on enforcing stationarity in autoregressive-moving average models.
    """

    is_stationary: ClassVar[bool] = True
    order: int = 1
    _: KW_ONLY
    name: str = "autoregression"

    def __post_init__(self) -> None:
        keep_whole(self, 1, "order")

    @property
    def has_whole_steps(self) -> bool:
        """True."""
        return True

    @property
    def state_dim(self) -> int:
        """Number of values in the state, the order."""
        return self.order

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale and the partial autocorrelations."""
        partials = (Parameter(f"partial_{lag}", uniform(-1.0, 1.0)) for lag in range(1, self.order + 1))
        return (Parameter("scale", positive(0.3), "spread"), *partials)

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """The block whose states are the last values."""
        coefficients, correlations, rest = _levinson(self._partials(values))
        variance = values["scale"].square()
        shift = torch.eye(self.order, dtype=gaps.dtype, device=gaps.device)
        lower = shift[:-1].expand(*coefficients.shape[:-1], -1, -1)
        transition = torch.cat([coefficients[..., None, :], lower], -2)
        cov = (variance * rest)[..., None] * shift[0] * shift[0, :, None]
        lags = (torch.arange(self.order)[:, None] - torch.arange(self.order)).abs()
        return over_steps(transition, cov, gaps, variance[..., None] * correlations[..., lags])

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The present value."""
        return torch.eye(self.order, dtype=like.dtype, device=like.device)[0]

    def report(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters and the coefficients."""
        coefficients = _levinson(self._partials(values))[0]
        return dict(values) | {str(lag): part[..., None] for lag, part in enumerate(coefficients.unbind(-1), 1)}

    def _partials(self, values: Mapping[str, Tensor]) -> Tensor:
        """Partial autocorrelations, (..., 1, lag)."""
        return torch.stack([values[f"partial_{lag}"] for lag in range(1, self.order + 1)], -1)


def _levinson(partials: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The recursion of Levinson and Durbin, backwards.

    Args:
        partials: Partial autocorrelations, (..., 1, lag).

    Returns:
        Coefficients (..., lag) and autocorrelations at lags 0, 1, ... (..., lag), without the axis of 1, and the share
        (..., 1) of the variance not explained by the past.
    """
    partials = partials.squeeze(-2)
    coefficients, correlations = partials[..., :0], [torch.ones_like(partials[..., 0])]
    rest = correlations[0]
    for lag in range(partials.shape[-1]):
        partial = partials[..., lag, None]
        known = sum((coefficients[..., j] * correlations[lag - j] for j in range(lag)), torch.zeros_like(rest))
        correlations.append(known + partial[..., 0] * rest)
        coefficients = torch.cat([coefficients - partial * coefficients.flip(-1), partial], -1)
        rest = rest * (1 - partial[..., 0].square())
    return coefficients, torch.stack(correlations[:-1], -1), rest[..., None]
