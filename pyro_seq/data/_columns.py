"""Variables, inputs and static covariates by name; `select` is a method of ``Sequences``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyro_seq._arguments import described
from pyro_seq.data.labels import Labels, shortened
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    from pyro_seq.data.sequences import Sequences

COLUMNS = ("variables", "inputs")  # what a model tells apart by its place
_LISTED = 12  # names, at most, that a message has in full


def select(  # noqa: D417 - a method of `data`
    data: Sequences,
    *,
    variables: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
    static: Sequence[str] | None = None,
) -> Sequences:
    """Columns by name, in the order of the names; what is not named is dropped.

    A model tells columns apart by their place: ``data.select(variables=posterior.model.labels.variables)`` puts those
    of a new table where they were in training.

    Args:
        variables: Names of the entries of an observation, at least one; all as they are when absent.
        inputs: Names of the inputs, ``[]`` for none of them; all as they are when absent.
        static: Names of the static covariates, alike.

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
    """Index and argument that give a column the categories it is known with, where others have come."""
    for column in (name.partition("=")[0] for name in others if "=" in name):
        known = [name.partition("=")[2] for name in wanted if name.startswith(f"{column}=")]
        if known:
            return f"[{column!r}], categories={known}"
    return ""


def require_same_names(labels: Labels, known: Labels, name: str, place: str, *, way_out: str = "") -> None:
    """Refuse names that are not those of other data, in their order; what has no names is taken as it is.

    Args:
        labels: Of the data in question.
        known: What they should be.
        name: Of the argument, for the message.
        place: Where the labels are that are `known`, such as ``train.labels``, for the message.
        way_out: What else may be done, for the message.

    Raises:
        DataError: With what is missing, what is new or in another place, and the call that mends it.
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
