"""Observation noise of a structural series: Gaussian, or Student-t for occasional outliers."""

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

_ROUNDS = 4  # of updates of the weights: any number gives a bound, and a few a tight one
# without a floor the likelihood of a perfectly predictable series, such as a constant one, has no maximum
_SCALE = Parameter("scale", positive(0.3, floor=1e-3), "change")


class Noise(ABC):
    """The noise that an observation adds to the sum of the components.

    Attributes:
        name: Prefix of the parameters.
        has_weights: Whether the precision varies between entries, by latent weights.
    """

    name: ClassVar[str] = "noise"
    has_weights: ClassVar[bool] = False

    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the noise."""


@rebuildable
@dataclass(frozen=True)
class GaussianNoise(Noise):
    """Normal noise with standard deviation ``noise_scale``."""

    def parameters(self) -> tuple[Parameter, ...]:
        """The scale."""
        return (_SCALE,)


@rebuildable
@dataclass(frozen=True)
class StudentTNoise(Noise):
    r"""Student-t noise, robust to outliers: normal noise whose precision varies between entries.

    .. math::
        x_t = \sum_k c_{k,t} + \frac{\sigma}{\sqrt{w_t}} N(0, 1), \qquad
        w_t \sim \mathrm{Gamma}\left(\frac{\nu}{2}, \frac{\nu}{2}\right)

    The weights w are latents of each series; given them, the model is Gaussian. Parameters: ``noise_scale``, which is
    :math:`\sigma`, and ``noise_df``, the degrees of freedom :math:`\nu`, unless `df` is given.

    Args:
        df: Degrees of freedom, above 2. Default: learned.

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
        """The scale, and the degrees of freedom if learned."""
        learned = () if self.df is not None else (Parameter("df", positive(8.0, deviation=1.0, floor=2.0)),)
        return (_SCALE, *learned)

    def weights(self, values: Mapping[str, Tensor], data: Sequences) -> GammaPath:
        r"""Prior of the weights, given parameters by name (\*batch, 1)."""
        half = self._df(values) / 2
        return GammaPath(half, half, data.num_steps, valid=_valid(data))

    @torch.no_grad()
    def weights_given(
        self, law_given: Callable[[Tensor], LinearGaussian], values: Mapping[str, Tensor], data: Sequences
    ) -> GammaPath:
        r"""Posterior of the weights given a series, approximated as independent of the states; without gradients.

        .. math::
            q(w_t) = \mathrm{Gamma}\left(\frac{\nu + 1}{2}, \frac{\nu + r_t^2}{2}\right), \qquad
            r_t^2 = \mathbb E \left(x_t - \textstyle\sum_k c_{k,t}\right)^2 / \sigma^2

        where the expectation is over states given the mean weights; the two are updated in turn. Both then maximise a
        bound on the evidence, whose gradient with respect to them is zero. Hidden entries have the prior.

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
