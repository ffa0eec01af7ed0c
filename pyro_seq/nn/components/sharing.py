"""Who has the parameters of many series: all together, each its own, or each its own around those of all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable

_SPREAD = (-1.5, 1.0)  # of the logarithm of a spread that is learned: mean and standard deviation before data are seen


class Common(NamedTuple):
    r"""What is known of the coordinates of all series, (..., parameter) each: around which place, and how far from it.

    A spread of None stands for no distance at all.
    """

    place: Tensor
    spread: Tensor | None

    def given(self, evidence: dist.Normal, sees: Tensor) -> dist.TorchDistribution:
        r"""Deviations d of series (..., series), event (parameter,), of whose coordinates there is some evidence.

        .. math::
            q(d) \propto N(d;\ 0, I)\, N\left(m + s \odot d;\ \mu, \sigma^2\right)

        Args:
            evidence: Means and deviations, (series, parameter).
            sees: False where there is none after all, (series, 1).
        """
        assert self.spread is not None
        precision = torch.where(sees, self.spread * evidence.scale.square().reciprocal(), 0.0)
        variance = 1 / (1 + self.spread * precision)
        loc = variance * precision * (evidence.loc - self.place)
        return dist.Normal(loc, variance.sqrt(), validate_args=False).to_event(1)


class Sharing(ABC):
    """Decides which coordinates are drawn above the plate of series and which inside.

    Attributes:
        shared: Name of the site of coordinates that all series share; empty when there is none.
        own: Name of the site that each series has of its own; empty when there is none.
        is_learned: Whether the spread of the own ones is a latent, at the site ``spread``.
    """

    shared: ClassVar[str] = ""
    own: ClassVar[str] = ""

    @property
    def is_learned(self) -> bool:
        """False."""
        return False

    def around(self, place: Tensor) -> Common:
        """What is common once the place is known, but for a spread that is learned."""
        return Common(place, None)

    @abstractmethod
    def common(self, zeros: Tensor) -> Common:
        """Draw what is above the plate; `zeros` (parameter,) are of the wanted type and device."""

    def coordinates(self, common: Common) -> Tensor:
        """Draw what is inside the plate: coordinates (..., series, parameter), or (..., parameter) of all series."""
        if common.spread is None:
            return common.place
        zeros = torch.zeros_like(common.spread)
        deviations = pyro.sample(self.own, dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
        return common.place + common.spread * deviations


@rebuildable
@dataclass(frozen=True)
class Shared(Sharing):
    """One set of parameters for all series."""

    shared: ClassVar[str] = "coordinates"

    def common(self, zeros: Tensor) -> Common:
        """The coordinates."""
        return Common(_standard_normal(self.shared, zeros), None)


@rebuildable
@dataclass(frozen=True)
class PerSeries(Sharing):
    """A set of parameters for each series, which says nothing of those of others: as so many single fits."""

    own: ClassVar[str] = "coordinates"

    def common(self, zeros: Tensor) -> Common:
        """Nothing is shared but the prior."""
        return Common(zeros, torch.ones_like(zeros))


@rebuildable
@dataclass(frozen=True)
class Hierarchical(Sharing):
    r"""Each series has parameters of its own around those that all share: short series lean on the others.

    .. math::
        c_n = m + s \odot d_n, \qquad m, d_n \sim N(0, I), \qquad \log s \sim N(-1.5, 1)

    in coordinates c, of which a parameter is a function: of a scale they are its logarithm, in units of two. Sites:
    ``common`` is m, ``spread`` is s, an entry for each parameter, and ``deviations`` are d.

    Args:
        spread: The spread s of all coordinates, when it is known; learned when absent. Towards 0 series have the same
            parameters, and far above 1 each has its own.

    Raises:
        DataError: When the spread is not positive.

    References:
        Gelman, Hill, "Data analysis using regression and multilevel/hierarchical models", 2007.
    """

    shared: ClassVar[str] = "common"
    own: ClassVar[str] = "deviations"
    spread: float | None = None

    def __post_init__(self) -> None:
        require(self.spread is None or is_positive(self.spread), "spread", "a positive number, or None", self.spread)

    @property
    def is_learned(self) -> bool:
        """Whether it was not given."""
        return self.spread is None

    def around(self, place: Tensor) -> Common:
        """With the spread that was given."""
        return Common(place, None if self.spread is None else torch.full_like(place, self.spread))

    def common(self, zeros: Tensor) -> Common:
        """Where all lie, and how far from there each."""
        place = _standard_normal(self.shared, zeros)
        if self.spread is not None:
            return self.around(place)
        loc, scale = _SPREAD
        spread = pyro.sample("spread", dist.LogNormal(zeros + loc, scale).to_event(1))
        return Common(place, _above_series(spread))


def _standard_normal(name: str, zeros: Tensor) -> Tensor:
    eye = torch.eye(len(zeros), dtype=zeros.dtype, device=zeros.device)
    return _above_series(pyro.sample(name, dist.MultivariateNormal(zeros, scale_tril=eye)))


def _above_series(drawn: Tensor) -> Tensor:
    """Draws (sample, parameter), as `Predictive` has them of a guide without sites of series, as (sample, 1, ...)."""
    return drawn[:, None] if drawn.ndim == 2 else drawn
