"""The study of SRVP: its models are the paper's ablations, and its finer videos are the truth between the frames."""

from __future__ import annotations

import sys

import pytest
import torch

import pyro_seq as ps
from benchmarks.studies import srvp as study


@pytest.fixture
def options(monkeypatch):
    def of(*words: str):
        monkeypatch.setattr(sys, "argv", ["srvp", "--smoke", *words])
        return study.arguments()

    return of


@pytest.mark.parametrize("words", [(), ("--deterministic",)], ids=["stochastic", "deterministic"])
def test_every_second_frame_at_twice_the_rate_is_a_frame_of_the_test_videos(options, words):
    options = options(*words)
    finer = study.digits(options, 2 * (5 + 20) - 1, time_step=0.5).test[:]
    assert finer.values[:, ::2].equal(study.shown(options).values[:, :25])


def test_models_are_the_ablations(options):
    models = {kind: study.make(kind, options()) for kind in study.NAMES}
    kinds = {kind: type(model.transition) for kind, model in models.items()}
    residual = ps.ResidualTransition
    assert kinds == {
        "residual": residual,
        "mlp": ps.MLPTransition,
        "gru": ps.GRUTransition,
        "no-noise": residual,
    }
    assert [kind for kind, model in models.items() if not model.noise_dim] == ["no-noise"]
    sizes = {
        kind: sum(parameter.numel() for parameter in model.emission.decoder.parameters())
        for kind, model in models.items()
    }
    assert len(set(sizes.values())) == 1


def test_scores_are_averaged_over_each_horizon(options):
    options = options("--deterministic")
    collector = ps.metrics.BestOf(is_larger_better=True)
    values = torch.rand(1, 6, 95, generator=torch.Generator().manual_seed(0))
    collector.add(values)
    record = study.summary(ps.VideoScores("model", {"psnr": collector.result()}, None), options)["psnr"]
    for horizon in (20, 95):
        mean, half_width = record["best"][horizon]
        by_series = values[0, :, :horizon].mean(-1)
        assert mean == pytest.approx(float(by_series.mean()), rel=1e-5)
        assert half_width == pytest.approx(float(1.96 * by_series.std() / 6**0.5), rel=1e-5)
    assert len(record["by_step"][0]) == 95
