"""``save`` and ``load``: a posterior in one file."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import warnings
from itertools import chain
from typing import Any

import torch

from pyro_seq import nn
from pyro_seq._files import StrPath, file_path
from pyro_seq._options import options_of
from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng
from pyro_seq._recipes import rebuilt, recipe, unknown
from pyro_seq.data import Labels, Sequences
from pyro_seq.data.calendar import Calendar
from pyro_seq.door import require_posterior, require_type
from pyro_seq.errors import CheckpointError, NumericalError, UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.model import SequenceModel
from pyro_seq.nn.saved_state import expected_weights, measured_names
from pyro_seq.posterior import GuidePosterior, PointPosterior, Posterior, StoredPosterior
from pyro_seq.training.files import (
    class_name,
    differences,
    not_finite,
    option_differences,
    read,
    refuse,
    renamed,
    write,
)

_DATA_FIELDS = ("values", "mask", "times", "inputs", "context", "index", "total")


@one_at_a_time
def save(posterior: Posterior, path: StrPath) -> None:
    """Write a fitted model to one file, atomically: if writing fails, an existing file is unchanged.

    Args:
        posterior: The result of `fit`.
        path: The file; missing folders are created and an existing file is replaced.

    Raises:
        CheckpointError: When the file cannot be written.
        DataError: When an argument is of another type.
        NumericalError: When weights are not finite.
        UnsupportedError: When this kind of posterior has no file format.

    Example:
        >>> save(posterior, "model.pt")  # doctest: +SKIP
        >>> posterior = load("model.pt")  # doctest: +SKIP
    """
    require_posterior(posterior)
    path, model = file_path(path), posterior.model
    if bad := not_finite(model.state_dict(), model):
        raise NumericalError(f"`posterior.model` must be finite to be saved. Got {'; '.join(bad[:5])}. Train it anew.")
    payload: dict[str, Any] = {
        "class": class_name(model),
        "model": dict(model.state_dict()),
        "options": options_of(model),
        "recipe": recipe(model),
    }
    if isinstance(posterior, GuidePosterior):
        payload |= {"kind": "guide", "history": posterior.history, "status": posterior.status}
        payload["has_met_gaps"] = posterior.has_met_gaps
    elif isinstance(posterior, ChainPosterior):
        payload |= {"kind": "chains", **posterior.options()}
    elif isinstance(posterior, PointPosterior):
        payload |= {"kind": "point", "sites": posterior.sites, "history": posterior.history}
        if posterior.data is not None:
            payload |= {"own_sites": sorted(posterior.own_sites), "data": _plain(posterior.data)}
    elif isinstance(posterior, StoredPosterior):
        payload |= {
            "kind": "stored",
            "sites": posterior.sites,
            "global_sites": sorted(posterior.global_sites),
            "sample_stats": posterior.sample_stats,
            "data": _plain(posterior.data),
        }
    else:
        raise UnsupportedError(
            f"`save` knows guides, chains, points and stored draws. Got {type(posterior).__name__}. Save "
            "`model.state_dict()`."
        )
    try:
        write(payload, path)
    except OSError as error:
        raise CheckpointError(
            f"`path` {str(path)!r} could not be written ({error}). Free some space or choose another."
        ) from error


def _plain(data: Sequences) -> dict[str, Any]:
    """All fields, optional ones only if present, with non-tensor fields as plain data."""
    calendar = None if data.calendar is None else dataclasses.astuple(data.calendar)
    fields = {"calendar": calendar, "static": data.static, "labels": data.labels.plain() or None}
    always = {name: getattr(data, name) for name in _DATA_FIELDS}
    return always | {name: field for name, field in fields.items() if field is not None}


@one_at_a_time
def load(
    path: StrPath, model: SequenceModel | None = None
) -> GuidePosterior | ChainPosterior | PointPosterior | StoredPosterior:
    """Read a file written by `save`; rebuild its model, or load the weights into a given model of the same structure.

    Models of the library that consist of library parts and torch layers are rebuilt from the arguments in the file. A
    file can only name classes from a fixed list: reading it never executes code from the file.

    Args:
        path: The file.
        model: A model of the same class, sizes and options; its weights are replaced, or unchanged if anything does
            not match. Needed for custom models and parts, and for files of versions that did not store options.

    Raises:
        CheckpointError: When the file is incomplete, altered, of another format version, not finite, or of another
            model; the message lists the differences by the names of parts and options.

    Warns:
        UserWarning: When the file lacks one or all options, so that they could not be compared, or when the noise of
            its predictions was never measured.
    """
    path = file_path(path)
    if model is not None:
        require_type(model, SequenceModel, "model")
    payload = read(path)
    if payload.get("kind") not in ("guide", "chains", "point", "stored"):
        raise CheckpointError(
            f"{str(path)!r} holds a training run, not a posterior. Resume it: `Trainer(resume=True)`."
        )
    remedy = "Build the model with the arguments of the saved one."
    if model is None:
        model = _rebuilt(payload, path)
        remedy = "It was changed after it was made. Build it as it was saved, and pass it: `load(path, model)`."
    weights = renamed(payload["model"], model.renamed_parts)
    problems = differences({"class": payload["class"]}, {"class": class_name(model)})
    problems += option_differences(payload, model, path) if not problems else []
    problems += differences(weights, expected_weights(model, weights))
    refuse(problems or not_finite(weights, model), path, remedy)
    try:
        posterior = _posterior(payload, model)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} holds a posterior that this pyro_seq cannot make ({type(error).__name__}: {error}). Use "
            "the release that wrote it."
        ) from error
    model.load_state_dict(weights)
    _warn_of_unmeasured(model, payload, path)
    return posterior


def _posterior(
    payload: dict[str, Any], model: SequenceModel
) -> GuidePosterior | ChainPosterior | PointPosterior | StoredPosterior:
    """The posterior of a file, with a model whose weights need not be loaded yet."""
    if payload["kind"] == "guide":
        return GuidePosterior(model, payload["history"], payload["status"], payload.get("has_met_gaps", True))
    if payload["kind"] == "chains":
        return ChainPosterior.from_options(model, payload)
    device = next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
    data, sites = _restored(payload.get("data"), device), {name: x.to(device) for name, x in payload["sites"].items()}
    if payload["kind"] == "point":
        return PointPosterior(model, sites, payload["history"], data, frozenset(payload.get("own_sites", ())))
    if data is None:
        raise KeyError("data")
    return StoredPosterior(model, data, sites, frozenset(payload["global_sites"]), payload["sample_stats"])


def _restored(saved: dict[str, Any] | None, device: torch.device) -> Sequences | None:
    """The series stored in a file, if any."""
    if saved is None:
        return None
    clock, labels = saved.get("calendar"), Labels.restored(saved.get("labels", {}))
    return Sequences(**saved | {"calendar": Calendar(*clock) if clock else None, "labels": labels}).to(device)


def _warn_of_unmeasured(model: SequenceModel, payload: dict[str, Any], path: StrPath) -> None:
    missing = [name for name in measured_names(model) if name not in model.state_dict()]
    if missing and "options" in payload:  # without options a warning was already given
        warnings.warn(
            f"{str(path)!r} holds no measured noise ({', '.join(missing)}): `Prediction.samples` have that of the "
            "likelihood, a convention of training. Measure it on series like those of the predictions: "
            "`pyro_seq.infer.measured.measure_noise(posterior, data)`.",
            stacklevel=4,
        )


def _rebuilt(payload: dict[str, Any], path: StrPath) -> SequenceModel:
    """A model built as in the file, with weights of the same data types."""
    if "recipe" not in payload:
        raise CheckpointError(
            f"{str(path)!r} is of an earlier version, which did not keep how its model is made. Build it as the saved "
            "one was, and pass it: `load(path, model)`."
        )
    for module in pkgutil.iter_modules(nn.__path__):  # so that each part can be named
        importlib.import_module(f"{nn.__name__}.{module.name}")
    if strange := list(unknown(payload["recipe"])):
        raise CheckpointError(
            f"{str(path)!r} holds a model with what this pyro_seq cannot make: {', '.join(strange)}. Build it as the "
            "saved one was, and pass it: `load(path, model)`."
        )
    try:
        with isolated_rng(0):
            model = rebuilt(payload["recipe"])
        if not isinstance(model, SequenceModel):
            raise TypeError(f"a {type(model).__name__} is not a model")
        tensors = model.state_dict(keep_vars=True)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} holds a model that this pyro_seq cannot make ({error}). Build it as the saved one was, and "
            "pass it: `load(path, model)`."
        ) from error
    for name in tensors.keys() & payload["model"].keys():
        tensors[name].data = tensors[name].data.to(payload["model"][name].dtype)
    return model
