"""`fit` with `SVI`: what it learns, what it leaves alone, what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import math
import os
import signal
import warnings
from pathlib import Path

import pyro
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError, ShapeError, UnsupportedError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.predict.verbs import forecast
from pyro_seq.training.schedules import Constant, Cosine, WarmUp
from pyro_seq.training.trainer import Trainer
from pyro_seq.training.views import GrowingLength


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_learns(toy, quiet):
    data, model = toy.make_data(16), toy.make_lines()
    before = copy.deepcopy(model.state_dict())
    posterior = fit(model, data, SVI(num_steps=300, learning_rate=0.03), trainer=quiet)
    assert posterior.status == "completed" and posterior.model is model
    losses = posterior.history["loss"]
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert forecast(posterior, data, horizon=3, num_samples=4).samples.shape == (4, 16, 3, 2)


def test_mean_field_optimum_is_reached(toy, quiet):
    """Mean-field Gaussian inference of a linear Gaussian model has the exact means and the variances 1 / precision_ii.

    The encoder is linear and sees all steps, so it can represent them for every series at once.
    """
    data, model = toy.make_data(16, num_steps=toy.SEEN), toy.make_lines()
    model.emit.requires_grad_(False)
    method = SVI(num_steps=500, learning_rate=0.1, schedule=Cosine(500), num_particles=8)
    fit(model, data, method, trainer=quiet)
    mean, cov = toy.exact_posterior(model, data)
    scale = torch.linalg.inv(cov).diagonal().rsqrt()
    with torch.no_grad():
        line_loc, line_log_scale = model.encoder(data.values.flatten(1)).chunk(2, -1)
    loc = torch.cat([model.drift_loc.detach(), line_loc.flatten()]).double()
    log_scale = torch.cat([model.drift_log_scale.detach(), line_log_scale.flatten()]).double()
    # in units of the factors' own standard deviations; what remains is the noise of the last steps
    assert float(((loc - mean) / scale).square().mean().sqrt()) < 0.15
    assert float((log_scale - scale.log()).square().mean().sqrt()) < 0.15


def test_same_seed_same_bits_and_another_seed_another_run(toy, quiet):
    data, method = toy.make_data(), SVI(num_steps=20, batch_size=3)
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(models))  # the caller's random state must not matter
        models.append(fit(toy.make_lines(), data, method, seed=seed, trainer=quiet).model)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_process_is_left_as_it_was(toy, quiet, assert_rng_untouched, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    state = [
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        [logger.level for logger in loggers],
        list(warnings.filters),
        torch.get_float32_matmul_precision(),
    ]
    environment = dict(os.environ)
    model = toy.make_lines().eval()
    with assert_rng_untouched():
        fit(model, toy.make_data(), SVI(num_steps=3, batch_size=3), trainer=quiet)
    assert state == [
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        [logger.level for logger in loggers],
        list(warnings.filters),
        torch.get_float32_matmul_precision(),
    ]
    assert dict(os.environ) == environment
    assert not model.training and list(tmp_path.iterdir()) == [] and len(pyro.get_param_store()) == 0
    assert capfd.readouterr() == ("", "")


def test_two_models_share_nothing(toy, quiet):
    data = toy.make_data()
    alone = fit(toy.make_lines(), data, SVI(num_steps=5), trainer=quiet).model
    first, second = toy.make_lines(), toy.make_lines(1)
    fit(first, data, SVI(num_steps=5), trainer=quiet)
    kept = copy.deepcopy(first)
    fit(second, data, SVI(num_steps=5), trainer=quiet)
    assert same_weights(first, kept) and same_weights(first, alone)


def test_frozen_parameters_stay(toy, quiet):
    model = toy.make_lines()
    model.encoder.requires_grad_(False)
    frozen = copy.deepcopy(model.encoder.state_dict())
    fit(model, toy.make_data(), SVI(num_steps=5), trainer=quiet)
    assert all(torch.equal(value, frozen[name]) for name, value in model.encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_engine_is_the_bare_loop(toy, quiet):
    """Full batches, one thread: the engine takes exactly the steps of a loop written out here."""
    from pyro_seq._random import isolated_rng, mixed_seed

    data, model, twin = toy.make_data(), toy.make_lines(), toy.make_lines()
    fit(model, data, SVI(num_steps=10, learning_rate=0.01, clip_norm=5.0, schedule=WarmUp(5)), seed=4, trainer=quiet)
    twin.adapt(data)
    objective = Objective(twin)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    with isolated_rng(0):
        for step in range(10):
            torch.manual_seed(mixed_seed(4, 2, step, 0))
            objective(data, step).total.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 5.0)
            optimizer.param_groups[0]["lr"] = 0.01 * min(step / 5, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert same_weights(model, twin)


def test_history(toy, quiet):
    trainer = dataclasses.replace(quiet, log_every=4, validate_every=5)
    data = toy.make_data()
    method = SVI(num_steps=10, learning_rate=0.1, schedule=WarmUp(10), scales={"line": WarmUp(10)})
    history = fit(toy.make_lines(), data, method, validation=data, trainer=trainer).history
    assert history["step"] == [1, 4, 5, 8, 10]
    assert set(history) == {
        *("step", "loss", "line", "drift", "x", "learning_rate", "gradient_norm", "skipped", "validation_loss")
    }
    assert len({len(column) for column in history.values()}) == 1
    assert [value == value for value in history["validation_loss"]] == [False, False, True, False, True]
    row = {name: column[-1] for name, column in history.items()}
    assert row["loss"] == pytest.approx(row["x"] + row["drift"] + 0.9 * row["line"], rel=1e-6)
    assert row["learning_rate"] == pytest.approx(0.09)


def test_scales_must_name_terms(toy, quiet):
    with pytest.raises(DataError, match="lines"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2, scales={"lines": 0.1}), trainer=quiet)


def test_particles_by_step_and_views(toy, quiet):
    seen = []

    def spy(data, step, generator):
        seen.append((step, data.num_steps, torch.rand((), generator=generator).item()))
        return data

    method = SVI(
        num_steps=6,
        batch_size=4,
        num_particles=lambda step: 1 + step // 3,
        views=(GrowingLength(start=5, full_at=4), spy),
    )
    fit(toy.make_lines(), toy.make_data(), method, trainer=quiet)
    first = list(seen)
    assert [length for _, length, _ in first] == [5, 6, 7, 8, 9, 9]
    assert len({draw for _, _, draw in first}) == 6
    fit(toy.make_lines(), toy.make_data(), method, trainer=quiet)
    assert seen[6:] == first


def test_average(toy, quiet):
    data = toy.make_data()
    weights = []

    def spy(objective_model):
        weights.append(objective_model.drift_loc.detach().clone())

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            spy(model)

    model = toy.make_lines()
    start = model.drift_loc.detach().clone()
    fit(model, data, SVI(num_steps=6, learning_rate=1e-3, optimizer=Watch, average=0.5), trainer=quiet)
    expected = start
    for step, weight in enumerate(weights):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(model.drift_loc.detach(), expected)


def test_keep_best_and_patience(toy, quiet):
    """A rate that is far too large after step 10 makes the tenth step the best."""
    data, held_out = toy.make_data(), toy.make_data(seed=5)
    trainer = dataclasses.replace(quiet, validate_every=5, keep_best=True, patience=3)

    def spoilt(step: int) -> float:
        return 1.0 if step < 10 else 50.0

    method = SVI(num_steps=200, learning_rate=0.01, schedule=spoilt)
    posterior = fit(toy.make_lines(), data, method, validation=held_out, trainer=trainer)
    assert posterior.status == "stopped early"
    losses = [loss for loss in posterior.history["validation_loss"] if loss == loss]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert best == 1 and len(losses) == best + 1 + 3
    reference = fit(toy.make_lines(), data, SVI(num_steps=10, learning_rate=0.01), trainer=quiet)
    assert same_weights(posterior.model, reference.model)


def test_validation_does_not_change_training(toy, quiet):
    data = toy.make_data()
    method = SVI(num_steps=10, batch_size=3, average=0.9)
    plain = fit(toy.make_lines(), data, method, trainer=quiet)
    watched = dataclasses.replace(quiet, validate_every=2)
    validated = fit(toy.make_lines(), data, method, validation=data, trainer=watched)
    assert same_weights(plain.model, validated.model)


def test_validation_weighs_global_terms_as_training_does(toy, quiet):
    """A divergence of 5000 nats is 625 for each of 8 training series, however few series validate."""
    model, data = toy.make_lines(), toy.make_data()
    with torch.no_grad():
        model.drift_loc.fill_(100.0)
    method = SVI(num_steps=1, learning_rate=1e-9, scales={"line": 0.0, "x": 0.0})
    trainer = dataclasses.replace(quiet, validate_every=1, log_every=1)
    history = fit(model, data, method, validation=data[:2], trainer=trainer).history
    assert history["drift"][0] == pytest.approx(625, rel=0.01)
    assert history["validation_loss"][0] == pytest.approx(history["drift"][0], rel=1e-4)


def test_validation_loss_is_the_objective_on_the_whole_set(toy, quiet):
    """In chunks of 3 of 8 series; the noise differs by chunk, so two frozen guides without noise are compared."""
    data, model = toy.make_data(8), toy.make_lines()
    with torch.no_grad():
        model.encoder.weight[2:].zero_()
        model.encoder.bias[2:] = -20.0
        model.drift_log_scale.fill_(-20.0)
    twin = copy.deepcopy(model)
    twin.adapt(data)
    trainer = dataclasses.replace(quiet, validate_every=1)
    method = SVI(num_steps=1, batch_size=3, learning_rate=1e-12)
    history = fit(model, data, method, validation=data, trainer=trainer).history
    with torch.no_grad():
        expected = Objective(twin)(data).total.item()
    assert history["validation_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_bfloat16(toy, quiet):
    trainer = dataclasses.replace(quiet, precision="bf16-mixed")
    model = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=10), trainer=trainer).model
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in model.parameters())
    exact = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=10), trainer=quiet).model
    assert not same_weights(model, exact)


def test_gradients_are_taken_outside_of_mixed_precision(toy, quiet):
    model, modes = toy.make_lines(), []
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: modes.append(torch.is_autocast_enabled("cpu")))
    fit(model, toy.make_data(), SVI(num_steps=2), trainer=dataclasses.replace(quiet, precision="bf16-mixed"))
    assert modes and not any(modes)


def test_float64(toy, quiet):
    data, model = toy.make_data().to(dtype=torch.float64), toy.make_lines().double()
    fit(model, data, SVI(num_steps=3), trainer=quiet)
    assert all(p.dtype == torch.float64 for p in model.parameters())


def test_optimizers(toy, quiet):
    for optimizer in (torch.optim.SGD, functools.partial(torch.optim.AdamW, weight_decay=0.1), torch.optim.RMSprop):
        model = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2, optimizer=optimizer), trainer=quiet).model
        assert not same_weights(model, toy.make_lines())


def test_user_callbacks_see_the_figures(toy, quiet):
    import lightning.pytorch as lightning

    seen = {}

    class Watch(lightning.Callback):
        def on_train_end(self, trainer, module):
            seen.update(trainer.callback_metrics)

    trainer = dataclasses.replace(quiet, callbacks=(Watch(),), validate_every=2)
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=4), validation=toy.make_data(), trainer=trainer)
    assert {"loss", "x", "validation_loss"} <= seen.keys()


def test_exception_in_a_callback_is_raised_as_it_is(toy, quiet):
    import lightning.pytorch as lightning

    class Fails(lightning.Callback):
        def on_train_batch_end(self, *_):
            raise ZeroDivisionError("mine")

    trainer = dataclasses.replace(quiet, callbacks=(Fails(),))
    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=4), trainer=trainer)


def test_tensorboard(toy, quiet, tmp_path):
    pytest.importorskip("tensorboard")
    trainer = dataclasses.replace(quiet, directory=tmp_path, tensorboard=True)
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2), trainer=trainer)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_progress_bar(toy, quiet, capsys):
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=3), trainer=dataclasses.replace(quiet, progress=True))
    assert "3/3" in capsys.readouterr().err


def test_parameter_without_gradient_is_named(toy, quiet):
    model = toy.make_lines()
    model.spare = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedError, match=r"`objective\.model\.spare\.bias`|`model\.spare\.bias`"):
        fit(model, toy.make_data(), SVI(num_steps=3), trainer=quiet)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": torch.nn.Linear(1, 1)}, DataError, "`model` must be a `SequenceModel`"),
        ({"data": torch.zeros(3, 4, 1)}, DataError, "`data` must be a `Sequences`"),
        ({"method": SVI}, DataError, "`method`"),
        ({"method": "svi"}, DataError, "`method`"),
        ({"seed": -1}, DataError, "`seed`"),
        ({"trainer": {}}, DataError, "`trainer`"),
        ({"trainer": Trainer(validate_every=1)}, DataError, "validation"),
        ({"validation": 3}, DataError, "`validation`"),
        ({"data": Sequences(torch.zeros(3, 6, 1))}, ShapeError, "obs_shape"),
        ({"data": Sequences(torch.zeros(3, 6, 2), times=torch.arange(9.0))}, DataError, "horizon"),
        ({"data": Sequences(torch.zeros(3, 6, 2, dtype=torch.float64))}, DataError, "floating type"),
    ],
)
def test_door(toy, quiet, change, error, words):
    arguments = {"model": toy.make_lines(), "data": toy.make_data(), "method": SVI(num_steps=1), "trainer": quiet}
    arguments |= change
    with pytest.raises(error, match=words):
        fit(arguments.pop("model"), arguments.pop("data"), arguments.pop("method"), **arguments)


def test_nothing_to_train(toy, quiet):
    with pytest.raises(DataError, match="no parameters"):
        fit(toy.make_lines().requires_grad_(False), toy.make_data(), SVI(num_steps=1), trainer=quiet)


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"num_steps": 2.5},
        {"num_steps": 1, "batch_size": 0},
        {"num_steps": 1, "learning_rate": 0.0},
        {"num_steps": 1, "learning_rate": float("nan")},
        {"num_steps": 1, "optimizer": "adam"},
        {"num_steps": 1, "schedule": 0.1},
        {"num_steps": 1, "clip_norm": -1.0},
        {"num_steps": 1, "num_particles": 0},
        {"num_steps": 1, "scales": {"x": -1.0}},
        {"num_steps": 1, "views": ("crop",)},
        {"num_steps": 1, "average": 1.0},
    ],
    ids=str,
)
def test_svi_checks_its_arguments(options):
    name = list(options)[-1]
    with pytest.raises(DataError, match=name):
        SVI(**options)


SCHEDULER = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    "optimizer",
    [
        pyro.optim.Adam,
        pyro.optim.Adam({"lr": 0.01}),
        pyro.optim.ClippedAdam,
        torch.optim.LBFGS,
        functools.partial(torch.optim.Adam, betas=0.9),
        lambda params, lr: SCHEDULER.StepLR(torch.optim.Adam(params, lr=lr), 10),
        lambda params, lr: None,
        torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]),
    ],
    ids=str,
)
def test_optimisers_that_cannot_be_used_are_refused_with_the_way_out(optimizer):
    with pytest.raises(DataError, match=r"(?s)`optimizer` must be a torch optimiser class.*Pass `torch.optim.Adam`"):
        SVI(num_steps=2, optimizer=optimizer)


@pytest.mark.parametrize("name", ["schedule", "scales", "num_particles"])
@pytest.mark.parametrize(
    "schedule", [SCHEDULER.StepLR, pyro.optim.ExponentialLR, lambda step: None, lambda step: math.nan, lambda: 1.0]
)
def test_functions_of_the_step_are_tried_once(name, schedule):
    with pytest.raises(DataError, match=rf"`{name}.* must be a function of the step"):
        SVI(num_steps=2, **{name: {"x": schedule} if name == "scales" else schedule})


def test_stateful_optimisers_of_torch_train(toy, quiet):
    for optimizer in (torch.optim.NAdam, torch.optim.Rprop, functools.partial(torch.optim.SGD, momentum=0.9)):
        method = SVI(num_steps=3, learning_rate=1e-3, optimizer=optimizer, schedule=lambda step: torch.tensor(0.5))
        assert fit(toy.make_lines(), toy.make_data(), method, trainer=quiet).status == "completed"


def test_validation_data_without_validation_are_refused(toy, quiet):
    data = toy.make_data()
    with pytest.raises(DataError, match="`validation` has no effect"):
        fit(toy.make_lines(), data, SVI(num_steps=1), validation=data, trainer=quiet)


@pytest.mark.parametrize(
    "options",
    [
        {"log_every": 0},
        {"validate_every": 0},
        {"patience": 3},
        {"keep_best": True},
        {"resume": True},
        {"tensorboard": True},
        {"max_seconds": 0},
        {"precision": "16-mixed"},
    ],
    ids=str,
)
def test_trainer_checks_its_arguments(options):
    with pytest.raises(PyroSeqError, match=next(iter(options))):
        Trainer(**options)


def test_directory_is_checked_before_work(toy, quiet, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(PyroSeqError, match="cannot be written"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=1), trainer=dataclasses.replace(quiet, directory=blocked))
    deep = Path(tmp_path, "new folder", "naïve")
    trainer = dataclasses.replace(quiet, directory=deep)
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=1), trainer=trainer)
    assert sorted(path.name for path in deep.iterdir()) == ["checkpoint.pt", "metrics.csv"]
    with pytest.raises(PyroSeqError, match="earlier run"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=1), trainer=trainer)


def test_constant_is_the_default_schedule():
    assert SVI(num_steps=1).schedule == Constant()
