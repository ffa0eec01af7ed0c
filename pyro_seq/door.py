"""Checks of arguments that `fit` and every verb make before any work starts."""

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
    """Raise if `value` is not a `kind`."""
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
    """Raise if `model` cannot be run on the data: wrong type, floating type, device or shape.

    Args:
        model: The model.
        data: The value to check; must be `Sequences` that fit the model.
        name: Name of the argument, for the message.
        has_device: Whether the data must be on the model's device; False if training moves both.
        has_units: Whether steps must be as long as in the training data, with equal column names; False if new units
            are taken.
        has_values: Whether values are used, and so should not be far outside the training range.

    Raises:
        DataError: With the conversion that fixes it.
        PyroSeqError: When the model itself refuses the data.

    Warns:
        UserWarning: When values or inputs lie far outside the range of the training data.
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
    """Raise if the value is not a posterior, as returned by `fit`."""
    if not isinstance(getattr(posterior, "model", None), SequenceModel) or not hasattr(posterior, "draws"):
        raise DataError(
            f"`posterior` must be what `fit` returned. Got {type(posterior).__name__}. Fit the model first."
        )


def warn_of_unseen(data: Sequences) -> None:
    """Warn of variables never observed in the training data: their predictions are guesses.

    Raises:
        DataError: When nothing is observed.
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
    """Whether an entry is hidden before the last observed step of its series; an early end is not a gap."""
    steps = torch.arange(data.num_steps, device=data.device) < data.lengths[:, None]
    return bool((widen(steps, data.mask) & ~data.mask).any())


def warn_of_gaps(posterior: Any, data: Sequences) -> None:
    """Warn once if a guide trained without gaps gets data with gaps: it may be far too confident."""
    model = posterior.model
    if model.reads_series and not getattr(posterior, "has_met_gaps", True) and has_gaps(data):
        remedy = "scales={'dreams': 1.0}" if model.has_dreams else "views=[RandomGaps()]"
        warnings.warn(
            f"`data` hide steps, but the guide of this {type(model).__name__} was trained on series without any, so "
            f"that its intervals may be far too narrow. Let it learn about gaps: `SVI({remedy}, ...)`.",
            UserWarning,
            stacklevel=5,
        )
