"""``SeasonalDummies``: one effect per season; the effects sum to about zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from pyro_seq._arguments import keep_whole
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.components._whole_steps import over_steps
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter, positive


@rebuildable
@dataclass(frozen=True)
class SeasonalDummies(Component):
    r"""One slowly changing effect per season, for a few seasons; on whole steps.

    .. math::
        s_t = -\sum_{j=1}^{\text{period} - 1} s_{t-j} + N(0, \sigma^2)

    Parameters: ``seasonal_scale``, the standard deviation of the noise per step.

    Args:
        period: Number of seasons, in whole steps.
        name: Name of the path, and prefix of the parameters.

    Raises:
        DataError: When the period is not a whole number of at least 2.

    References:
        Harvey (1989), Forecasting, structural time series models and the Kalman filter, section 2.3.4.
    """

    period: int
    _: KW_ONLY
    name: str = "seasonal"

    def __post_init__(self) -> None:
        keep_whole(self, 2, "period")

    @property
    def has_whole_steps(self) -> bool:
        """True."""
        return True

    @property
    def state_dim(self) -> int:
        """The number of seasons minus one."""
        return self.period - 1

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale of the noise."""
        return (Parameter("scale", positive(0.02), "change"),)

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """The states are the last ``period - 1`` effects."""
        size = self.period - 1
        transition = gaps.new_zeros(size, size)
        transition[0] = -1.0
        transition[1:, :-1] = torch.eye(size - 1)
        first = self.observation(gaps, None)
        cov = values["scale"].square()[..., None] * first * first[:, None]
        return over_steps(transition, cov, gaps)

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The effect of this season."""
        return torch.eye(self.period - 1, dtype=like.dtype, device=like.device)[0]
