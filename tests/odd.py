"""Odd calls of the verbs: arguments of every wrong type, shape and value, and right ones that are rarely met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

import pyro_seq as ps

NUM_SERIES, NUM_STEPS = 4, 6
NOW = 1.7e9
GRID = np.arange(float(NUM_STEPS))
DAYS = pd.date_range("2024-01-01", periods=NUM_STEPS)
MOMENTS = pd.date_range("2024-01-01", periods=NUM_STEPS, freq="10s")  # solvers walk from one to the next in little time
Change = Callable[["Call"], None]


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


def hidden(*place: Any) -> torch.Tensor:
    mask = torch.ones(NUM_SERIES, NUM_STEPS, dtype=torch.bool)
    mask[place] = False
    return mask


def holed(x: torch.Tensor, value: float, *place: Any) -> torch.Tensor:
    x = x.clone()
    x[place] = value
    return x


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
        "dates": MOMENTS,
        "list of dates": list(MOMENTS),
        "dates in letters": [str(day) for day in DAYS],
        "datetime64": MOMENTS.to_numpy(),
        "months": pd.date_range("2024-01-01", periods=NUM_STEPS, freq="MS"),
        "periods": pd.period_range("2024-01", periods=NUM_STEPS, freq="M"),
        "timedeltas": pd.timedelta_range("0h", periods=NUM_STEPS, freq="20s"),
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
        "a gap": np.where(GRID < 3, GRID, GRID + 300),
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
SMALL_COUNTS = [count for count in COUNTS if count != 10**9]
AHEAD = [
    [6.0, 7.0],
    [6, 7],
    (6.0,),
    np.array([6.0, 6.5, 9.0]),
    [[6.0]] * NUM_SERIES,
    torch.tensor([6.0]),
    [1.7e9],
    [1e300],
]
NOT_AHEAD = [[7.0, 6.0], [5.0, 6.0], [-3.0], [], [6.0, 6.0], [np.nan], DAYS, "tomorrow", 6.0, [[6.0]] * 3, [None]]
FORECASTS = [lambda n=n: ps.Forecasting(n) for n in (0, -1, 1, 2.0, 2.5, NUM_STEPS, 100, "3", None)]
IMPUTATIONS = [lambda f=f: ps.Imputation(f) for f in (0, 1.0, 1.5, -0.1, np.nan, "half", None)]
KEEPING = [lambda n=n: ps.Imputation(0.5, num_kept=n) for n in (0, -1, 1.5, NUM_STEPS, 100)]
OTHER_TASKS = [ps.Reconstruction, lambda: ps.Forecasting, lambda: None, lambda: "forecasting", lambda: 3]
RATES = [0.0, -1.0, np.nan, np.inf, "0.1", None, np.float32(0.1), torch.tensor(0.1), [0.1]]
WEIGHTS = [{"x": -1.0}, {"x": np.nan}, {"x": "1"}, {"x": np.float32(0.5)}, {"nothing": 1.0}, {1: 1.0}, 3, None]
NO_FILES = [None, "", 3, "/", "/proc/none/file.pt", b"\0", "/tmp"]
READERS = ("forecast", "impute", "causal", "reconstruct", "sample", "evaluate")
OPTIONS: dict[str, tuple[tuple[str, ...], list[Any]]] = {  # the verbs that have an option, and what may come for it
    "num_samples": (READERS, COUNTS),
    "chunk_size": (READERS, COUNTS),
    "seed": ((*READERS, "fit"), [*COUNTS, 2**63 - 1, np.uint64(2**62), np.inf]),
    "horizon": (("forecast",), [*COUNTS, 1e300]),
    "times": (("forecast",), AHEAD + NOT_AHEAD),
    "inputs": (("forecast",), [torch.zeros(NUM_SERIES, 2, 1), "x", [], 0.0]),
    "is_causal": (("impute",), ["no", 1, None, np.bool_(True), []]),
    "task": (("evaluate",), FORECASTS + IMPUTATIONS + KEEPING + OTHER_TASKS),
    "learning_rate": (("fit",), RATES),
    "num_steps": (("fit",), SMALL_COUNTS),
    "batch_size": (("fit",), COUNTS),
    "clip_norm": (("fit",), [0, -1.0, np.nan, np.inf, "1", np.float32(1.0), 1e-30]),
    "average": (("fit",), [0, 1, 0.5, -0.5, np.nan, "0.9", np.float32(0.5)]),
    "num_particles": (("fit",), SMALL_COUNTS),
    "scales": (("fit",), WEIGHTS),
    "views": (("fit",), [3, [3], "views", [lambda data, step, generator: None]]),
    "optimizer": (("fit",), ["adam", None, torch.optim.LBFGS]),
    "method": (("fit",), [ps.SVI, None, "svi"]),
    "validation": (("fit",), [torch.rand(4, 6, 2), "x"]),
    "trainer": (("fit",), ["x", ps.Trainer]),
    "path": (("save", "load"), NO_FILES),
}
OTHER_DATA: dict[str, Callable[[Call], Any]] = {
    "none": lambda call: None,
    "a tensor": lambda call: call.values,
    "an array": lambda call: call.values.numpy(),
    "a list": lambda call: call.values.tolist(),
    "a frame": lambda call: pd.DataFrame({"x": [1.0]}),
    "a posterior": lambda call: call.posterior,
    "the class": lambda call: ps.Sequences,
    "a file": lambda call: "data.npz",
}
OTHER_POSTERIORS: dict[str, Callable[[Call], Any]] = {
    "none": lambda call: None,
    "the model": lambda call: call.posterior.model,
    "a name": lambda call: "model.pt",
    "data": lambda call: ps.Sequences(call.values),
    "the class": lambda call: ps.GuidePosterior,
}


def odd_things(verb: str) -> dict[tuple[str, str], Change]:
    """All that may be odd about a call of `verb`, by the argument and what it is."""
    changes: dict[tuple[str, str], Change] = {}
    if verb not in ("save", "load"):
        changes |= {("values", name): _values(change) for name, change in VALUES.items()}
        changes |= {
            (kind, name): _put("fields", kind, it) for kind, table in FIELDS.items() for name, it in table.items()
        }
        changes |= {("data", name): _instead("data", make) for name, make in OTHER_DATA.items()}
    if verb not in ("fit", "load"):
        changes |= {("posterior", name): _instead("posterior", make) for name, make in OTHER_POSTERIORS.items()}
    for option, (verbs, given) in OPTIONS.items():
        if verb in verbs:
            changes |= {(option, f"{i}: {it!r}"): _put("options", option, it) for i, it in enumerate(given)}
    return changes


def _values(change: Callable[[torch.Tensor], Any]) -> Change:
    return lambda call: setattr(call, "values", change(call.values))


def _put(table: str, name: str, value: Any) -> Change:
    return lambda call: getattr(call, table).update({name: value})


def _instead(name: str, make: Callable[[Call], Any]) -> Change:
    return lambda call: setattr(call, name, make(call))
