"""Emission of tables whose columns are of different kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_seq._arguments import require, whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.columns import Columns
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.emission import Emission


@rebuildable
class ColumnsEmission(Emission):
    """Joins columns of different kinds over one latent path: each part is the emission of some columns.

    One decoder outputs one number per column, and each part reads its own. Given the latents all columns are
    independent; only the shared path makes them dependent.

    Args:
        parts: Pairs of columns and their emission, ``[([0, 1, 4], GaussianEmission()), (slice(2, 4), ...)]``: column
            numbers, or slices with a stop. Each column belongs to one part.
        decoder: Maps positions (batch, dim) to the input of the parts (batch, column); by default the model's.

    Raises:
        DataError: When columns are missing or given twice, or a part has a decoder.

    Example:
        >>> import pyro_seq as ps
        >>> emission = ColumnsEmission([([0, 2], ps.GaussianEmission()), ([1], ps.PoissonEmission())])
        >>> emission.columns
        ((0, 2), (1,))
    """

    def __init__(
        self, parts: Sequence[tuple[Sequence[int] | slice, Emission]], decoder: nn.Module | None = None
    ) -> None:
        super().__init__(decoder)
        pairs = [_checked(pair) for pair in parts]
        self.columns = tuple(columns for columns, _ in pairs)
        self.emissions = nn.ModuleList(emission for _, emission in pairs)
        found = sorted(column for columns in self.columns for column in columns)
        if not found or found != list(range(len(found))):
            raise DataError(
                f"`parts` must share out the columns 0, 1, 2, ... without gaps, each to one part. Got {self.columns}."
            )

    @property
    def parts(self) -> tuple[tuple[tuple[int, ...], Emission], ...]:
        """Pairs of columns and their emission."""
        return tuple(zip(self.columns, self.emissions, strict=True))  # type: ignore[arg-type]

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        """The distributions of the parts, joined, given the output of the decoder (..., column)."""
        laws = [emission.given(decoded[..., list(columns)]) for columns, emission in self.parts]
        return Columns(self.columns, laws, validate_args=False)

    @property
    def raw_inputs(self) -> tuple[str | int, ...]:
        """The raw inputs of all parts."""
        return tuple(column for _, emission in self.parts for column in emission.raw_inputs)

    def under_inputs(self, law: Any, data: Sequences, steps: slice) -> dist.TorchDistribution:
        """The law of each part under the inputs that it reads."""
        if not self.raw_inputs:
            return law
        pairs = zip(self.parts, law.parts, strict=True)
        laws = [emission.under_inputs(own, data, steps) for (_, emission), own in pairs]
        return Columns(self.columns, laws, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse tables with another number of columns, and values that the parts refuse."""
        size = sum(map(len, self.columns))
        if data.obs_shape != (size,):
            raise ShapeError(
                f"`data.values` must have {size} columns, those of the parts of the emission. Got observations of "
                f"shape {data.obs_shape}. Name all columns in `parts`."
            )
        for own, (columns, emission) in zip(self._dealt(data), self.parts, strict=True):
            try:
                emission.check(own)
            except DataError as error:
                raise DataError(f"In the columns {list(columns)}, whose first is variable 0: {error}") from error

    def adapt(self, data: Sequences) -> None:
        """Let each part set its units from its columns."""
        for own, emission in zip(self._dealt(data), self.emissions, strict=True):
            emission.adapt(own)  # type: ignore[operator]

    def _dealt(self, data: Sequences) -> Iterator[Sequences]:
        for columns in map(list, self.columns):
            mask = data.mask if data.mask.ndim == 2 else data.mask[..., columns]
            labels = data.labels.of_variables(columns)
            yield dataclasses.replace(data, values=data.values[..., columns], mask=mask, labels=labels)


def _checked(pair: tuple[Sequence[int] | slice, Emission]) -> tuple[tuple[int, ...], Emission]:
    require(isinstance(pair, tuple) and len(pair) == 2, "parts", "pairs of columns and their emission", pair)
    columns, emission = pair
    if isinstance(columns, slice):
        if columns.stop is None or columns.stop < 0 or (columns.start or 0) < 0:
            raise DataError(f"`parts` must have slices from a column to another, `slice(2, 5)`. Got {columns}.")
        columns = range(columns.stop)[columns]
    if not isinstance(emission, Emission) or isinstance(emission, ColumnsEmission):
        raise DataError(f"`parts` must pair columns with an emission such as `GaussianEmission()`. Got {emission!r}.")
    if hasattr(emission, "measure"):
        raise DataError(
            f"`parts` must have noise of their own. Got {emission!r}, whose noise is measured on whole images. Use "
            "`ContinuousBernoulliEmission` for shares in [0, 1]."
        )
    if getattr(emission, "has_state_noise", False):
        raise DataError(
            f"`parts` must read one number for each column. Got {emission!r}, whose noise is decoded beside its mean. "
            "Leave out `has_state_noise`."
        )
    if emission.decoder is not None:
        raise DataError(
            f"`parts` must not bring decoders, for one writes what all of them read. Got {emission!r}. Pass it as "
            "`decoder=`."
        )
    return tuple(whole_number(column, "parts") for column in columns), emission
