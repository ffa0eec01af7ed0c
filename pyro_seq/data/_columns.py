"""Variables, inputs and static covariates by name; `select` is a method of ``Sequences``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyro_seq._arguments import described
from pyro_seq.data.labels import Labels, shortened
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    from pyro_seq.data.sequences import Sequences

COLUMNS = ("variables", "inputs")  # models identify these by position
_LISTED = 12  # most names that a message lists in full


def select(  # noqa: D417 - a method of `data`
    data: Sequences,
    *,
    variables: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    static: Sequence[str] | None = None,
) -> Sequences:
    """Select columns by name, in the given order; other columns are dropped.

    Models identify columns by position: ``data.select(variables=posterior.model.labels.variables)`` arranges a new
    table as in training.

    Args:
        variables: Names of the entries of an observation, at least one; unchanged by default.
        inputs: Names of the inputs, ``[]`` for none; unchanged by default.
        static: Names of the static covariates, as for `inputs`.

    Raises:
        DataError: When the data have no such names, or a name is given twice.

    Example:
        >>> import torch
        >>> from pyro_seq.data import Labels, Sequences
        >>> data = Sequences(torch.tensor([[[1.0, 2.0]]]), labels=Labels(variables=["pulse", "pressure"]))
        >>> data.select(variables=["pressure", "pulse"]).values
        tensor([[[2., 1.]]])
    """
    changes: dict[str, Any] = {}
    labels = data.labels
    if variables is not None:
        places = _places(labels, "variables", variables)
        if not places:
            raise DataError("`variables` must name at least one variable. Got none. Leave it out to keep them all.")
        changes["values"] = data.values[..., places]
        changes["mask"] = data.mask if data.mask.ndim == 2 else data.mask[..., places]
        labels = labels._with(variables=tuple(variables))
    for axis, names in (("inputs", inputs), ("static", static)):
        if names is not None:
            places = _places(labels, axis, names)
            changes[axis] = getattr(data, axis)[..., places] if places else None
            labels = labels._with(**{axis: tuple(names) or None})
    return data._with(**changes, labels=labels)


def _places(labels: Labels, axis: str, names: Any) -> list[int]:
    known = getattr(labels, axis)
    if isinstance(names, str) or not hasattr(names, "__len__"):
        raise DataError(f"`{axis}` must be a list of names. Got {described(names)}. Write `{axis}=[{names!r}]`.")
    if known is None and len(names):
        raise DataError(
            f"`{axis}` are asked for by name, {shortened(names)}, but these data have no names for them. Give them "
            f"some: `dataclasses.replace(data, labels=Labels({axis}=[...]))`, with `Labels` of `pyro_seq.data`."
        )
    if strange := [name for name in names if name not in known]:
        raise DataError(
            f"`{axis}` must be among those of the data, {', '.join(known)}. Got {shortened(strange)}. Correct the "
            f"name, or the names of the data: `dataclasses.replace(data, labels=Labels({axis}=[...]))`."
        )
    if len(set(names)) < len(names):
        raise DataError(f"`{axis}` must name each column once. Got {shortened(names, 20)}. Leave out all but one.")
    return [known.index(name) for name in names]


def _categories(wanted: Sequence[str], others: list[str]) -> str:
    """Index and argument that set the expected categories of a column, for data with other categories."""
    for column in (name.partition("=")[0] for name in others if "=" in name):
        known = [name.partition("=")[2] for name in wanted if name.startswith(f"{column}=")]
        if known:
            return f"[{column!r}], categories={known}"
    return ""


def require_same_names(labels: Labels, known: Labels, name: str, place: str, *, way_out: str = "") -> None:
    """Require the same names in the same order as other data; data without names are accepted.

    Args:
        labels: Labels of the data to check.
        known: The expected labels.
        name: Name of the argument, for the message.
        place: Where the `known` labels come from, such as ``train.labels``, for the message.
        way_out: Another remedy, for the message.

    Raises:
        DataError: With the missing, new or misplaced names, and the call that fixes it.
    """
    for axis in COLUMNS:
        wanted, came = getattr(known, axis), getattr(labels, axis)
        if wanted is None or came is None or wanted == came:
            continue
        missing, strange = [n for n in wanted if n not in came], [n for n in came if n not in wanted]
        if missing:
            got = f"{shortened(came)}, which lacks {shortened(missing)}"
            got += f" and has {shortened(strange)} beside them" if strange else ""
            remedy = f"Add what is missing, or rename: `dataclasses.replace({name}, labels=Labels({axis}=[...]))`"
        else:
            first = next(i for i, wish in enumerate(wanted) if wish != came[i]) if not strange else 0
            got = f"{came[first]!r} in the place of {wanted[first]!r}: {shortened(came)}"
            got = f"also {shortened(strange)}: {shortened(came)}" if strange else got
            names = list(wanted) if len(wanted) <= _LISTED else f"{place}.{axis}"
            remedy = f"Select them by name: `{name}.select({axis}={names})`"
        if entries := _categories(wanted, [*missing, *strange]):
            remedy = f"Read {name} with the categories of training: `pandas.Categorical(frame{entries})`"
        if axis == "inputs" and set(missing) and set(missing) <= set(labels.static or ()):
            remedy = f"Make inputs of static covariates: `{name}.with_static_as_inputs()`"
        raise DataError(
            f"`{name}.labels.{axis}` must be those of `{place}`, in their order, for columns are told apart by their "
            f"place: {shortened(wanted, 8)}. Got {got}. {remedy}{way_out}."
        )
