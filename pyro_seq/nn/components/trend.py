"""Trends: a level with a slope, both of which may drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter, positive


@rebuildable
@dataclass(frozen=True)
class Trend(Component):
    r"""The local linear trend: a level and a slope that drift; on whole steps.

    .. math::
        \mu_t = \mu_{t-1} + \nu_{t-1} + N(0, \sigma_\mu^2), \qquad \nu_t = \nu_{t-1} + N(0, \sigma_\nu^2)

    A gap of k steps is k of these moves. Parameters: ``trend_level_scale`` and ``trend_slope_scale``, the standard
    deviations of the noise per step. For steps of any length use `SmoothTrend`, plus `Level` if the level has its own
    drift.

    Args:
        name: Name of the path, and prefix of the parameters.

    References:
        Harvey (1989), Forecasting, structural time series models and the Kalman filter, section 2.3.
    """

    has_level: ClassVar[bool] = True
    _: KW_ONLY
    name: str = "trend"

    @property
    def has_whole_steps(self) -> bool:
        """True."""
        return True

    @property
    def state_dim(self) -> int:
        """2."""
        return 2

    def parameters(self) -> tuple[Parameter, ...]:
        """The scales of the noise."""
        return (
            Parameter("level_scale", positive(0.2), "change"),
            Parameter("slope_scale", positive(0.003), "change"),
        )

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """Sums over the k moves: 0 + 1 + ... + (k - 1), and of the squares."""
        gaps = gaps.round()
        level, slope = values["level_scale"].square(), values["slope_scale"].square()
        level = gaps * level + slope * gaps * (gaps - 1) * (2 * gaps - 1) / 6
        return Block(_line(gaps), _symmetric(level, slope * gaps * (gaps - 1) / 2, slope * gaps))

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The level."""
        return torch.eye(2, dtype=like.dtype, device=like.device)[0]


@rebuildable
@dataclass(frozen=True)
class SmoothTrend(Component):
    r"""A smooth path, whose slope is a random walk in continuous time; for steps of any length.

    .. math::
        d\mu = \nu\, dt, \qquad d\nu = \sigma\, dW

    Its posterior mean is a cubic smoothing spline. Parameters: ``trend_slope_scale``, the standard deviation of the
    slope's noise per step.

    Args:
        name: Name of the path, and prefix of the parameters.

    References:
        Wahba (1978), Improper priors, spline smoothing and the problem of guarding against model errors in regression.
    """

    has_level: ClassVar[bool] = True
    _: KW_ONLY
    name: str = "trend"

    @property
    def state_dim(self) -> int:
        """2."""
        return 2

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale of the noise."""
        return (Parameter("slope_scale", positive(0.01), "change"),)

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """Integrals of the noise over a gap."""
        slope = values["slope_scale"].square()
        return Block(_line(gaps), slope[..., None, None] * _symmetric(gaps**3 / 3, gaps**2 / 2, gaps))

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The level."""
        return torch.eye(2, dtype=like.dtype, device=like.device)[0]


def _line(gaps: Tensor) -> Tensor:
    """The level after each gap, and the slope, (gap, 2, 2)."""
    one, zero = torch.ones_like(gaps), torch.zeros_like(gaps)
    return torch.stack([one, gaps, zero, one], -1).unflatten(-1, (2, 2))


def _symmetric(first: Tensor, cross: Tensor, second: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(first, cross, cross, second), -1).unflatten(-1, (2, 2))
