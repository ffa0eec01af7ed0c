"""Sharing of parameters between series: common to all, separate per series, or hierarchical."""

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

_SPREAD = (-1.5, 1.0)  # prior mean and standard deviation of the log of a learned spread


class Common(NamedTuple):
    r"""Location and spread of the coordinates of all series, (..., parameter) each.

    A spread of None means zero.
    """

    place: Tensor
    spread: Tensor | None

    def given(self, evidence: dist.Normal, sees: Tensor) -> dist.TorchDistribution:
        r"""Posterior of deviations d, batch (..., series), event (parameter,), given evidence on coordinates.

        .. math::
            q(d) \propto N(d;\ 0, I)\, N\left(m + s \odot d;\ \mu, \sigma^2\right)

        Args:
            evidence: Means and standard deviations of the coordinates, (series, parameter).
            sees: False where there is no evidence, (series, 1).
        """
        assert self.spread is not None
        precision = torch.where(sees, self.spread * evidence.scale.square().reciprocal(), 0.0)
        variance = 1 / (1 + self.spread * precision)
        loc = variance * precision * (evidence.loc - self.place)
        return dist.Normal(loc, variance.sqrt(), validate_args=False).to_event(1)


class Sharing(ABC):
    """Decides which coordinates are drawn outside the plate of series and which inside.

    Attributes:
        shared: Name of the site of coordinates shared by all series; empty if there is none.
        own: Name of the site of coordinates per series; empty if there is none.
        is_learned: Whether the spread of the series' coordinates is a latent, at the site ``spread``.
    """

    shared: ClassVar[str] = ""
    own: ClassVar[str] = ""

    @property
    def is_learned(self) -> bool:
        """False."""
        return False

    def around(self, place: Tensor) -> Common:
        """The common part given the location `place`, without a learned spread."""
        return Common(place, None)

    @abstractmethod
    def common(self, zeros: Tensor) -> Common:
        """Draw the part outside the plate; `zeros` (parameter,) give type and device."""

    def coordinates(self, common: Common) -> Tensor:
        """Draw the part inside the plate: coordinates (..., series, parameter), or (..., parameter) if shared."""
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
    """A separate set of parameters per series, like separate fits of single series."""

    own: ClassVar[str] = "coordinates"

    def common(self, zeros: Tensor) -> Common:
        """Only the prior is shared."""
        return Common(zeros, torch.ones_like(zeros))


@rebuildable
@dataclass(frozen=True)
class Hierarchical(Sharing):
    r"""Each series has its own parameters around common ones, so short series borrow strength from the others.

    .. math::
        c_n = m + s \odot d_n, \qquad m, d_n \sim N(0, I), \qquad \log s \sim N(-1.5, 1)

    in coordinates c, of which each parameter is a function: for a scale, its logarithm in units of 2. Sites: ``common``
    is m, ``spread`` is s, with one entry per parameter, and ``deviations`` are d.

    Args:
        spread: The spread s of all coordinates. Default: learned. Near 0 all series have the same parameters; far above
            1 they are independent.

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
        """Whether `spread` was not given."""
        return self.spread is None

    def around(self, place: Tensor) -> Common:
        """The common part, with the given spread."""
        return Common(place, None if self.spread is None else torch.full_like(place, self.spread))

    def common(self, zeros: Tensor) -> Common:
        """Draw the common coordinates, and the spread if it is learned."""
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
    """Draws (sample, parameter), as from `Predictive` with a guide without series sites, as (sample, 1, parameter)."""
    return drawn[:, None] if drawn.ndim == 2 else drawn
