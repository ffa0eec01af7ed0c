"""One-time warnings for training with plain Pyro: units that were never taken, terms that are not at any site."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger

from pyro_seq._random import isolated_rng


def warn_of_plain_training(model: Any, data: Any) -> None:
    """Warn once of terms that `pyro.infer.SVI` leaves out, as its loss covers only sites; called on entering a plate.

    Args:
        model: A `SequenceModel`.
        data: The `Sequences` of this step.
    """
    if not _is_step():
        return
    warn_of_missing_units(model)
    if "terms" not in model._told:
        model._told.add("terms")
        names = _extra_terms(model, data)
        if names:
            warnings.warn(
                f"This {type(model).__name__} has training terms that belong to no site, {names}, and the loss that "
                "trains it leaves them out. Write `pyro.infer.SVI(model.model, model.guide, optimiser, "
                "loss=ps.SequenceELBO(model))`, or make the model without them.",
                UserWarning,
                stacklevel=4,
            )


def warn_of_missing_units(model: Any) -> None:
    """Warn once that a model is trained without the units that `fit` would take from the data."""
    if model._has_units or model._has_time_unit or "units" in model._told:
        return
    model._told.add("units")
    warnings.warn(
        f"This {type(model).__name__} is being trained without units of time and values, which `fit` takes from the "
        "data: values far from 0 and 1 are then learned badly, or not at all. Call `model.take_units(train)` first, "
        "with the whole training set.",
        UserWarning,
        stacklevel=5,
    )


def _is_step() -> bool:
    """Whether plain Pyro is training: a step of `SVI`, or a similar loop, captures parameters only."""
    if pyro.settings.get("module_local_params") or not torch.is_grad_enabled():
        return False
    return any(isinstance(handler, TraceMessenger) and handler.param_only for handler in _PYRO_STACK)


def _extra_terms(model: Any, data: Any) -> list[str]:
    """Names of the terms that `regulariser` adds, from one run of a copy without side effects."""
    model = copy.deepcopy(model)
    with poutine.block(), pyro.settings.context(module_local_params=True), torch.no_grad(), isolated_rng(0):
        guide_trace = poutine.trace(model.guide).get_trace(data)
        model_trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(data)
        for trace in (guide_trace, model_trace):
            trace.compute_log_prob()
        return sorted(model.regulariser(data, model_trace, guide_trace))
