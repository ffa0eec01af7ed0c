"""The benchmark's trainings are those of the library's methods, and its parts run; no timing."""

from __future__ import annotations

import warnings

import pytest
import torch

import pyro_seq as ps
from benchmarks import _measure, ode_lebm
from benchmarks._measure import Timing
from benchmarks._ode_lebm_tasks import BASELINE, BEST, CLIP_NORM, COLD, VARIANTS, Training, image_task, spiral_task
from pyro_seq.datasets import spirals
from pyro_seq.infer.maximum_likelihood import MaximumLikelihood
from pyro_seq.training.trainer import Trainer


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("task", [lambda: spiral_task(6, 3), lambda: image_task(3, 3, 4, 8)], ids=["spirals", "images"])
@pytest.mark.parametrize("has_energy", [False, True], ids=["normal", "energy"])
def test_a_step_of_each_variant_moves_what_it_trains(task, has_energy):
    task = task()
    for variant in (BASELINE, *VARIANTS):
        training = Training(task, variant, has_energy=has_energy)
        before = parameters(training.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cold ULA on an untrained model may fail, and says so
            assert training.step().isfinite()
        moved = {name for name, value in parameters(training.model).items() if not torch.equal(value, before[name])}
        has_guide = variant.kernel is None or variant.kernel.start == "guide"
        assert any(name.startswith("encoder") for name in moved) == has_guide
        assert any(name.startswith("initial_prior") for name in moved) == has_energy
        assert any(name.startswith("vector_field") for name in moved)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_step_trains_what_maximum_likelihood_trains(variant):
    task = spiral_task(4, 4)
    training, model = Training(task, variant, has_energy=True), Training(task, variant, has_energy=True).model
    method = MaximumLikelihood(
        num_steps=1,
        kernel=variant.kernel,
        chain_steps=variant.num_steps,
        is_persistent=variant.is_persistent,
        preconditioner=variant.preconditioner,
        guide_loss=variant.guide_loss,
        learning_rate=1e-2,
        clip_norm=CLIP_NORM,
    )
    before = parameters(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training.step()
        ps.fit(model, task.data, method, trainer=Trainer(progress=False))
    moved = [
        {name for name, value in parameters(trained).items() if not torch.equal(value, before[name])}
        for trained in (training.model, model)
    ]
    assert moved[0] == moved[1]


def test_curves_costs_and_plots(tmp_path, monkeypatch):
    monkeypatch.setattr(ode_lebm, "folder", lambda: tmp_path)
    monkeypatch.setattr(_measure, "folder", lambda: tmp_path)
    monkeypatch.setattr(ode_lebm, "VARIANTS", (COLD, BEST))
    test = spirals(num_train=1, num_validation=0, num_test=2, num_test_steps=20).test
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curves = ode_lebm.error_curves(spiral_task(4, 2), test, budget=0.1, num_points=2)
    assert set(curves) == {BASELINE.name, COLD.name, BEST.name, f"{COLD.name}, energy", f"{BEST.name}, energy"}
    for points in curves.values():
        assert points[0].seconds <= points[1].seconds and points[0].num_steps <= points[1].num_steps
    ode_lebm.plot_errors(curves)
    assert (tmp_path / "ode_lebm_errors.png").stat().st_size > 0
    times = {BASELINE.name: Timing(1.0, 1.0, 0.0), COLD.name: Timing(16.0, 16.0, 0.0), BEST.name: Timing(3.0, 3.0, 0.0)}
    rows = {row.name: row for row in ode_lebm.cost_rows("spirals", times)}
    assert rows[f"spirals, {COLD.name}"].bound is None and rows[f"spirals, {BEST.name}"].ratio == pytest.approx(1 / 3)
