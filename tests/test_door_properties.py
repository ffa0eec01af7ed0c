"""Anything may come to the door: what comes back is right, or an error of ours that names the argument."""

from __future__ import annotations

import functools
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import pyro_seq as ps
from pyro_seq.nn.components import Cycle, Level
from tests.odd import NUM_SERIES, NUM_STEPS, Call, odd_things

QUIET = ps.Trainer(progress=False, accelerator="cpu")
SMALL = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: nn.GroupNorm(1, channels))
MODELS: dict[str, Callable[[], ps.SequenceModel]] = {
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2),
    "ODELEBM": lambda: ps.ODELEBM((2,), 3, encoder=ps.RNNEncoder((2,), 3, hidden_dim=8)),
    "KalmanVAE": lambda: ps.KalmanVAE((2,)),
    "DynamicFactors": lambda: ps.DynamicFactors((2,), 2),
    "StructuralSeries": lambda: ps.StructuralSeries(Level() + Cycle()),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,), hidden_dim=8),
    "SRVP": lambda: ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=4, num_frames=2, hidden_dim=8, architecture=SMALL),
}
KNOWN_WARNINGS = (
    "far outside of what the model was trained on",
    "trained on series without any",
    "unit of time is now",
    "hide some of the first frames",
    "another unit of time",
)


