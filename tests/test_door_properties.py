"""Anything may come to the door: what comes back is right, or an error of ours that names the argument."""

from __future__ import annotations

import functools
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import pyro_seq as ps

QUIET = ps.Trainer(progress=False, accelerator="cpu")
SMALL = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: nn.GroupNorm(1, channels))
MODELS: dict[str, Callable[[], ps.SequenceModel]] = {
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2),
    "ODELEBM": lambda: ps.ODELEBM((2,), 3, encoder=ps.RNNEncoder((2,), 3, hidden_dim=8)),
    "KalmanVAE": lambda: ps.KalmanVAE((2,)),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,), hidden_dim=8),
    "SRVP": lambda: ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=4, num_frames=2, hidden_dim=8, architecture=SMALL),
}
KNOWN_WARNINGS = (
    "far outside of what the model was trained on",
    "trained on series without any",
    "unit of time is now",
)
NUM_SERIES, NUM_STEPS = 4, 6


def frames(model: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(NUM_SERIES, NUM_STEPS, *MODELS[model]().obs_shape, generator=generator)


@functools.cache
def fitted(model: str) -> ps.GuidePosterior:
    """To be read only."""
    torch.manual_seed(0)
    return ps.fit(MODELS[model](), ps.Sequences(frames(model)), ps.SVI(num_steps=1), trainer=QUIET)


# ---------------------------------------------------------------------- a call, and what is odd about it


@dataclass
class Call:
    """What a verb is called with."""

    values: Any
    posterior: Any
    fields: dict[str, Any] = field(default_factory=dict)  # of `Sequences`
    options: dict[str, Any] = field(default_factory=dict)  # of the verb
    data: Any = ...  # in place of `Sequences`

    def sequences(self) -> Any:
        return ps.Sequences(self.values, **self.fields) if self.data is ... else self.data


def values_as(change: Callable[[torch.Tensor], Any]) -> Callable[[Call], None]:
    def apply(call: Call) -> None:
        call.values = change(call.values)

    return apply


def field_as(name: str, value: Any) -> Callable[[Call], None]:
    return lambda call: call.fields.update({name: value})


def option_as(name: str, value: Any) -> Callable[[Call], None]:
    return lambda call: call.options.update({name: value})


def attribute_as(name: str, value: Any) -> Callable[[Call], None]:
    return lambda call: setattr(call, name, value(call) if callable(value) else value)


def hidden(*place: Any) -> torch.Tensor:
    mask = torch.ones(NUM_SERIES, NUM_STEPS, dtype=torch.bool)
    mask[place] = False
    return mask


def holed(x: torch.Tensor, value: float, *place: Any) -> torch.Tensor:
    x = x.clone()
    x[place] = value
    return x


GRID = np.arange(float(NUM_STEPS))
DAYS = pd.date_range("2024-01-01", periods=NUM_STEPS)
NOW = 1.7e9
VALUES: dict[str, Callable[[torch.Tensor], Any]] = {
    "whole": lambda x: (10 * x).long(),
    "bytes": lambda x: (255 * x).byte(),
    "booleans": lambda x: x > 0.5,
    "half": lambda x: x.half(),
    "bfloat": lambda x: x.bfloat16(),
    "double": lambda x: x.double(),
    "double array": lambda x: x.double().numpy(),
    "extended": lambda x: x.numpy().astype(np.longdouble),
    "other byte order": lambda x: x.numpy().astype(">f4"),
    "lists": lambda x: x.tolist(),
    "masked array": lambda x: np.ma.masked_less(x.numpy(), 0.1),
    "complex": lambda x: x + 1j * x,
    "strings": lambda x: x.numpy().astype(str),
    "objects": lambda x: np.full(x.shape, None),
    "dates": lambda x: np.full(x.shape, np.datetime64("2024-01-01")),
    "sparse": lambda x: x.to_sparse(),
    "ragged list": lambda x: [x[0], x[1, :3]],
    "with gradient": lambda x: x.clone().requires_grad_(),
    "turned round": lambda x: x.numpy()[:, ::-1],
    "no series": lambda x: x[:0],
    "no steps": lambda x: x[:, :0],
    "no series axis": lambda x: x[0],
    "no observation axis": lambda x: x.flatten(2)[..., 0],
    "axes swapped": lambda x: x.transpose(0, 1),
    "observation first": lambda x: x.movedim(-1, 0),
    "other observation": lambda x: x[..., :1],
    "more axes": lambda x: x[..., None],
    "one series": lambda x: x[:1],
    "one step": lambda x: x[:, :1],
    "two steps": lambda x: x[:, :2],
    "many series": lambda x: x.repeat(20, *[1] * (x.ndim - 1)),
    "some missing": lambda x: holed(x, torch.nan, 0, 2),
    "entry missing": lambda x: holed(x, torch.nan, 1, 3, 0),
    "first missing": lambda x: holed(x, torch.nan, slice(None), 0),
    "all missing": lambda x: torch.full_like(x, torch.nan),
    "infinite": lambda x: holed(x, torch.inf, 0, 0),
    "one enormous": lambda x: holed(x, 1e30, 0, 2),
    "enormous": lambda x: 1e30 * x,
    "at the end of single precision": lambda x: 3e38 * x,
    "tiny": lambda x: 1e-30 * x,
    "below normal numbers": lambda x: 1e-42 * x,
    "constant": lambda x: torch.full_like(x, 5.0),
    "zeros": torch.zeros_like,
    "one constant": lambda x: holed(x, 5.0, ..., 0),
    "far": lambda x: x + 1e6,
    "negative": lambda x: -x,
}
FIELDS: dict[str, dict[str, Any]] = {
    "mask": {
        "all hidden": hidden(),
        "first hidden": hidden(slice(None), 0),
        "start hidden": hidden(slice(None), slice(3)),
        "last hidden": hidden(slice(None), -1),
        "series hidden": hidden(1),
        "ragged": torch.arange(NUM_STEPS) < torch.tensor([[6], [3], [1], [0]]),
        "one seen": ~hidden(0, 2),
        "numbers": hidden(0, 2).long(),
        "list": hidden(0, 2).tolist(),
        "shares": 0.5 * torch.ones(NUM_SERIES, NUM_STEPS),
        "strings": np.full((NUM_SERIES, NUM_STEPS), "yes"),
        "swapped": hidden().T,
        "one series": hidden()[0],
        "missing": torch.full((NUM_SERIES, NUM_STEPS), torch.nan),
    },
    "times": {
        "unsorted": GRID[[0, 2, 1, 3, 4, 5]],
        "backwards": GRID[::-1],
        "repeated": np.array([0.0, 1, 1, 2, 3, 4]),
        "NaN": np.array([0, 1, np.nan, 3, 4, 5]),
        "infinite": np.array([0, 1, 2, 3, 4, np.inf]),
        "NaT": pd.DatetimeIndex([*DAYS[:-1], pd.NaT]),
        "dates": DAYS,
        "list of dates": list(DAYS),
        "dates in letters": [str(day) for day in DAYS],
        "datetime64": DAYS.to_numpy(),
        "months": pd.date_range("2024-01-01", periods=NUM_STEPS, freq="MS"),
        "periods": pd.period_range("2024-01", periods=NUM_STEPS, freq="M"),
        "timedeltas": pd.timedelta_range("0h", periods=NUM_STEPS, freq="h"),
        "list": list(range(NUM_STEPS)),
        "numpy whole": np.arange(NUM_STEPS, dtype=np.int16),
        "unsigned": np.arange(NUM_STEPS, dtype=np.uint8),
        "since 1970": NOW + GRID,
        "since 1970, single precision": (NOW + torch.arange(6.0)).float(),
        "since 1970, nanoseconds": 1_700_000_000_000_000_000 + 10**9 * np.arange(NUM_STEPS),
        "microseconds": 1e-6 * GRID,
        "uneven": GRID + 0.3 * (GRID == 3),
        "other spacing": 7 * GRID,
        "negative": GRID - 100,
        "a gap": np.where(GRID < 3, GRID, GRID + 1e4),
        "an enormous gap": np.where(GRID < 3, GRID, GRID + 1e12),
        "enormous": 1e300 * GRID,
        "tiny": 1e-300 * GRID,
        "too few": GRID[:3],
        "none": [],
        "with a horizon": np.arange(9.0),
        "with an uneven horizon": np.array([0, 1, 2, 3, 4, 5, 5.5, 9]),
        "per series": np.tile(GRID, (NUM_SERIES, 1)),
        "per series, other starts": GRID + np.arange(NUM_SERIES)[:, None],
        "per series, swapped": np.tile(GRID, (NUM_SERIES, 1)).T,
        "a number": 3.0,
        "strings": ["a", "b", "c", "d", "e", "f"],
        "booleans": [False, True, True, True, True, True],
        "complex": GRID + 1j,
    },
    "inputs": {
        "unasked for": torch.zeros(NUM_SERIES, NUM_STEPS, 1),
        "of other shape": torch.zeros(NUM_SERIES, 1),
        "missing": torch.full((NUM_SERIES, NUM_STEPS, 1), torch.nan),
        "strings": ["a"],
    },
}
COUNTS = [
    0,
    -1,
    1,
    True,
    2.0,
    2.5,
    "2",
    None,
    np.int8(2),
    np.float64(2),
    torch.tensor(2),
    [2],
    10**9,
    2**63,
    np.nan,
    1j,
]
READERS = ("forecast", "impute", "causal", "reconstruct", "sample", "evaluate")
OPTIONS: dict[str, tuple[tuple[str, ...], list[Any]]] = {
    "num_samples": (READERS, COUNTS),
    "chunk_size": (READERS, COUNTS),
    "seed": ((*READERS, "fit"), [*COUNTS, 2**63 - 1, np.uint64(2**62), np.inf]),
    "horizon": (("forecast",), [*COUNTS, 1e300]),
    "times": (
        ("forecast",),
        [
            [6.0, 7.0],
            [6, 7],
            (6.0,),
            np.array([6.0, 6.5, 9.0]),
            [7.0, 6.0],
            [5.0, 6.0],
            [-3.0],
            [],
            [6.0, 6.0],
            [np.nan],
        ]
        + [DAYS, "tomorrow", 6.0, [[6.0]] * NUM_SERIES, [[6.0]] * 3, [1e300], [1.7e9], [None], torch.tensor([6.0])],
    ),
    "inputs": (("forecast",), [torch.zeros(NUM_SERIES, 2, 1), "x", [], 0.0]),
    "is_causal": (("impute",), ["no", 1, None, np.bool_(True), []]),
    "task": (
        ("evaluate",),
        [lambda n=n: ps.Forecasting(n) for n in (0, -1, 1, 2.0, 2.5, NUM_STEPS, 100, "3", None)]
        + [lambda f=f: ps.Imputation(f) for f in (0, 1.0, 1.5, -0.1, np.nan, "half", None)]
        + [lambda n=n: ps.Imputation(0.5, num_kept=n) for n in (0, -1, 1.5, NUM_STEPS, 100)]
        + [ps.Reconstruction, lambda: ps.Forecasting, lambda: None, lambda: "forecasting", lambda: 3],
    ),
    "learning_rate": (
        ("fit",),
        [0.0, -1.0, np.nan, np.inf, "0.1", None, np.float32(0.1), torch.tensor(0.1), 1e30, [0.1]],
    ),
    "num_steps": (("fit",), [v for v in COUNTS if v != 10**9]),
    "batch_size": (("fit",), COUNTS),
    "clip_norm": (("fit",), [0, -1.0, np.nan, np.inf, "1", np.float32(1.0), 1e-30]),
    "average": (("fit",), [0, 1, 0.5, -0.5, np.nan, "0.9", np.float32(0.5)]),
    "num_particles": (("fit",), [v for v in COUNTS if v != 10**9]),
    "scales": (
        ("fit",),
        [{"x": -1.0}, {"x": np.nan}, {"x": "1"}, {"nothing": 1.0}, {"x": np.float32(0.5)}, 3, None, {1: 1.0}],
    ),
    "views": (("fit",), [3, [3], "views", [lambda data, step, generator: None]]),
    "optimizer": (("fit",), ["adam", None, torch.optim.LBFGS]),
    "method": (("fit",), [ps.SVI, None, "svi"]),
    "validation": (("fit",), [torch.rand(4, 6, 2), "x"]),
    "trainer": (("fit",), ["x", ps.Trainer]),
    "path": (("save",), [None, "", 3, "/", "/proc/none/file.pt", b"\0"]),
}
OTHER_DATA: dict[str, Any] = {
    "none": None,
    "a tensor": lambda call: call.values,
    "an array": lambda call: call.values.numpy(),
    "a list": lambda call: call.values.tolist(),
    "a frame": lambda call: pd.DataFrame({"x": [1.0]}),
    "a posterior": lambda call: call.posterior,
    "the class": ps.Sequences,
    "a file": "data.npz",
}
OTHER_POSTERIORS: dict[str, Any] = {
    "none": None,
    "the model": lambda call: call.posterior.model,
    "a name": "model.pt",
    "data": lambda call: ps.Sequences(call.values),
}


def odd_things(verb: str) -> dict[tuple[str, str], Callable[[Call], None]]:
    """All that may be odd about a call of `verb`, by the argument and what it is."""
    changes: dict[tuple[str, str], Callable[[Call], None]] = {}
    if verb != "save":
        changes |= {("values", name): values_as(change) for name, change in VALUES.items()}
        changes |= {
            (kind, name): field_as(kind, value) for kind, table in FIELDS.items() for name, value in table.items()
        }
        changes |= {("data", name): attribute_as("data", value) for name, value in OTHER_DATA.items()}
    if verb != "fit":
        changes |= {("posterior", name): attribute_as("posterior", value) for name, value in OTHER_POSTERIORS.items()}
    for option, (verbs, given_values) in OPTIONS.items():
        if verb in verbs:
            changes |= {(option, f"{i}: {value!r}"): option_as(option, value) for i, value in enumerate(given_values)}
    return changes


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
    for value in scores[1:-1]:
        assert value.shape == (len(data),) and torch.equal(value.isfinite(), counts)
    return [*scores[1:-1]]


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
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


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
@pytest.mark.timeout(1800)
@settings(quiet, max_examples=1500)
@given(calls())
def test_of_many_more(case: tuple[str, str, list[tuple[str, str]]]) -> None:
    check(*case)
