"""Levels: one that drifts, and a constant one."""

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
class Level(Component):
    r"""A level that drifts, a random walk in continuous time; for steps of any length.

    .. math::
        \mu_t = \mu_{t-1} + N(0, \Delta_t \sigma^2)

    Parameters: ``level_scale``, the standard deviation of the noise per step.

    Args:
        name: Name of the path, and prefix of the parameters.
    """

    has_level: ClassVar[bool] = True
    _: KW_ONLY
    name: str = "level"

    @property
    def state_dim(self) -> int:
        """1, for the level."""
        return 1

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale of the noise."""
        return (Parameter("scale", positive(0.2), "change"),)

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """The level changes only by the noise."""
        variance = gaps * values["scale"].square()
        return Block(gaps.new_ones(1, 1, 1), variance[..., None, None])

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The level itself."""
        return like.new_ones(1)


@rebuildable
@dataclass(frozen=True)
class Constant(Component):
    """A constant level of any height, to serve as the mean of stationary components such as `Autoregression`.

    Args:
        name: Name of the path.
    """

    has_level: ClassVar[bool] = True
    is_static: ClassVar[bool] = True
    _: KW_ONLY
    name: str = "constant"

    @property
    def state_dim(self) -> int:
        """1, for the level."""
        return 1

    def parameters(self) -> tuple[Parameter, ...]:
        """No parameters: the height is a state."""
        return ()

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """A constant state."""
        one = gaps.new_ones(1, 1, 1)
        return Block(one, torch.zeros_like(one))

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The level itself."""
        return like.new_ones(1)
