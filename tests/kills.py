"""Fits that are killed at random moments and resumed, beside one that is not; ``python -m tests.kills 25`` for many."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import pyro_seq as ps
from tests import factors

SHARE = 1.2  # of the time of a whole fit: the latest moment of a kill
OPTIONS = {"batch_size": 4, "learning_rate": 0.01, "average": 0.9}
GAPS = factors.make_data(10, num_steps=6).hide(torch.arange(6) == torch.arange(10)[:, None] % 7)
FILMS = ps.Sequences(torch.rand(6, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
SMALL = {"noise_dim": 2, "content_dim": 3, "num_frames": 2, "hidden_dim": 8}


def film_model() -> ps.SequenceModel:
    return ps.SRVP((1, 8, 8), 3, architecture=ps.DCGAN((4, 6), code_dim=5), **SMALL)


def energy_model() -> ps.SequenceModel:
    return factors.Factors(ps.EnergyMLP(factors.DIM, (4,)), chains=ps.PersistentChains(8, factors.DIM))


FITS: dict[str, tuple[Callable[[], ps.SequenceModel], ps.Sequences, Any]] = {
    "SVI": (film_model, FILMS, ps.SVI(num_steps=60, **OPTIONS)),
    "IWAE": (lambda: ps.RecurrentVAE((4,), hidden_dim=4), GAPS, ps.IWAE(num_steps=60, num_particles=3, **OPTIONS)),
    "MaximumLikelihood": (
        energy_model,
        GAPS,
        ps.MaximumLikelihood(num_steps=60, chain_steps=2, warmup_steps=20, inference_steps=2, **OPTIONS),
    ),
    "MCMC": (factors.Factors, GAPS, ps.MCMC(ps.NUTS(), num_samples=20, warmup_steps=10, num_chains=2)),
}


class Tally(NamedTuple):
    """What became of many kills.

    Attributes:
        kills: How many fits were killed.
        drafts: How many of them left a draft, which the next one had to remove.
        ends: How many fits came to an end nevertheless, each with the bits of the whole one.
        problems: What was wrong with them.
    """

    kills: int
    drafts: int
    ends: int
    problems: list[str]


def fit_and_save(name: str, folder: Path) -> None:
    """Go on with the fit in `folder`, and save its posterior there."""
    build, data, method = FITS[name]
    torch.manual_seed(0)
    trainer = ps.Trainer(progress=False, accelerator="cpu", log_every=3)
    if not isinstance(method, ps.MCMC):
        run = {"directory": folder, "resume": True, "checkpoint_every": 3}
        trainer = ps.Trainer(progress=False, accelerator="cpu", log_every=3, **run)
    ps.save(ps.fit(build(), data, method, seed=1, trainer=trainer), folder / "posterior.pt")


def outcome(name: str, folder: Path) -> dict[str, str]:
    """Sums of all that a fit has left, by name."""
    build, data, _ = FITS[name]
    posterior = ps.load(folder / "posterior.pt", build())
    tensors = dict(posterior.model.state_dict()) | posterior.draws(data, 5, seed=2)
    sums = {key: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for key, tensor in tensors.items()}
    sums["history"] = str(getattr(posterior, "history", None))
    metrics = folder / "metrics.csv"
    return sums | {"metrics": metrics.read_text() if metrics.exists() else ""}


def in_child(action: Callable[[], None], patience: float | None = None) -> bool:
    """Run `action` in a process of its own, killed when `patience` ends; whether it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)  # of one that has ended it takes no notice, as nobody has waited for it
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, "the fit failed, see above"
    return True


def tally(name: str, num_kills: int, seed: int, folder: Path) -> Tally:
    """Kill fits, each of which goes on where the one before it was killed, until `num_kills` have been."""
    moments = random.Random(seed)
    kills = drafts = ends = 0
    problems: list[str] = []
    whole = folder / "whole"
    whole.mkdir()
    begin = time.monotonic()
    in_child(lambda: fit_and_save(name, whole))
    duration, expected = time.monotonic() - begin, outcome(name, whole)
    while kills < num_kills:
        run = folder / f"run{ends}"
        run.mkdir()
        while True:
            patience = moments.uniform(0.0, SHARE * duration) if kills < num_kills else None
            if in_child(lambda run=run: fit_and_save(name, run), patience):
                break
            kills += 1
            drafts += any(path.name.endswith(".pt") and path.name.startswith(".") for path in run.iterdir())
        found = outcome(name, run)
        problems += [f"run {ends}: {key} differs" for key in expected if found.get(key) != expected[key]]
        strange = {path.name for path in run.iterdir()} ^ {path.name for path in whole.iterdir()}
        problems += [f"run {ends}: {strange} left or missing"] if strange else []
        ends += 1
    return Tally(kills, drafts, ends, problems)


def main() -> None:
    """Say what became of the kills of every method."""
    torch.set_num_threads(1)
    num_kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for name in FITS:
        with tempfile.TemporaryDirectory() as folder:
            print(name, tally(name, num_kills, seed, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
