"""``save`` and ``load``: a posterior in one file."""

from __future__ import annotations

import dataclasses
from typing import Any

from pyro_seq._files import StrPath
from pyro_seq.data import Sequences
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import CheckpointError, UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import GuidePosterior, Posterior, StoredPosterior
from pyro_seq.training.files import class_name, differences, read, refuse, renamed, write

_DATA_FIELDS = ("values", "mask", "times", "inputs", "context", "index", "total")


def save(posterior: Posterior, path: StrPath) -> None:
    """Write a fitted model to one file, which is replaced as a whole or, when writing fails, left as it was.

    Args:
        posterior: What `fit` returned.
        path: The file; missing folders are created and an existing file is replaced.

    Raises:
        CheckpointError: When the file cannot be written.
        UnsupportedError: When this kind of posterior has no file format.

    Example:
        >>> save(posterior, "model.pt")  # doctest: +SKIP
        >>> posterior = load("model.pt", ODE2VAE(obs_shape=(2,)))  # doctest: +SKIP
    """
    payload: dict[str, Any] = {"class": class_name(posterior.model), "model": dict(posterior.model.state_dict())}
    if isinstance(posterior, GuidePosterior):
        payload |= {"kind": "guide", "history": posterior.history, "status": posterior.status}
    elif isinstance(posterior, ChainPosterior):
        payload |= {"kind": "chains", **posterior.options()}
    elif isinstance(posterior, StoredPosterior):
        payload |= {
            "kind": "stored",
            "sites": posterior.sites,
            "global_sites": sorted(posterior.global_sites),
            "sample_stats": posterior.sample_stats,
            "data": {name: getattr(posterior.data, name) for name in _DATA_FIELDS} | _dates(posterior.data),
        }
    else:
        raise UnsupportedError(
            f"`save` knows guides, chains and stored draws. Got {type(posterior).__name__}. Save `model.state_dict()`."
        )
    try:
        write(payload, path)
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} could not be written ({error}). Free some space or choose another."
        ) from error


def _dates(data: Sequences) -> dict[str, tuple[str | None, ...]]:
    return {} if data.calendar is None else {"calendar": dataclasses.astuple(data.calendar)}


def load(path: StrPath, model: SequenceModel) -> GuidePosterior | ChainPosterior | StoredPosterior:
    """Read a file of `save` into `model`, which must be built as the saved one was.

    Args:
        path: The file.
        model: A model of the same class and sizes; its weights are replaced, or left alone when anything does not fit.

    Raises:
        CheckpointError: When the file is incomplete, altered, of another format version, or of another model; the
            message lists what differs.
    """
    payload = read(path)
    if payload.get("kind") not in ("guide", "chains", "stored"):
        raise CheckpointError(
            f"{str(path)!r} holds a training run, not a posterior. Resume it: `Trainer(resume=True)`."
        )
    weights = renamed(payload["model"], model.renamed_parts)
    problems = differences({"class": payload["class"]}, {"class": class_name(model)})
    problems += differences(weights, model.state_dict())
    refuse(problems, path, "Build the model with the arguments of the saved one.")
    model.load_state_dict(weights)
    if payload["kind"] == "guide":
        return GuidePosterior(model, payload["history"], payload["status"])
    if payload["kind"] == "chains":
        return ChainPosterior.from_options(model, payload)
    clock = payload["data"].get("calendar")
    return StoredPosterior(
        model,
        Sequences(**payload["data"] | {"calendar": Calendar(*clock) if clock else None}),
        payload["sites"],
        frozenset(payload["global_sites"]),
        payload["sample_stats"],
    )
