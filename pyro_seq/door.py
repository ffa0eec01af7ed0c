"""The door: what `fit` and every verb check of their arguments before any work starts."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from pyro_seq.data import Sequences
from pyro_seq.data._columns import require_same_names
from pyro_seq.data._validation import widen
from pyro_seq.data.labels import shortened
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel

_REMEDIES = {SequenceModel: "Build one, such as `ODE2VAE(obs_shape=(2,))`", Sequences: "Wrap it: `Sequences(values)`"}


def require_type(value: Any, kind: type, name: str) -> None:
    """Refuse what is not a `kind`."""
    if not isinstance(value, kind):
        remedy = f" {_REMEDIES[kind]}." if kind in _REMEDIES else ""
        raise DataError(f"`{name}` must be a `{kind.__name__}`. Got {type(value).__name__}.{remedy}")


def require_data(
    model: SequenceModel,
    data: Any,
    name: str = "data",
    *,
    has_device: bool = True,
    has_units: bool = True,
    has_values: bool = True,
) -> None:
    """Refuse data that `model` cannot be run on: of another type, floating type, device or shape.

    Args:
        model: The model.
        data: What must be `Sequences` that fit it.
        name: Of the argument, for the message.
        has_device: Whether the data must be where the model is; not where training moves both.
        has_units: Whether steps must be as long as in the training data, and columns have their names; not where new
            units are taken.
        has_values: Whether values are looked at, and should not be far from those of the training data.

    Raises:
        DataError: With the conversion that mends it.
        PyroSeqError: What the model itself refuses.

    Warns:
        UserWarning: When values or inputs lie far outside of what the model was trained on.
    """
    require_type(data, Sequences, name)
    for parameter_name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != data.dtype:
            raise DataError(
                f"`{name}` and `model` must share a floating type. Got {data.dtype} and {parameter.dtype} "
                f"(`{parameter_name}`). Convert one: `{name}.to(dtype={parameter.dtype})` or `model.to({data.dtype})`."
            )
        if has_device and parameter.device != data.device:
            raise DataError(
                f"`{name}` and `model` must be on one device. Got {data.device} and {parameter.device} "
                f"(`{parameter_name}`). Move one: `{name}.to('{parameter.device}')` or `model.to('{data.device}')`."
            )
    if has_units:
        way_out = ", or train on such data: `fit(..., readapt=True)`"
        require_same_names(data.labels, model.labels, name, "posterior.model.labels", way_out=way_out)
    model.check(data)
    if has_units:
        model.check_units(data)
    if has_units and has_values:
        model.check_range(data)


def require_posterior(posterior: Any) -> None:
    """Refuse what `fit` cannot have returned."""
    if not isinstance(getattr(posterior, "model", None), SequenceModel) or not hasattr(posterior, "draws"):
        raise DataError(
            f"`posterior` must be what `fit` returned. Got {type(posterior).__name__}. Fit the model first."
        )


def warn_of_unseen(data: Sequences) -> None:
    """Say which variables of training data are never observed: what is predicted of them are guesses.

    Raises:
        DataError: When nothing at all is observed.
    """
    is_seen = data.entry_mask.flatten(0, 1).any(0)
    if not bool(is_seen.any()):
        raise DataError("`data` must show at least one value. Got none that is observed. Check `mask`, and NaN.")
    if is_seen.ndim == 1 and not bool(is_seen.all()):
        names = data.labels.of("variables", is_seen.shape)
        kept = [place for place, seen in enumerate(is_seen.tolist()) if seen]
        unseen = [names[place] for place, seen in enumerate(is_seen.tolist()) if not seen]
        call = f"data.select(variables={[names[place] for place in kept]})"
        warnings.warn(
            f"`data` never show {shortened(unseen)}: nothing is learned of them, and what is predicted are guesses. "
            f"Leave them out: `{call if data.labels.variables else f'data.values[..., {kept}]'}`.",
            UserWarning,
            stacklevel=4,
        )


def has_gaps(data: Sequences) -> bool:
    """Whether an entry is hidden before the last observed step of its series; to end early is no gap."""
    steps = torch.arange(data.num_steps, device=data.device) < data.lengths[:, None]
    return bool((widen(steps, data.mask) & ~data.mask).any())


def warn_of_gaps(posterior: Any, data: Sequences) -> None:
    """Say once where a guide that was never shown a gap meets one: it may be far too sure of itself."""
    model = posterior.model
    if model.reads_series and not getattr(posterior, "has_met_gaps", True) and has_gaps(data):
        remedy = "scales={'dreams': 1.0}" if model.has_dreams else "views=[RandomGaps()]"
        warnings.warn(
            f"`data` hide steps, but the guide of this {type(model).__name__} was trained on series without any, so "
            f"that its intervals may be far too narrow. Let it learn about gaps: `SVI({remedy}, ...)`.",
            UserWarning,
            stacklevel=5,
        )
