"""``Regression``: known inputs with unknown coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter


@rebuildable
@dataclass(frozen=True)
class Regression(Component):
    r"""Effects of known inputs, ``data.inputs``, with coefficients of unknown (diffuse) value.

    .. math::
        r_t = \beta^\top u_t

    The coefficients are constant states, one set per series, and are integrated out like all states: the estimates are
    those of generalised least squares, and every prediction includes their uncertainty. Together with a level, a
    constant input would not be identifiable.

    Args:
        num_inputs: Number of entries of ``data.inputs`` per step.
        name: Name of the path.

    Raises:
        DataError: When `num_inputs` is not a positive whole number.
    """

    is_static: ClassVar[bool] = True
    num_inputs: int = 1
    _: KW_ONLY
    name: str = "regression"

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_inputs", whole_number(self.num_inputs, "num_inputs", 1))

    @property
    def state_dim(self) -> int:
        """One state per input, its coefficient."""
        return self.num_inputs

    def parameters(self) -> tuple[Parameter, ...]:
        """No parameters: the coefficients are states."""
        return ()

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """Constant states."""
        eye = torch.eye(self.num_inputs, dtype=gaps.dtype, device=gaps.device)[None]
        return Block(eye, torch.zeros_like(eye))

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The inputs, (series, time, input)."""
        assert inputs is not None
        return inputs
