"""``Component``, the interface of a part of a structural time series, and ``Structure``, a sum of components."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError
from pyro_seq.nn.components.parameter import Parameter


class Block(NamedTuple):
    """The state equation of one component, for each gap between two steps.

    Attributes:
        transition: (..., gap, state, state); one gap if it is the same for all.
        transition_cov: Same shape, or one that broadcasts.
        initial_cov: The stationary covariance, (..., state, state); None for a component that is not stationary.
    """

    transition: Tensor
    transition_cov: Tensor
    initial_cov: Tensor | None = None


class Component(ABC):
    """A part of a series with its own state: it adds a number to each observation.

    Components are added, as in ``Level() + Seasonal(12)``. Steps are those of the model, see `StructuralSeries`.

    Attributes:
        name: Name of the path, and prefix of the parameters; components of one sum have different names.
        has_level: True if the first state is a level with an unknown start.
        is_static: True if the state never changes.
        is_stationary: True if it starts from its stationary distribution; otherwise the start is unknown (diffuse).
        num_inputs: Number of entries of ``data.inputs`` that the component reads.
    """

    name: str
    has_level: ClassVar[bool] = False
    is_static: ClassVar[bool] = False
    is_stationary: ClassVar[bool] = False
    num_inputs: int = 0

    def __add__(self, other: Component | Structure) -> Structure:
        return Structure((self,)) + other

    @property
    def has_whole_steps(self) -> bool:
        """Whether the component is defined only on whole steps; False unless overridden."""
        return False

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """Number of states."""

    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the component."""

    @abstractmethod
    def block(self, values: Mapping[str, Tensor], gaps: Tensor) -> Block:
        """The state equation.

        Args:
            values: Parameters by name, (..., 1) each, to be broadcast against the gaps.
            gaps: Steps from one observation to the next, (gap,).
        """

    @abstractmethod
    def observation(self, like: Tensor, inputs: Tensor | None) -> Tensor:
        """Observation row: (state,), or (series, time, state) if it depends on the inputs (..., input).

        `like` is a tensor with the required type and device.
        """

    def report(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters for reports, (...) each."""
        return dict(values)


@rebuildable
@dataclass(frozen=True)
class Structure:
    """A sum of components.

    Args:
        components: The components, with different names.

    Raises:
        DataError: When another object is added, or two components have the same name.
    """

    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        for component in self.components:
            if not isinstance(component, Component):
                raise DataError(
                    f"A structure must be a sum of components, such as `Level() + Seasonal(12)`. Got {component!r}."
                )
        names = [component.name for component in self.components]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"Components of a sum must have different names. Got {', '.join(twice)} more than once. Name them: "
                f"`Seasonal(7, name='week') + Seasonal(365.25, harmonics=3, name='year')`."
            )

    def __add__(self, other: Component | Structure) -> Structure:
        return Structure((*self.components, *(other.components if isinstance(other, Structure) else (other,))))
