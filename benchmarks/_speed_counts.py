"""Operations and synchronisations of a training step and of a forecast of each model, counted below autograd."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pyro_seq as ps
from pyro_seq.nn.ode_rnn import RNNEncoder
from pyro_seq.ops.langevin import MALA

FIRST, LATER = 3, 7  # training steps of two runs, whose difference is counted


class Count(TorchDispatchMode):
    """Counts operations that are no views, and reads of a number, for which a device would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.reads += 1
        elif not func.is_view:
            self.operations += 1
        return func(*args, **(kwargs or {}))


class Case(NamedTuple):
    """A model, its data, and a method that trains for so many steps; how many draws its forecast has."""

    make: Callable[[], ps.SequenceModel]
    data: Callable[[], ps.Sequences]
    method: Callable[[int], Any]
    num_samples: int = 100


def swings(num_series: int = 32, num_steps: int = 20) -> ps.Sequences:
    """Sines of four variables with noise."""
    generator = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * torch.rand(num_series, 1, 4, generator=generator)
    values = torch.sin(0.1 * torch.arange(num_steps)[:, None] + phase)
    return ps.Sequences(values + 0.05 * torch.randn(values.shape, generator=generator))


def pictures(num_series: int, size: int) -> ps.Sequences:
    """Noise, which costs what films cost."""
    generator = torch.Generator().manual_seed(0)
    return ps.Sequences(torch.rand(num_series, 20, 1, size, size, generator=generator))


def _svi(num_steps: int) -> ps.SVI:
    return ps.SVI(num_steps=num_steps, batch_size=16, learning_rate=1e-3)


def _chains(num_steps: int) -> ps.MaximumLikelihood:
    return ps.MaximumLikelihood(kernel=ps.Langevin(MALA(0.05)), num_steps=num_steps, batch_size=16, chain_steps=2)


def _ode_lebm() -> ps.ODELEBM:
    return ps.ODELEBM((4,), 8, encoder=RNNEncoder((4,), 8))


def _srvp() -> ps.SRVP:
    architecture = ps.DCGAN(channels=(16, 32, 64), code_dim=64)
    return ps.SRVP((1, 32, 32), 16, noise_dim=8, content_dim=64, hidden_dim=128, architecture=architecture)


CASES = {
    "ODE2VAE, vectors": Case(lambda: ps.ODE2VAE((4,), 8), swings, _svi),
    "ODE2VAE, 16 x 16": Case(lambda: ps.ODE2VAE((1, 16, 16), 8), lambda: pictures(32, 16), _svi, 20),
    "KalmanVAE, vectors": Case(lambda: ps.KalmanVAE((4,), 2, 4), swings, _svi),
    "KalmanVAE, 32 x 32": Case(lambda: ps.KalmanVAE((1, 32, 32), 2, 4), lambda: pictures(32, 32), _svi, 20),
    "SRVP, 32 x 32": Case(_srvp, lambda: pictures(16, 32), _svi, 20),
    "RecurrentVAE, vectors": Case(lambda: ps.RecurrentVAE((4,), 2), swings, _svi),
    "ODELEBM, bound": Case(_ode_lebm, swings, _svi),
    "ODELEBM, chains": Case(_ode_lebm, swings, _chains),
}
QUICK_CASES = ("RecurrentVAE, vectors",)


def counts(name: str) -> dict[str, Any]:
    """Figures of one case: operations and reads a training step, of a forecast and of draws from the prior."""
    case, data = CASES[name], CASES[name].data()
    runs = [_fitted(case, data, num_steps) for num_steps in (FIRST, LATER)]
    (_, first), (posterior, later) = runs
    step = {key: (getattr(later, key) - getattr(first, key)) / (LATER - FIRST) for key in ("operations", "reads")}
    row: dict[str, Any] = {"name": name, "step": step}
    few = data[:4]
    verbs: dict[str, Callable[[], Any]] = {
        "forecast": lambda: ps.forecast(posterior, few, horizon=20, num_samples=case.num_samples)
    }
    if not posterior.model.is_conditional:
        verbs["sample"] = lambda: ps.sample(posterior, few, num_samples=case.num_samples)
    for verb, call in verbs.items():
        with Count() as counted:
            call()
        start = time.process_time()
        call()
        seconds = time.process_time() - start
        row[verb] = {"operations": counted.operations, "reads": counted.reads, "seconds": seconds}
    return row


def _fitted(case: Case, data: ps.Sequences, num_steps: int) -> tuple[ps.Posterior, Count]:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)
        model = case.make()
        trainer = ps.Trainer(progress=False, log_every=10**6, accelerator="cpu")
        with Count() as counted:
            posterior = ps.fit(model, data, case.method(num_steps), trainer=trainer, seed=0)
    return posterior, counted


def lines_of(rows: list[dict[str, Any]], before: dict[str, dict[str, Any]]) -> list[str]:
    """A table in Markdown; figures of another run stand in brackets."""
    lines = ["| model | a step: operations | synchronisations | forecast: operations | synchronisations | ms |"]
    lines.append("|" + " --- |" * 6)
    for row in rows:
        old = before.get(row["name"], {})
        cells = [row["name"]]
        for part, key in (("step", "operations"), ("step", "reads"), ("forecast", "operations"), ("forecast", "reads")):
            cells.append(_cell(row[part][key], old.get(part, {}).get(key)))
        seconds = old.get("forecast", {}).get("seconds")
        cells.append(_cell(1e3 * row["forecast"]["seconds"], None if seconds is None else 1e3 * seconds))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(value: float, earlier: float | None) -> str:
    return f"{value:,.0f}" + ("" if earlier is None else f" ({earlier:,.0f})")