def frames(model: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(NUM_SERIES, NUM_STEPS, *MODELS[model]().obs_shape, generator=generator)


@functools.cache
def fitted(model: str) -> ps.GuidePosterior:
    """To be read only."""
    torch.manual_seed(0)
    return ps.fit(MODELS[model](), ps.Sequences(frames(model)), ps.SVI(num_steps=1), trainer=QUIET)


# ---------------------------------------------------------------------- verbs: what they return, checked


def read(
    verb: Callable[..., ps.Prediction], call: Call, num_steps: Callable[[ps.Sequences], int]
) -> list[torch.Tensor]:
    data = call.sequences()
    options = {"num_samples": 3} | call.options
    made = verb(call.posterior, data, **options)
    shape = (int(options["num_samples"]), len(data), num_steps(data), *data.obs_shape)
    for value in (made.samples, made.emission_means):
        assert value.shape == shape and value.dtype == data.dtype and value.isfinite().all()
    assert made.times.shape[-1] == shape[2] and made.times.isfinite().all()
    return [made.samples, made.emission_means, made.times]


def forecast(call: Call) -> list[torch.Tensor]:
    asked = call.options
    if "horizon" not in asked and "times" not in asked and (call.data is not ... or not call.sequences().horizon):
        asked = call.options = asked | {"horizon": 2}
    if "times" in asked:
        return read(ps.forecast, call, lambda data: np.shape(asked["times"])[-1])
    return read(ps.forecast, call, lambda data: int(asked["horizon"]) if "horizon" in asked else data.horizon)


def impute(call: Call, **options: Any) -> list[torch.Tensor]:
    call.options = options | call.options
    found = read(ps.impute, call, lambda data: data.num_steps)
    data = call.sequences().seen()
    kept = torch.where(data.entry_mask, data.values, found[0])
    assert torch.equal(found[0], kept) and torch.equal(torch.where(data.entry_mask, data.values, found[1]), found[1])
    return found


def evaluate(call: Call) -> list[torch.Tensor]:
    options, data = {"num_samples": 3} | call.options, call.sequences()
    task = options.pop("task", lambda: ps.Forecasting(3))()
    scores = ps.evaluate(call.posterior, data, task, **options)
    counts = task.scored(data).flatten(1).any(1)
    found = [scores.mse, scores.mae, scores.crps, scores.coverage_50, scores.coverage_90]
    for value in found:
        assert value.shape == (len(data),) and torch.equal(value.isfinite(), counts)
    return found


def fit(call: Call) -> list[torch.Tensor]:
    own = ("seed", "method", "validation", "trainer")
    data = call.sequences()
    of_fit = {"trainer": QUIET} | {name: value for name, value in call.options.items() if name in own}
    of_method = {"num_steps": 1} | {name: value for name, value in call.options.items() if name not in own}
    method = of_fit.pop("method", None) if "method" in of_fit else ps.SVI(**of_method)
    torch.manual_seed(0)
    model = MODELS[type(call.posterior.model).__name__]()
    posterior = ps.fit(model, data, method, **of_fit)
    assert posterior.status == "completed" and np.isfinite(posterior.history["loss"]).all()
    state = [value for name, value in model.state_dict().items() if not name.startswith("_seen")]
    assert all(value.isfinite().all() for value in state)
    call.posterior, call.options = posterior, {}
    return [*model.parameters(), *read(ps.reconstruct, call, lambda data: data.num_steps)]


def load(call: Call) -> list[torch.Tensor]:
    ps.load(call.options["path"])
    raise AssertionError("there is no file")


def save(call: Call) -> list[torch.Tensor]:
    data = ps.Sequences(call.values)
    with tempfile.TemporaryDirectory() as folder:
        path = call.options.get("path", Path(folder) / "model.pt")
        ps.save(call.posterior, path)
        again = ps.load(path)
    found, wanted = (ps.forecast(p, data, horizon=2, num_samples=2).samples for p in (again, call.posterior))
    assert torch.equal(found, wanted)
    return [found]


VERBS: dict[str, Callable[[Call], list[torch.Tensor]]] = {
    "forecast": forecast,
    "impute": impute,
    "causal": lambda call: impute(call, is_causal=True),
    "reconstruct": lambda call: read(ps.reconstruct, call, lambda data: data.num_steps),
    "sample": lambda call: read(ps.sample, call, lambda data: data.times.shape[-1]),
    "evaluate": evaluate,
    "fit": fit,
    "save": save,
    "load": load,
}
# other names by which an error may speak of an argument
ALIASES = {
    "values": ("data", "times", "num_observed"),
    "mask": ("data", "values"),
    "times": ("data",),
    "inputs": ("data",),
    "horizon": ("data", "times"),
    "task": ("num_observed", "fraction", "num_kept", "data"),
    "method": ("method",),
    "trainer": ("trainer",),
}


def names(message: str, arguments: set[str]) -> bool:
    """Whether a message names one of the arguments in backquotes."""
    every = {alias for argument in arguments for alias in (argument, *ALIASES.get(argument, ()))}
    return any(re.search(rf"`([\w.]+\.)?{name}\b", message) for name in every)


def result_of(model: str, verb: str, odd: list[tuple[str, str]]) -> list[torch.Tensor] | str:
    """What a call with odd things returns, checked; or what its error says."""
    call = Call(frames(model), fitted(model))
    changes = odd_things(verb)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for thing in odd:
                changes[thing](call)
            found: list[torch.Tensor] | str = VERBS[verb](call)
        except ps.PyroSeqError as error:
            found = str(error)
            is_without_prior = isinstance(error, ps.UnsupportedError) and verb == "sample" and "no prior" in found
            assert is_without_prior or names(found, {argument for argument, _ in odd}), found
    for warning in caught:
        assert any(known in str(warning.message) for known in KNOWN_WARNINGS), warning
    return found


def check(model: str, verb: str, odd: list[tuple[str, str]]) -> None:
    first, again = (result_of(model, verb, odd) for _ in range(2))
    assert isinstance(first, str) == isinstance(again, str)
    if not isinstance(first, str):
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, str, list[tuple[str, str]]]:
    """A model, a verb, and one or two odd things about the call, of different arguments."""
    model, verb = draw(st.sampled_from([*MODELS])), draw(st.sampled_from([*VERBS]))
    things = odd_things(verb)
    by_argument: dict[str, list[tuple[str, str]]] = {}
    for thing in things:
        by_argument.setdefault(thing[0], []).append(thing)
    arguments = draw(st.lists(st.sampled_from([*by_argument]), min_size=1, max_size=2, unique=True))
    return model, verb, [draw(st.sampled_from(by_argument[argument])) for argument in arguments]


quiet = settings(derandomize=True, database=None, deadline=None, suppress_health_check=[*HealthCheck])


@settings(quiet, max_examples=50)
@given(calls())
def test_what_comes_back_is_right_or_names_the_argument(case: tuple[str, str, list[tuple[str, str]]]) -> None:
    check(*case)


@pytest.mark.slow
@settings(quiet, max_examples=2000)
@given(calls())
def test_of_many_more(case: tuple[str, str, list[tuple[str, str]]]) -> None:
    check(*case)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("model", MODELS)
def test_of_every_single_one(model: str, verb: str) -> None:
    wrong = {}
    for thing in odd_things(verb):
        try:
            check(model, verb, [thing])
        except Exception as error:
            wrong[thing] = repr(error)[:200]
    assert not wrong
