"""``Labels``: names of the variables, inputs, static covariates and series of a data set."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from pyro_seq._arguments import described
from pyro_seq.errors import DataError, ShapeError


@dataclass(frozen=True)
class Labels:
    """Names along the axes of ``Sequences``; None if an axis has none. They do not affect any computation.

    Selections keep the labels of the selected items. A series that is selected twice has its label twice; all windows
    of a series share its label.

    Args:
        variables: Names of the entries of an observation, for data of shape (series, time, obs).
        inputs: Names of the inputs.
        static: Names of the static covariates.
        series: A text or a whole number per series, such as a patient number.

    Raises:
        DataError: When labels are of another type, or not unique.

    Example:
        >>> labels = Labels(variables=["pulse", "pressure"], series=["a", "b"])
        >>> labels.variables
        ('pulse', 'pressure')
    """

    variables: Sequence[str] | None = None
    inputs: Sequence[str] | None = None
    static: Sequence[str] | None = None
    series: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        for axis in AXES:
            given = getattr(self, axis)
            self.__dict__[axis] = None if given is None else _checked(given, axis)

    def __repr__(self) -> str:
        named = {axis: labels for axis in AXES if (labels := getattr(self, axis)) is not None}
        return f"Labels({'; '.join(f'{axis} {shortened(labels)}' for axis, labels in named.items())})"

    def check(self, sizes: Mapping[str, int | None]) -> None:
        """Raise if the number of labels is not the size of their axis; the size None means that there is no such axis.

        Raises:
            ShapeError: With the axis, its number of labels and the number needed.
        """
        for axis, size in sizes.items():
            labels = getattr(self, axis)
            if labels is None or len(labels) == size:
                continue
            wanted = f"must name each of {size}" if size is not None else f"must be None for {_ABSENT[axis]}"
            raise ShapeError(f"`labels.{axis}` {wanted}. Got {len(labels)}: {shortened(labels)}. Correct the names.")

    def of(self, axis: str, shape: Sequence[int]) -> list[Any]:
        """The labels of an axis; without labels, numbers for series and names like ``input_0`` for other axes.

        Entries of an observation with several axes have one number per axis, ``x_0_3``.
        """
        given = getattr(self, axis)
        if given is not None:
            return list(given)
        if axis == "series":
            return list(range(*shape))
        positions = itertools.product(*map(range, shape))
        return ["_".join([_SINGULAR[axis], *map(str, position)]) for position in positions]

    def of_series(self, chosen: slice | Tensor) -> Labels:
        """These labels with those of the chosen series only."""
        if self.series is None:
            return self
        numbers = range(len(self.series))[chosen] if isinstance(chosen, slice) else chosen.tolist()
        return self._with(series=tuple(self.series[number] for number in numbers))

    def of_variables(self, columns: Sequence[int]) -> Labels:
        """These labels with those of the chosen variables only."""
        if self.variables is None:
            return self
        return self._with(variables=tuple(self.variables[column] for column in columns))

    def with_static_as_inputs(self, num_inputs: int, num_static: int) -> Labels:
        """Names of the inputs followed by those of the static covariates, which become inputs."""
        if self.inputs is None and self.static is None:
            return self
        return self._with(inputs=(*self.of("inputs", [num_inputs]), *self.of("static", [num_static])), static=None)

    def _with(self, **changes: Any) -> Labels:
        """A copy with some labels changed, without checks."""
        copy = object.__new__(Labels)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    # ------------------------------------------------------------------ files

    def plain(self) -> dict[str, tuple[str | int, ...]]:
        """The existing labels, by axis, as plain data for a file."""
        return {axis: labels for axis, labels in zip(AXES, astuple(self), strict=True) if labels is not None}

    @classmethod
    def restored(cls, plain: Mapping[str, Collection[Any]]) -> Labels:
        """Labels from the result of `plain`; several series may share a label."""
        names: dict[str, Any] = {axis: labels for axis, labels in plain.items() if axis != "series"}
        return cls(**names)._with(series=_tuple_of(plain.get("series")))


AXES = tuple(field.name for field in fields(Labels))
_SINGULAR = {"variables": "x", "inputs": "input", "static": "static"}
_ABSENT = {
    "variables": "observations of more axes than one, (series, time, obs)",
    "inputs": "data without `inputs`",
    "static": "data without `static`",
}


def shortened(labels: Sequence[Any], most: int = 4) -> str:
    """The first labels and the total number, as text."""
    text = ", ".join(map(str, labels[:most]))
    return text if len(labels) <= most else f"{text}, ... ({len(labels)})"


def _checked(labels: Any, axis: str) -> tuple[Any, ...]:
    kinds = "texts or whole numbers" if axis == "series" else "texts"
    listed = None if isinstance(labels, str | Mapping | Tensor) or not hasattr(labels, "__len__") else _tuple_of(labels)
    if listed is None:
        raise DataError(f"`{axis}` must be a list of {kinds}. Got {described(labels)}. Put them into a list.")
    for label in listed:
        is_number = axis == "series" and isinstance(label, int) and not isinstance(label, bool)
        if not (is_number or isinstance(label, str)) or type(label) is not type(listed[0]):
            raise DataError(
                f"`{axis}` must be {kinds}, all of one kind. Got {label!r} after {listed[0]!r}. Convert them: "
                "`[str(label) for label in labels]`."
            )
    if len(set(listed)) < len(listed):
        twice = next(label for label in listed if listed.count(label) > 1)
        raise DataError(f"`{axis}` must be unique. Got {twice!r} {listed.count(twice)} times. Rename all but one.")
    return listed


def _tuple_of(labels: Any) -> tuple[Any, ...] | None:
    """Python texts and numbers from a list, an array or a column."""
    return None if labels is None else tuple(np.asarray(labels).tolist() if hasattr(labels, "dtype") else labels)
