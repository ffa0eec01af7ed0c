"""The study of ODE-LEBM: what it asks of each data set, its trivial predictors, and each data set briefly."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pyro_seq as ps
from benchmarks.studies import _ode_lebm_scores as scores
from benchmarks.studies import _ode_lebm_tasks as tasks
from benchmarks.studies import _ode_lebm_uses as uses

ROOT = Path(__file__).parents[2]


def options(**changes) -> argparse.Namespace:
    known = {
        "data": "sinusoids",
        "prior": "energy",
        "inference": "langevin",
        "start": "persistent",
        "encoder": "rnn",
        "learn": "observed",
        "share": 0.2,
        "source": "bundled",
        "walker": "hopper",
        "smoke": True,
    }
    return argparse.Namespace(**(known | changes))


def test_the_nearest_training_sinusoid_has_the_known_error() -> None:
    task = tasks.SETUPS["sinusoids"].load(options(smoke=False))
    table = scores.trivial(task)
    assert table["nearest training series"]["all points"] == pytest.approx(0.0012, abs=2e-4)
    assert 0.4 < table["training mean"]["all points"] < 0.55
    assert table["linear interpolation"]["hidden points"] > table["linear interpolation"]["all points"]
    assert int(task.train.mask.sum(1).unique()) == 20, "learning sees as many points as are given"


def test_learning_from_all_points_thins_the_encoder() -> None:
    chosen = options(learn="all")
    setup = tasks.SETUPS["sinusoids"]
    task = setup.load(chosen)
    assert task.train.mask.all() and not task.given.mask.all()
    assert isinstance(tasks.build(setup, task, chosen).encoder, tasks.ThinnedEncoder)
    cold = tasks.build(setup, task, options(start="cold", prior="gaussian"))
    assert not cold.has_guide and tasks.energy_of(cold) is None


@pytest.mark.parametrize("data", ["sinusoids", "spiral", "digits", "balls"])
def test_scores_of_an_untrained_model(data: str) -> None:
    setup = tasks.SETUPS[data]
    task = setup.load(options(data=data))
    task = tasks.Task(
        **{
            name: getattr(task, name)[:6] if name in ("given", "test", "truth") else getattr(task, name)
            for name in ("train", "complete", "given", "test", "truth", "target", "has_grid")
        },
        asked={name: mask[:6] for name, mask in task.asked.items()},
    )
    torch.manual_seed(0)
    model = tasks.build(setup, task, options(data=data))
    model.adapt(task.train)
    latents = scores.inferred(model, task.given, start="guide", num_steps=0, num_chains=2)
    assert latents.shape == (2, 6, sum(setup.dims))
    prediction = scores.decoded(model, task.given, latents)
    assert prediction.emission_means.shape == (2, *task.truth.shape)
    table = scores.errors(model, task, latents)
    assert table.keys() == task.asked.keys()
    for row in table.values():
        assert row["mean of chains"] <= row["single chain"] + 1e-6
    assert all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in scores.trivial(task).values())

    mixed = uses.shuffled(task.given)
    assert torch.equal(mixed.mask, task.given.seen().mask)
    torch.testing.assert_close(mixed.values.sum(1), task.given.values.sum(1), rtol=1e-4, atol=1e-4)
    assert (uses.roughness(mixed) > uses.roughness(task.given)).float().mean() > 0.5
    trained = scores.inferred(model, task.train, start="guide", num_steps=0, num_chains=1)
    figures = uses.generation(model, task, latents, trained)
    assert figures["prior: |z|"] > 0 and "prior, 10 times longer chains: energy gap" in figures
    assert uses.detection(model, task, lambda data: latents, latents).keys() >= {"AUROC, joint energy"}
    assert bool(uses.description(model, task, latents, trained)) == (data != "spiral")


def test_a_neighbour_that_ends_is_continued() -> None:
    wave = torch.sin(0.5 * torch.arange(200.0))
    starts = torch.arange(0, 60)
    train = ps.Sequences(torch.stack([wave[start : start + 40] for start in starts])[..., None])
    test = ps.Sequences(torch.stack([wave[3:93], wave[20:110]])[..., None])
    asked = {"all": test.mask}
    task = tasks.Task(train, train, tasks.continued(test, 40), test, asked, test.values)
    assert float((scores.neighbour(task) - test.values).abs().max()) < 0.2


def test_inference_starts_and_lengths() -> None:
    setup = tasks.SETUPS["sinusoids"]
    task = setup.load(options())
    model = tasks.build(setup, task, options())
    few = task.given[:3]
    arguments = {"num_steps": 2, "num_chains": 2}
    cold, again = (scores.inferred(model, few, start="cold", **arguments) for _ in range(2))
    warm = scores.inferred(model, few, start="guide", **arguments)
    assert torch.equal(cold, again) and not torch.equal(cold, warm)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["sinusoids", "spiral", "digits", "balls"])
def test_smoke(data: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.studies.ode_lebm",
        "--data",
        data,
        "--smoke",
        "--quiet",
        "--out",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "scores.json").read_text())
    assert {"recipe", "errors", "trivial", "uses", "seconds"} <= record.keys()
    assert (tmp_path / "energy.png").is_file() and (tmp_path / "chains.csv").is_file()
