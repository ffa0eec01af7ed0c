"""``Matern``: a path around zero of a given smoothness, a Gaussian process in continuous time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._arguments import real_number, require
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter, positive
from pyro_seq.ops.kalman.processes import matern


@rebuildable
@dataclass(frozen=True)
class Matern(Component):
    r"""A stationary deviation from the other components; for steps of any length.

    .. math::
        k(\tau) = \sigma^2 e^{-x}, \quad \sigma^2 (1 + x) e^{-x}, \quad \sigma^2 (1 + x + x^2 / 3) e^{-x}, \quad \dots
        \qquad x = \sqrt{2 \nu}\; \tau / \ell

    for smoothness 0.5, which is an autoregression of order 1 in continuous time, 1.5, 2.5, .... Parameters:
    ``matern_scale``, its standard deviation, and ``matern_lengthscale``, in steps.

    Args:
        smoothness: 0.5, 1.5, 2.5, ...: the integer part is the number of derivatives of the path.
        name: Name of the path, and prefix of the parameters.

    Raises:
        DataError: When the smoothness is not one of these.

    References:
        Hartikainen, Saerkkae (2010), Kalman filtering and smoothing solutions to temporal Gaussian process regression
        models.
    """

    is_stationary: ClassVar[bool] = True
    smoothness: float = 1.5
    _: KW_ONLY
    name: str = "matern"

    def __post_init__(self) -> None:
        smoothness = real_number(self.smoothness, "smoothness", 0.5, 6.5)
        require(smoothness % 1 == 0.5, "smoothness", "0.5, 1.5, 2.5, ...", self.smoothness)
        object.__setattr__(self, "smoothness", smoothness)

    @property
    def state_dim(self) -> int:
        """Number of states: the value and its derivatives."""
        return int(self.smoothness) + 1

    def parameters(self) -> tuple[Parameter, ...]:
        """Scale and lengthscale."""
        return Parameter("scale", positive(0.5), "spread"), Parameter("lengthscale", positive(10.0, deviation=1.5))

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """The process over the gaps."""
        lengthscale, variance = values["lengthscale"].squeeze(-1), values["scale"].squeeze(-1).square()
        process = matern(gaps, lengthscale, variance, num_derivatives=self.state_dim - 1)
        return Block(process.transition, process.transition_cov, process.stationary_cov)

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The value."""
        return torch.eye(self.state_dim, dtype=like.dtype, device=like.device)[0]
