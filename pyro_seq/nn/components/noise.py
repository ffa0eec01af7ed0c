"""The noise of an observation of a structural series: Gaussian, or with now and then a value that is far off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._arguments import real_number
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.gamma_path import GammaPath
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.nn.components.parameter import Parameter, positive

_ROUNDS = 4  # of weights: any give a bound, and a few a tight one
# without a floor the likelihood of a series that holds no surprise, such as a constant one, has no maximum
_SCALE = Parameter("scale", positive(0.3, floor=1e-3), "change")


class Noise(ABC):
    """What an observation adds to the sum of the components.

    Attributes:
        name: What its parameters are called.
        has_weights: Whether the precision differs from entry to entry, by a weight that is a latent.
    """

    name: ClassVar[str] = "noise"
    has_weights: ClassVar[bool] = False

    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """What it has to be told."""


@rebuildable
@dataclass(frozen=True)
class GaussianNoise(Noise):
    """Normal noise of one standard deviation, ``noise_scale``."""

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale."""
        return (_SCALE,)


@rebuildable
@dataclass(frozen=True)
class StudentTNoise(Noise):
    r"""Student-t noise, which an outlier surprises less: normal noise whose precision varies from entry to entry.

    .. math::
        x_t = \sum_k c_{k,t} + \frac{\sigma}{\sqrt{w_t}} N(0, 1), \qquad
        w_t \sim \mathrm{Gamma}\left(\frac{\nu}{2}, \frac{\nu}{2}\right)

    The weights w are latents of each series, and given them all is Gaussian. Parameters: ``noise_scale``, which is
    :math:`\sigma`, and ``noise_df``, the degrees of freedom :math:`\nu`, where they are not given.

    Args:
        df: Degrees of freedom, above 2; learned when absent.

    Raises:
        DataError: When `df` is not above 2.

    References:
        Harvey and Koopman (2000), Signal extraction and the formulation of unobserved components models.
    """

    has_weights: ClassVar[bool] = True
    df: float | None = None

    def __post_init__(self) -> None:
        if self.df is not None:
            object.__setattr__(self, "df", real_number(self.df, "df", 2.0 + 1e-6))

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale, and the degrees of freedom where they are learned."""
        learned = () if self.df is not None else (Parameter("df", positive(8.0, deviation=1.0, floor=2.0)),)
        return (_SCALE, *learned)

    def weights(self, values: Mapping[str, Tensor], data: Sequences) -> GammaPath:
        r"""Law of the weights before a series is seen, given parameters by name (\*batch, 1)."""
        half = self._df(values) / 2
        return GammaPath(half, half, data.num_steps, valid=_valid(data))

    @torch.no_grad()
    def weights_given(
        self, law_given: Callable[[Tensor], LinearGaussian], values: Mapping[str, Tensor], data: Sequences
    ) -> GammaPath:
        r"""Law of the weights given a series, where they are taken as independent of the states; without gradients.

        .. math::
            q(w_t) = \mathrm{Gamma}\left(\frac{\nu + 1}{2}, \frac{\nu + r_t^2}{2}\right), \qquad
            r_t^2 = \mathbb E \left(x_t - \textstyle\sum_k c_{k,t}\right)^2 / \sigma^2

        with the expectation over states given the mean weights, in turn. Both are then the best of a bound on the
        evidence, whose gradient by them is zero. Hidden entries have the prior.

        Args:
            law_given: Law of a series given weights (\*batch, time, 1).
            values: Parameters by name, (\*batch, 1).
            data: The series, without a horizon.
        """
        df, seen, weights = self._df(values), data.entry_mask, torch.ones_like(data.values)
        variance, rate = values["scale"].square()[..., None], torch.ones_like(weights)
        for _ in range(_ROUNDS):
            path = law_given(weights).replicate(data.values).states()
            square = ((data.values - path.loc).square() + path.scale.square()) / variance
            rate = torch.where(seen, df + square, df) / 2
            weights = (df + seen) / (2 * rate)
        return GammaPath((df + seen) / 2, rate, data.num_steps, valid=_valid(data))

    def _df(self, values: Mapping[str, Tensor]) -> Tensor:
        r"""Degrees of freedom at all steps, (\*batch, 1, 1)."""
        return (values["df"] if self.df is None else torch.full_like(values["scale"], self.df))[..., None]


def _valid(data: Sequences) -> Tensor:
    """True up to the last observed step, (series, time)."""
    return torch.arange(data.num_steps, device=data.device) < data.lengths[:, None]
