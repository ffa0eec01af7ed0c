"""The exact evidence of the pendulum's pictures, and the table's models and scores on a little data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pyro_seq as ps
from benchmarks.tables import kalman_vae_pendulum as table
from benchmarks.tables._pendulum_truth import MAX_SPEED, truth
from pyro_seq.datasets import Pendulum, torque_pendulum
from pyro_seq.datasets.torque_pendulum import render, simulate

NOISE = 0.3


@pytest.fixture(scope="module")
def noisy():
    part = torque_pendulum(num_train=3, num_validation=0, num_test=1, num_steps=6, size=8).train
    noise = torch.randn(part.values.shape, generator=torch.Generator().manual_seed(0))
    return ps.Sequences(part.values + NOISE * noise, inputs=part.inputs, context=part.context)


def by_quadrature(data, index, num_seen):
    """Evidence and mean pictures of one series by the trapezoidal rule over all starts."""
    angles = np.linspace(-math.pi, math.pi, 120, endpoint=False)
    speeds = np.linspace(-MAX_SPEED, MAX_SPEED, 61)
    starts = np.stack(np.meshgrid(angles, speeds, indexing="ij"), -1).reshape(-1, 2)
    torque = np.repeat(data.inputs[index : index + 1, :, 0].double().numpy(), len(starts), 0)
    pictures = render(simulate(Pendulum(), starts, torque)[..., 0], data.obs_shape[-1])
    seen = data.values[index, :num_seen].double().numpy()
    errors = np.square(pictures[:, :num_seen] - seen).sum((1, 2, 3, 4))
    edges = np.where(np.abs(starts[:, 1]) > MAX_SPEED - 1e-9, 0.5, 1.0) / (120 * 60)
    log_terms = np.log(edges) - errors / (2 * NOISE**2) - seen.size * math.log(NOISE * math.sqrt(2 * math.pi))
    terms = np.exp(log_terms - log_terms.max())
    mean = (terms[:, None] * pictures.reshape(len(starts), -1)).sum(0) / terms.sum()
    return log_terms.max() + math.log(terms.sum()), mean.reshape(pictures.shape[1:])


@pytest.mark.parametrize("num_seen", [None, 4])
def test_evidence_and_frames_are_those_of_quadrature(noisy, num_seen):
    found = truth(noisy, NOISE, num_seen=num_seen, num_draws=400)
    for index in range(len(noisy)):
        evidence, frames = by_quadrature(noisy, index, num_seen)
        error = 5 / math.sqrt(found.effective_draws[index])
        assert found.effective_draws[index] > 40
        assert abs(found.log_evidence[index] - evidence) < error
        assert np.abs(found.frames[index] - frames).max() < error


def test_models_differ_in_how_codes_move():
    setting = table.SETTINGS["noise"]
    data = table.data_of(setting)
    models = {name: table.model_of(name, setting, data.train) for name in table.MODELS + table.MORE_MODES}
    sizes = {name: (model.dynamics.state_dim, model.dynamics.num_modes) for name, model in models.items()}
    assert sizes == {
        "KVAE, CNN": (3, 2),
        "KVAE, MLP": (3, 2),
        "one mode": (3, 1),
        "first order": (2, 1),
        "static": (2, 1),
        "KVAE, CNN, 4 modes": (3, 4),
        "KVAE, MLP, 4 modes": (3, 4),
    }


def test_a_fixed_scale_is_the_asked_one(monkeypatch):
    _small(monkeypatch)
    setting = table.SETTINGS["fixed"]
    train = table.data_of(setting).train
    model = table.model_of("static", setting, train)
    table.train(model, train, 0, num_steps=3, weight=0.3)
    torch.testing.assert_close(model.emission.scale.square(), torch.tensor(0.1))


def test_static_codes_stand_still(monkeypatch):
    _small(monkeypatch)
    setting = table.SETTINGS["noise"]
    train = table.data_of(setting).train
    model = table.model_of("static", setting, train)
    table.train(model, train, 0, num_steps=3, weight=0.3)
    assert not model.dynamics.transition.any() and not model.dynamics.input_matrix.any()


def test_runs_make_a_table_below_the_evidence(monkeypatch, capsys):
    _small(monkeypatch)
    runs = [table.run("noise", "KVAE, MLP", seed, num_steps=8, num_samples=2) for seed in (0, 1)]
    best = table.references("noise", num_draws=10)
    record = {"runs": runs, "references": {"noise": best}, "facts": {"command": "it"}}
    rows = table.rows_of(record)
    assert {row["command"] for row in rows} == {"it"}
    assert next(row for row in rows if row["name"] == "KVAE, MLP: test bound")["seeds"] == 2
    assert max(run["test bound"] for run in runs) < best["log evidence of the true generator"]
    assert best["true physics"] < best["nearest training series"]
    table.print_table(rows)
    assert "KVAE, MLP" in capsys.readouterr().out


def test_all_runs_are_distinct():
    assert len(set(table.wanted())) == len(table.wanted())


def _small(monkeypatch):
    whole = table.data_of
    monkeypatch.setattr(table, "data_of", lambda setting: table.Data(*(part[:16] for part in whole(setting))))
