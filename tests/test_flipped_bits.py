"""One flipped bit in a file of any kind that the library writes: refused as ours to refuse, or of no consequence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import pyro_seq as ps
from pyro_seq.datasets._cache import cached
from pyro_seq.diagnostics import load_netcdf, save_netcdf, to_arviz
from pyro_seq.errors import PyroSeqError
from pyro_seq.training import files
from pyro_seq.training.callbacks import AtomicCheckpointIO
from tests.golden import make
from tests.training.runs import make_normalised

FEW, MANY = 20, 1000  # flips of each kind of file
EDGE = 300  # bytes at either end, where names and sums stand, that get half of the flips


class Kind(NamedTuple):
    """How a file of a kind is written into a folder, and what is read from it, as nested mappings."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]


def dated(has_inputs: bool = True) -> ps.Sequences:
    """With all that a file can hold."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(4, 6, 2, generator=generator)
    mask = torch.rand(4, 6, generator=generator) < 0.8
    days = pd.date_range("2024-01-01", periods=6, freq="D", tz="Europe/Berlin")
    return ps.Sequences(values, mask=mask, times=days, inputs=torch.ones(4, 6, 1) if has_inputs else None)


def chains_of_two(has_inputs: bool = True) -> ps.StoredPosterior:
    data = dated(has_inputs)
    torch.manual_seed(0)
    model = ps.DynamicFactors((2,), 2)
    model.adapt(data)
    draws = {"factors": torch.rand(2, 3, 4, 6, 2)}
    return ps.StoredPosterior(model, data, draws, sample_stats={"lp": torch.rand(2, 3)})


def saving(build: Callable[[], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        ps.save(build(), folder / "posterior.pt")
        return folder / "posterior.pt"

    return write


def read_posterior(path: Path) -> Any:
    posterior = ps.load(path)
    content = {name: value for name, value in vars(posterior).items() if name not in ("model", "data")}
    content |= {"model": type(posterior.model).__name__, "weights": dict(posterior.model.state_dict())}
    return content | {"data": vars(posterior.data)} if isinstance(posterior, ps.StoredPosterior) else content


def training(fit: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        fit(folder / "run")
        return folder / "run" / "checkpoint.pt"

    return write


def run_svi(folder: Path) -> Any:
    from tests import toy

    method = ps.SVI(num_steps=2, average=0.9)
    trainer = ps.Trainer(progress=False, accelerator="cpu", directory=folder)
    return ps.fit(make_normalised(), toy.make_data(), method, trainer=trainer)


def write_lightning(folder: Path) -> Path:
    """What Lightning's own callback writes."""
    callback = ModelCheckpoint(dirpath=folder, filename="own", every_n_train_steps=2)
    trainer = ps.Trainer(progress=False, accelerator="cpu", callbacks=[callback])
    golden = make.POSTERIORS["recurrent_vae"]
    ps.fit(golden.model(0), golden.data(), golden.method, trainer=trainer)
    return folder / "own.ckpt"


def write_sequences(folder: Path) -> Path:
    dated().to_npz(folder / "data.npz")
    return folder / "data.npz"


def write_netcdf(folder: Path) -> Path:
    posterior = chains_of_two(has_inputs=False)
    return save_netcdf(to_arviz(posterior, posterior.data, num_samples=4), folder / "posterior.nc")


def read_netcdf(path: Path) -> Any:
    idata = load_netcdf(path)
    names = idata.children if hasattr(idata, "children") else idata.groups()
    return {name: idata[name].to_dict() for name in names}


def table() -> dict[str, np.ndarray]:
    return {"values": np.arange(24.0).reshape(2, 3, 4), "labels": np.array(["a", "bc"])}


def write_cache(folder: Path) -> Path:
    cached("table", {"size": 3}, table)
    (path,) = (folder / "pyro_seq" / "generated").iterdir()
    return path


KINDS = {
    "posterior": Kind(saving(lambda: make.fitted(make.POSTERIORS["kalman_vae"])), read_posterior),
    "posterior of chains": Kind(saving(lambda: make.fitted(make.POSTERIORS["ode_lebm_chains"])), read_posterior),
    "draws": Kind(saving(chains_of_two), read_posterior),
    "run": Kind(training(run_svi), files.read),
    "run with chains": Kind(training(lambda path: make.fitted(make.RUNS["run_chains"], directory=path)), files.read),
    "Lightning": Kind(write_lightning, AtomicCheckpointIO().load_checkpoint),
    "sequences": Kind(write_sequences, lambda path: vars(ps.Sequences.from_npz(path))),
    "netcdf": Kind(write_netcdf, read_netcdf),
    "cache": Kind(write_cache, lambda path: cached("table", {"size": 3}, table)),
}


def same(first: Any, second: Any) -> bool:
    """Whether two nests hold the same numbers, of the same types, under the same names."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and (first == second or first != first)


def flips(size: int, count: int) -> Iterator[tuple[int, int]]:
    """Places of `count` random bits in a file of `size` bytes: a byte, and one of its bits."""
    chance = random.Random(0)
    ends = [*range(min(EDGE, size)), *range(max(size - EDGE, 0), size)]
    for number in range(count):
        yield (chance.choice(ends) if number % 2 else chance.randrange(size)), chance.randrange(8)


def unnoticed(kind: Kind, folder: Path, count: int) -> tuple[int, list[str]]:
    """How many of `count` flips were refused, and what went wrong with the others."""
    path = kind.write(folder)
    content, expected, refused, wrong = path.read_bytes(), kind.read(path), 0, []
    for place, bit in flips(len(content), count):
        altered = bytearray(content)
        altered[place] ^= 1 << bit
        path.write_bytes(altered)
        try:
            found = kind.read(path)
        except PyroSeqError:
            refused += 1
        except Exception as error:
            wrong.append(f"bit {bit} of byte {place}: {type(error).__name__}: {error}")
        else:
            wrong += [] if same(expected, found) else [f"bit {bit} of byte {place}: other content"]
    return refused, wrong


@pytest.mark.filterwarnings("ignore::UserWarning")  # of runs that are far too short
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=lambda count: f"{count} flips")
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_changes_nothing(kind: str, count: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused, wrong = unnoticed(KINDS[kind], tmp_path, count)
    assert wrong == []
    assert refused > count / 4 or kind == "cache", "which is made anew"


def test_other_content_is_found() -> None:
    content = {"a": torch.ones(2), "b": [np.zeros(2), "text", float("nan")], "c": ps.Sequences(torch.zeros(1, 2, 1))}
    assert same(content, dict(content))
    for name, other in [("a", torch.ones(2).double()), ("a", torch.zeros(2)), ("b", content["b"][:2]), ("c", None)]:
        assert not same(content, content | {name: other})
    assert not same({"a": 1}, {"b": 1}) and not same(1, 1.0)
