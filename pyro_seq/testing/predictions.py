"""Checks on the verbs: shapes, imputation, prior, dtype, seeds, global state, error messages."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError, ShapeError
from pyro_seq.model import series_log_prob
from pyro_seq.posterior import Posterior, prediction_context
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing.case import (
    HORIZON,
    NUM_DRAWS,
    Case,
    CheckFailed,
    FixedPosterior,
    NotApplicable,
    objective_terms,
    require,
    require_equal,
    require_finite,
)


def forecasts_have_the_horizon(case: Case) -> None:
    r"""Forecasts are finite with shape (sample, series, horizon, \*obs), also for a horizon of 0."""
    for horizon in (HORIZON, 0):
        data, added = (case.extended(horizon), None) if horizon else (case.data, 0)
        prediction = forecast(case.posterior, data, horizon=added, num_samples=NUM_DRAWS, seed=case.seed)
        expected = (NUM_DRAWS, case.data.num_series, horizon, *case.data.obs_shape)
        for name in ("samples", "emission_means"):
            value = getattr(prediction, name)
            require(
                tuple(value.shape) == expected,
                f"Forecast {name} over {horizon} steps must be (sample, series, time, *obs) = {expected}. Got "
                f"{tuple(value.shape)}. The path must cover all of `data.times`; use `observe` for the emission.",
            )
            require_finite(value, f"A forecast's {name}", "Check the path for overflow over the horizon.")
        require(prediction.times.shape[-1] == horizon, "The forecast has the wrong number of time stamps.")


def longer_horizons_keep_the_beginning(case: Case) -> None:
    """At the same latents, future ones included, a longer horizon leaves the earlier forecast means unchanged."""
    case = case.double()
    near, far = case.extended(HORIZON), case.extended(HORIZON + 2)
    draws = case.posterior.draws(case.data, NUM_DRAWS, seed=case.seed)
    long = forecast(FixedPosterior(case.model, draws), far, num_samples=NUM_DRAWS, seed=case.seed)
    future = {name: value for name, value in long.latents.items() if name.endswith("_future")}
    draws |= {name: value[..., :HORIZON, :] for name, value in future.items()}
    short = forecast(FixedPosterior(case.model, draws), near, num_samples=NUM_DRAWS, seed=case.seed)
    require_equal(
        {"means": long.emission_means[:, :, :HORIZON]},
        {"means": short.emission_means},
        "Forecasts of the first steps change when the horizon grows. A step may depend on earlier steps only.",
    )


def imputation_keeps_the_seen(case: Case) -> None:
    """Imputed draws equal observed entries, and are finite and random elsewhere."""
    data = case.data.hide(case.hidden_steps())
    filled = impute(case.posterior, data, num_samples=NUM_DRAWS, seed=case.seed)
    expected = (NUM_DRAWS, *data.values.shape)
    got = tuple(filled.samples.shape)
    require(got == expected, f"Imputations must be (sample, series, time, *obs) = {expected}. Got {got}.")
    require_finite(filled.samples, "An imputation", "Check guide and emission on data with hidden steps.")
    seen = data.entry_mask.expand(expected)
    require(
        torch.equal(filled.samples[seen], data.values.expand(expected)[seen]),
        "Imputed draws differ from the observed entries. The emission must have the dtype of the data.",
    )


def prior_can_be_sampled(case: Case) -> None:
    """New series come from the prior, finite, in the shape and floating type of the data, in double precision too."""
    if case.model.is_conditional:
        raise NotApplicable("the model has no prior without seen frames")
    for typed in (case, case.double()):
        drawn = sample(typed.posterior, typed.data, num_samples=NUM_DRAWS, seed=case.seed)
        expected = (NUM_DRAWS, *typed.data.values.shape)
        got = tuple(drawn.samples.shape)
        require(got == expected, f"Samples must be (sample, series, time, *obs) = {expected}. Got {got}.")
        require_finite(drawn.samples, "A sample from the prior", "Check the scales at initialisation.")
        for name, value in (*drawn.latents.items(), ("x", drawn.samples)):
            require(
                not value.is_floating_point() or value.dtype == typed.data.dtype,
                f"Site {name!r} is drawn from the prior as {value.dtype} for data in {typed.data.dtype}. Build tensors "
                "with `data.values.new_zeros(...)`, not `torch.zeros(...)`.",
            )


def dtype_follows_the_data(case: Case) -> None:
    """Draws, predictions and objective have the floating type of the data and the parameters, single or double."""
    for dtype in (torch.float32, torch.float64):
        typed = case.to(dtype)
        prediction = forecast(typed.posterior, typed.extended(HORIZON), num_samples=NUM_DRAWS, seed=case.seed)
        found = {
            **typed.posterior.draws(typed.data, NUM_DRAWS, seed=case.seed),
            **{f"term {name!r} of the objective": term for name, term in objective_terms(typed, typed.data).items()},
            "x_future": prediction.samples,
            "mean of x_future": prediction.emission_means,
        }
        for name, value in found.items():
            require(
                not value.is_floating_point() or value.dtype == dtype,
                f"With data in {dtype}, {name} is {value.dtype}. Times are kept in double precision: use "
                "`model_times`, and build tensors from `data.values.new_zeros(...)`.",
            )


def device_follows_the_data(case: Case) -> None:
    """On an accelerator, if there is one, objective, predictions and prior stay on the device of the data."""
    if not torch.cuda.is_available():
        raise NotApplicable("there is no CUDA device")
    device = torch.device("cuda")
    moved = dataclasses.replace(case.copy(), data=case.data.to(device))
    moved.model.to(device)
    found = objective_terms(moved, moved.data)
    found["x_future"] = forecast(moved.posterior, moved.extended(HORIZON), num_samples=NUM_DRAWS).samples
    if not case.model.is_conditional:
        found["x"] = sample(moved.posterior, moved.data, num_samples=NUM_DRAWS).samples
    for name, value in found.items():
        require(
            value.device.type == device.type,
            f"With data on {device}, {name!r} is on {value.device}. Build tensors from the data, `new_zeros(...)`.",
        )


def seeds_decide_the_draw(case: Case) -> None:
    """The same seed gives the same draws and another seed gives other draws, for latents and observations."""
    posterior, data = case.posterior, case.extended(HORIZON)

    def predict(seed: int, source: Posterior) -> dict[str, torch.Tensor]:
        prediction = forecast(source, data, num_samples=NUM_DRAWS, seed=seed)
        return {"x_future": prediction.samples, **prediction.latents}

    require_equal(
        predict(case.seed, posterior),
        predict(case.seed, posterior),
        "The same seed gives other draws the second time. No generators, counters or caches of your own in the model.",
        rtol=0.0,
    )
    first, other = (posterior.draws(case.data, NUM_DRAWS, seed=case.seed + offset) for offset in (0, 1))
    fixed = FixedPosterior(case.model, dict(first))
    first["x_future"], other["x_future"] = (predict(case.seed + offset, fixed)["x_future"] for offset in (0, 1))
    for name, value in first.items():
        is_random = not torch.equal(value[0], value[1])
        require(
            not (is_random and torch.equal(value, other[name])),
            f"Another seed gives the same draws of {name!r}. Never call `torch.manual_seed` inside `model` or `guide`.",
        )


def no_global_state_is_touched(case: Case) -> None:
    """The verbs leave random states, Pyro's settings and parameter store, default dtype and the model untouched."""
    data = case.data.hide(case.hidden_steps())
    draws = case.posterior.draws(data, NUM_DRAWS, seed=case.seed)
    verbs: dict[str, Callable[[], Any]] = {
        "forecast": lambda: forecast(case.posterior, case.extended(HORIZON), num_samples=NUM_DRAWS),
        "impute": lambda: impute(case.posterior, data, num_samples=NUM_DRAWS),
        "reconstruct": lambda: reconstruct(case.posterior, data, num_samples=NUM_DRAWS),
        # as chains do: for a gradient with respect to parameters, an energy-based prior may run chains itself
        "series_log_prob": lambda: _read_log_prob(case, data, draws),
    }
    case.model.train()
    next(reversed(list(case.model.modules()))).eval()
    for verb, run in verbs.items():
        before = _global_state() | _model_state(case)
        run()
        after = _global_state() | _model_state(case)
        for name, value in before.items():
            require(
                _same(value, after[name]),
                f"`{verb}` changes the {name}. A model computes from its parameters and its data alone; it keeps "
                "and sets nothing while it runs.",
            )


