"""All parameters of a structure and its noise, as one vector of coordinates with a standard normal prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import require
from pyro_seq.nn.components.component import Structure
from pyro_seq.nn.components.noise import Noise
from pyro_seq.nn.components.series_units import SeriesUnits


class Values(NamedTuple):
    r"""Parameters by name, (\*batch, 1) each.

    Attributes:
        components: Parameters of each component.
        noise: Parameters of the noise.
    """

    components: list[dict[str, Tensor]]
    noise: dict[str, Tensor]


class ParameterTable(NamedTuple):
    """All parameters of a structure, one coordinate each: the components in order, then the noise.

    Attributes:
        structure: The components.
        noise: The observation noise.
    """

    structure: Structure
    noise: Noise

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the coordinates."""
        return tuple(f"{part.name}_{one.name}" for part in self._parts for one in part.parameters())

    def values(self, coordinates: Tensor, units: SeriesUnits) -> Values:
        """Parameters in the unit of the data, given coordinates (..., parameter)."""
        known, column = units.by_name(), iter(coordinates.split(1, -1))
        found = [{one.name: one.value(next(column), known) for one in part.parameters()} for part in self._parts]
        return Values(found[:-1], found[-1])

    def report(self, coordinates: Tensor, units: SeriesUnits) -> dict[str, Tensor]:
        """Parameters for reports, by full name, (...) each."""
        components, noise = self.values(coordinates, units)
        found: dict[str, Tensor] = {}
        for part, own in zip(self.structure.components, components, strict=True):
            found |= {f"{part.name}_{name}": value.squeeze(-1) for name, value in part.report(own).items()}
        return found | {f"{self.noise.name}_{name}": value.squeeze(-1) for name, value in noise.items()}

    def coordinates(self, parameters: Mapping[str, float | Tensor], units: SeriesUnits) -> Tensor:
        """Coordinates (..., parameter) of parameters in the unit of the data, numbers or (...) each.

        Raises:
            DataError: When a name is unknown or missing.
        """
        require(set(parameters) == set(self.names), "parameters", f"named {list(self.names)}", list(parameters))
        known, like = units.by_name(), units.spread
        given = (torch.as_tensor(parameters[name], dtype=like.dtype, device=like.device) for name in self.names)
        own = (one for part in self._parts for one in part.parameters())
        columns = [one.coordinate(value, known) for one, value in zip(own, given, strict=True)]
        return torch.stack(torch.broadcast_tensors(*columns), -1).detach()

    @property
    def _parts(self) -> tuple:
        return (*self.structure.components, self.noise)
