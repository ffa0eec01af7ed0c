"""``Cycle``: a stochastic cycle of unknown period."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._arguments import real_number, require
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.components._rotation import rotation
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter, log_uniform, positive, share


@rebuildable
@dataclass(frozen=True)
class Cycle(Component):
    r"""A cycle around zero with changing phase and amplitude, such as a business cycle; for steps of any length.

    .. math::
        \begin{pmatrix} \psi_t \\ \psi^*_t \end{pmatrix} = \rho^{\Delta_t}
        \begin{pmatrix} \cos \lambda \Delta_t & \sin \lambda \Delta_t \\
        -\sin \lambda \Delta_t & \cos \lambda \Delta_t \end{pmatrix}
        \begin{pmatrix} \psi_{t-1} \\ \psi^*_{t-1} \end{pmatrix} +
        N\left(0, \sigma^2 (1 - \rho^{2 \Delta_t}) I\right), \qquad \lambda = \frac{2 \pi}{\text{period}}

    It starts from its stationary distribution. Parameters: ``cycle_scale``, its standard deviation; ``cycle_period`` in
    steps; and ``cycle_damping``, the factor :math:`\rho` per step. Other software reports the standard deviation of the
    noise per step instead, which is ``cycle_scale`` times the square root of one minus the squared damping.

    Args:
        shortest, longest: Range of the period, in steps; its prior is uniform in the logarithm.
        name: Name of the path, and prefix of the parameters.

    Raises:
        DataError: When `shortest` is not below `longest`.

    References:
        Harvey (1989), Forecasting, structural time series models and the Kalman filter, section 2.3.3.
    """

    is_stationary: ClassVar[bool] = True
    shortest: float = 2.0
    longest: float = 100.0
    _: KW_ONLY
    name: str = "cycle"

    def __post_init__(self) -> None:
        for end in ("shortest", "longest"):
            object.__setattr__(self, end, real_number(getattr(self, end), end, 1e-9))
        require(self.longest > self.shortest, "longest", f"above `shortest`, {self.shortest:g}", self.longest)

    @property
    def state_dim(self) -> int:
        """2."""
        return 2

    def parameters(self) -> tuple[Parameter, ...]:
        """Scale, period and damping."""
        return (
            Parameter("scale", positive(0.5), "spread"),
            Parameter("period", log_uniform(self.shortest, self.longest)),
            Parameter("damping", share(0.9)),
        )

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """A damped rotation, with noise that keeps the variance constant."""
        eye = torch.eye(2, dtype=gaps.dtype, device=gaps.device)
        log_damping, variance = values["damping"].log(), values["scale"].square()
        turn = rotation(2 * math.pi * gaps / values["period"])
        anew = -torch.expm1(2 * gaps * log_damping) * variance
        fading = torch.exp(gaps * log_damping)
        return Block(fading[..., None, None] * turn, anew[..., None, None] * eye, variance[..., None] * eye)

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The first of the two states."""
        return torch.eye(2, dtype=like.dtype, device=like.device)[0]