def _read_log_prob(case: Case, data: Sequences, draws: dict[str, torch.Tensor]) -> None:
    with prediction_context(case.model):
        series_log_prob(case.model, data, draws)


def _global_state() -> dict[str, Any]:
    return {
        "random state of torch": torch.get_rng_state(),
        "random state of numpy": np.random.get_state(),
        "random state of Python": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "settings of Pyro": pyro.settings.get(),
        "parameter store of Pyro": sorted(pyro.get_param_store()),
    }


def _model_state(case: Case) -> dict[str, Any]:
    return {
        "training mode of the model's parts": {name: part.training for name, part in case.model.named_modules()},
        "state_dict of the model": {name: value.clone() for name, value in case.model.state_dict().items()},
    }


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(value, right[name]) for name, value in left.items())
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def errors_name_the_argument(case: Case) -> None:
    """Observations with a wrong shape and zero draws raise an error that names the argument."""
    data = case.data
    wider = Sequences(torch.cat([data.values, data.values[..., :1]], -1), times=data.times, inputs=data.inputs)
    _require_refusal(lambda: forecast(case.posterior, wider, horizon=0, num_samples=1), ShapeError, "values", "`check`")
    _require_refusal(lambda: forecast(case.posterior, data, num_samples=0), DataError, "num_samples", "the verbs")


def _require_refusal(run: Callable[[], Any], kind: type[PyroSeqError], argument: str, where: str) -> None:
    expected = f"a {kind.__name__} that names `{argument}`, raised by {where}"
    try:
        run()
    except kind as error:
        require(f"{argument}`" in str(error), f"Bad `{argument}` must raise {expected}. Got: {error}")
    except Exception as error:
        raise CheckFailed(
            f"Bad `{argument}` must raise {expected}. Got {type(error).__name__}: {error}. For observations, set "
            "`self.obs_shape` or extend `check(data)` with `super()`."
        ) from error
    else:
        raise CheckFailed(f"Bad `{argument}` must raise {expected}. Nothing was raised.")
