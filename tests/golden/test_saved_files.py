"""Files of an earlier version load, predict what they predicted, resume, and are what is written today."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyro_seq as ps
from pyro_seq.training.files import renamed
from tests.golden.make import FILES, POSTERIORS, PREDICTIONS, RUNS, fitted, predictions

OTHER = 1  # seed of models that files are read into
EARLIER = "is of an earlier version, which kept no options"
CONTENTS = [FILES / f"{name}.pt" for name in POSTERIORS] + [FILES / name / "checkpoint.pt" for name in RUNS]


# what files have gained since, in the words of `kinds`
DREAMT = dict.fromkeys([f"/history/{name}/{step}" for name in ("dreams", "rehearsal") for step in (0, 1)], "float  ")
ADDED = {
    "ode2vae": DREAMT,
    "ode2vae_images": DREAMT,
    "ode2vae_draws": {"/sample_stats/energy": "Tensor torch.float32 torch.Size([2, 4])"},
    "latent_ode": DREAMT,
    "srvp": {"/model/emission.quantiles": "Tensor torch.float32 torch.Size([128, 65])"},
}
LATER = ("encoder.head.hidden.",)  # layers that have no effect in a model of an earlier file
RANGE = ("low", "high", "low_input", "high_input")  # of the training data, in every model since
# what is one number for each of two variables since; and what the optimiser keeps of the noise scale
WIDER = re.compile(r"(units\.centre|units\.unit|emission\.log_scale|_seen\.low|_seen\.high)$")
OF_NOISE = {"run_svi": "/optimizers/0/state/4/", "run_chains": "/optimizers/0/state/1/"}


def contents(path: Path) -> dict[str, Any]:
    """What a file holds, behind its first line."""
    return torch.load(io.BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)


def earlier(name: str, file: str) -> dict[str, Any]:
    """What an earlier file holds, its weights under the names that they have today."""
    content, parts = contents(FILES / file), (POSTERIORS | RUNS)[name].model(OTHER).renamed_parts
    for field, owner in (("model", ""), ("weights", "model.")):
        if field in content:
            content[field] = renamed(content[field], parts, owner)
    return content


def today(path: Path, *added: str) -> dict[str, Any]:
    """What a file of today holds, but for the entries that were added since."""
    content = contents(path)
    content.pop("has_met_gaps", None)  # of a guide
    weights = content.get("model", {})
    for name in [name for name in weights if name.startswith(LATER)]:
        del weights[name]
    for name in added:
        assert content.pop(name)
    return content


def without_range(content: dict[str, Any]) -> dict[str, Any]:
    """What a file holds, but for the range of the training data, which is unknown after an earlier file."""
    unknown = {f"_seen.{name}": -torch.inf if "low" in name else torch.inf for name in RANGE}
    for name, value in unknown.items():
        assert float(content["model"].pop(name)) == value
    return content


def read(name: str) -> Any:
    """The posterior in an earlier file."""
    with pytest.warns(UserWarning, match=EARLIER):
        return ps.load(FILES / f"{name}.pt", POSTERIORS[name].model(OTHER))


def entries(value: Any, where: str = "") -> dict[str, Any]:
    """Every tensor, number and text of plain data by its path, and what is empty."""
    if isinstance(value, dict | list | tuple) and value:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, part in parts for path, leaf in entries(part, f"{where}/{key}").items()}
    return {where: value}


def kinds(content: dict[str, Any]) -> dict[str, str]:
    """The type of each entry, and the shape of a tensor."""
    found = entries(content).items()
    return {
        path: f"{type(leaf).__name__} {getattr(leaf, 'dtype', '')} {getattr(leaf, 'shape', '')}" for path, leaf in found
    }


def kinds_today(name: str, file: str) -> dict[str, str]:
    """The type and shape that each entry of an earlier file has when it is written today."""
    golden, found = (POSTERIORS | RUNS)[name], kinds(earlier(name, file)) | ADDED.get(name, {})
    owner = "/weights/model." if name in RUNS else "/model/"
    found |= {f"{owner}_seen.{end}": f"Tensor {golden.dtype} torch.Size([])" for end in RANGE}
    found |= {
        path: "bool  " for path in found if path.endswith("/fused")
    }  # Adam now moves all weights in one operation
    if golden.obs_shape != (2,):
        return found
    wider = [path for path in found if WIDER.search(path) or path.startswith(OF_NOISE.get(name, "no") + "exp_avg")]
    return found | {path: found[path].replace("torch.Size([])", "torch.Size([2])") for path in wider}


def digits(content: dict[str, Any]) -> dict[str, str]:
    """All digits of each entry; as a text, because nan is not nan."""
    return {path: repr(getattr(leaf, "tolist", lambda leaf=leaf: leaf)()) for path, leaf in entries(content).items()}


def assert_predicts(posterior: Any, data: ps.Sequences, name: str) -> None:
    """As stored, up to rounding: relative to the largest of the means."""
    with np.load(PREDICTIONS) as stored:
        for kind, means in predictions(posterior, data).items():
            expected = stored[f"{name}/{kind}"]
            np.testing.assert_allclose(means, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(), err_msg=kind)


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_saved_posterior_predicts_what_it_predicted(name: str) -> None:
    assert_predicts(read(name), POSTERIORS[name].data(), name)


@pytest.mark.parametrize("name", POSTERIORS)
def test_an_earlier_file_needs_a_model(name: str) -> None:
    with pytest.raises(ps.CheckpointError, match=r"did not keep how its model is made.*load\(path, model\)"):
        ps.load(FILES / f"{name}.pt")


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_file_read_and_written_again_holds_the_same_bits(name: str, tmp_path: Path) -> None:
    ps.save(read(name), tmp_path / "again.pt")
    content = today(tmp_path / "again.pt", "options", "recipe")
    new, old = without_range(content), earlier(name, f"{name}.pt")
    assert kinds(new) == kinds(old) and digits(new) == digits(old)


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_fit_today_writes_the_same_entries(name: str, tmp_path: Path) -> None:
    ps.save(fitted(POSTERIORS[name]), tmp_path / "new.pt")
    assert kinds(today(tmp_path / "new.pt", "options", "recipe")) == kinds_today(name, f"{name}.pt")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    """Two steps then and two now predict what four steps did then; figures of the first two are those of then."""
    golden, folder = RUNS[name], tmp_path / name
    shutil.copytree(FILES / name, folder)
    rows = contents(folder / "checkpoint.pt")["rows"]
    with pytest.warns(UserWarning, match=EARLIER):
        posterior = fitted(golden, seed=OTHER, num_steps=4, directory=folder, resume=True)
    assert posterior.status == "completed" and posterior.history["step"] == [1.0, 2.0, 3.0, 4.0]
    assert posterior.history["loss"][:2] == [row["loss"] for row in rows]
    assert_predicts(posterior, golden.data(), name)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_today_writes_the_same_entries(name: str, tmp_path: Path) -> None:
    fitted(RUNS[name], directory=tmp_path)
    new, old = today(tmp_path / "checkpoint.pt", "options", "num_devices"), earlier(name, f"{name}/checkpoint.pt")
    assert kinds(new) == kinds_today(name, f"{name}/checkpoint.pt") and new["facts"] == old["facts"]
    now, then = ((folder / "metrics.csv").read_text().splitlines() for folder in (tmp_path, FILES / name))
    assert now[0] == then[0] and len(now) == len(then)


@pytest.mark.parametrize("path", CONTENTS, ids=lambda path: path.relative_to(FILES).as_posix())
def test_no_file_names_a_module(path: Path) -> None:
    """So modules may move."""
    assert b"pyro_seq." not in path.read_bytes() and path.stat().st_size < 60_000
