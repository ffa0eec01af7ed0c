"""``Seasonal``: a pattern of known period, by cosines and sines whose amplitudes drift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from pyro_seq._arguments import real_number, whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError
from pyro_seq.nn.components._rotation import rotation
from pyro_seq.nn.components.component import Block, Component
from pyro_seq.nn.components.parameter import Parameter, positive


@rebuildable
@dataclass(frozen=True)
class Seasonal(Component):
    r"""A pattern that repeats with a known period and may change slowly: a sum of harmonics.

    .. math::
        s_t = \sum_{j=1}^h \gamma_{j,t}, \qquad
        \begin{pmatrix} \gamma_{j,t} \\ \gamma^*_{j,t} \end{pmatrix} =
        \begin{pmatrix} \cos \lambda_j \Delta_t & \sin \lambda_j \Delta_t \\
        -\sin \lambda_j \Delta_t & \cos \lambda_j \Delta_t \end{pmatrix}
        \begin{pmatrix} \gamma_{j,t-1} \\ \gamma^*_{j,t-1} \end{pmatrix} + N(0, \Delta_t \sigma^2 I),
        \qquad \lambda_j = \frac{2 \pi j}{\text{period}}

    For steps of any length; only the harmonic with a period of two steps, the last one of an even period, needs whole
    steps. Parameters: ``seasonal_scale``, the standard deviation of the noise per step on each state.

    Args:
        period: Period in steps, at least 2; need not be whole, such as ``365.25``.
        harmonics: Number of harmonics, up to half the period. Default: all, which is many for a long period; a smooth
            pattern needs only a few.
        name: Name of the path, and prefix of the parameters.

    Raises:
        DataError: When an argument is out of range.

    References:
        Harvey (1989), Forecasting, structural time series models and the Kalman filter, section 2.3.4.
    """

    period: float
    harmonics: int | None = None
    _: KW_ONLY
    name: str = "seasonal"

    def __post_init__(self) -> None:
        period, most = real_number(self.period, "period", 2.0), math.floor(self.period / 2)
        harmonics = most if self.harmonics is None else whole_number(self.harmonics, "harmonics", 1)
        if harmonics > most:
            raise DataError(
                f"`harmonics` must be at most half the period, {most} for {period:g} steps: what is faster cannot be "
                f"told from them. Got {harmonics}."
            )
        object.__setattr__(self, "period", period)
        object.__setattr__(self, "harmonics", harmonics)

    @property
    def has_whole_steps(self) -> bool:
        """True with the harmonic of two steps: on whole steps only one of its two states is ever observed."""
        return 2 * self._count == self.period

    @property
    def _count(self) -> int:
        assert self.harmonics is not None
        return self.harmonics

    @property
    def state_dim(self) -> int:
        """Two per harmonic, but one for the harmonic of two steps."""
        return 2 * self._count - self.has_whole_steps

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale of the noise."""
        return (Parameter("scale", positive(0.01), "change"),)

    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """Rotations of all harmonics, each by its angle."""
        gaps = gaps.round() if self.has_whole_steps else gaps
        numbers = torch.arange(1, self._count + 1, dtype=gaps.dtype, device=gaps.device)
        turns = rotation(2 * math.pi / self.period * gaps[..., None] * numbers)
        size = 2 * self._count
        transition = turns.new_zeros(*gaps.shape, size, size)
        for number in range(self._count):
            at = slice(2 * number, 2 * number + 2)
            transition[..., at, at] = turns[..., number, :, :]
        dim = self.state_dim  # on whole steps, the second state of the half-circle pair is never observed
        eye = torch.eye(dim, dtype=gaps.dtype, device=gaps.device)
        variance = gaps * values["scale"].square()
        return Block(transition[..., :dim, :dim], variance[..., None, None] * eye)

    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """The sum of the first state of each pair."""
        first = torch.eye(2, dtype=like.dtype, device=like.device)[0]
        return first.repeat(self._count)[: self.state_dim]
