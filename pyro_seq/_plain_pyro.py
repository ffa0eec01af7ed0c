"""What training by Pyro alone leaves out, said once: units that were never taken, terms that no site carries."""

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
    """Say once what `pyro.infer.SVI` misses by a loss that knows sites alone; called where a program opens its plate.

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
    """Say once that a model is being trained without the units that `fit` would have taken from its data."""
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
    """Whether someone trains by Pyro: a step of its `SVI`, or a loop written like it, captures parameters alone."""
    if pyro.settings.get("module_local_params") or not torch.is_grad_enabled():
        return False
    return any(isinstance(handler, TraceMessenger) and handler.param_only for handler in _PYRO_STACK)


def _extra_terms(model: Any, data: Any) -> list[str]:
    """Names of the terms that `regulariser` adds, from one run of a copy that leaves no trace."""
    model = copy.deepcopy(model)
    with poutine.block(), pyro.settings.context(module_local_params=True), torch.no_grad(), isolated_rng(0):
        guide_trace = poutine.trace(model.guide).get_trace(data)
        model_trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(data)
        for trace in (guide_trace, model_trace):
            trace.compute_log_prob()
        return sorted(model.regulariser(data, model_trace, guide_trace))
