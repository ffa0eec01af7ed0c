"""Between steps: figures, checkpoints on full disks, signals, the clock, the progress bar."""

from __future__ import annotations

import dataclasses
import signal

import lightning.pytorch as lightning
import pytest
import torch

from pyro_seq.errors import CheckpointError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training import files
from pyro_seq.training.callbacks import AtomicCheckpointIO
from pyro_seq.training.schedules import WarmUp
from pyro_seq.training.trainer import Trainer
from tests.training.runs import METHOD, At, full_disk, same_weights


def test_periodic_checkpoint_after_a_hard_stop(toy, quiet, tmp_path):
    """An exception, like a kill, leaves the last periodic checkpoint; the run goes on from there."""

    def fail(engine):
        raise ZeroDivisionError

    data = toy.make_data()
    whole = fit(toy.make_lines(), data, METHOD, trainer=quiet)
    options = dataclasses.replace(quiet, directory=tmp_path, checkpoint_every=5)
    with pytest.raises(ZeroDivisionError):
        fit(toy.make_lines(), data, METHOD, trainer=dataclasses.replace(options, callbacks=(At(13, fail),)))
    assert files.read(options.checkpoint)["steps_done"] == 10
    resumed = fit(toy.make_lines(), data, METHOD, trainer=dataclasses.replace(options, resume=True))
    assert same_weights(resumed.model, whole.model)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_returns_what_there_is(toy, quiet, number):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    trainer = dataclasses.replace(quiet, callbacks=(At(4, lambda engine: signal.raise_signal(number)),))
    posterior = fit(toy.make_lines(), toy.make_data(), METHOD, trainer=trainer)
    assert posterior.status == "interrupted" and posterior.history["step"] == [1.0]
    assert before == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]


def test_clock(toy, quiet):
    method = SVI(num_steps=10**8)
    posterior = fit(toy.make_lines(), toy.make_data(), method, trainer=dataclasses.replace(quiet, max_seconds=0.2))
    assert posterior.status == "interrupted"


def test_full_disk_costs_the_checkpoint_not_the_run(toy, quiet, tmp_path, monkeypatch):
    data = toy.make_data()
    options = dataclasses.replace(quiet, directory=tmp_path, checkpoint_every=5)
    fill = At(7, lambda engine: full_disk(monkeypatch))
    with pytest.warns(UserWarning, match="No space left") as record:
        posterior = fit(toy.make_lines(), data, METHOD, trainer=dataclasses.replace(options, callbacks=(fill,)))
    assert len(record) == 4  # steps 10, 15, 20 and the end
    assert posterior.status == "completed"
    assert same_weights(posterior.model, fit(toy.make_lines(), data, METHOD, trainer=quiet).model)
    assert files.read(options.checkpoint)["steps_done"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.csv"]


def test_lightning_checkpoints_are_atomic_too(toy, quiet, tmp_path, monkeypatch):
    from lightning.pytorch.callbacks import ModelCheckpoint

    def options(name):
        callback = ModelCheckpoint(dirpath=tmp_path, filename=name, every_n_train_steps=2)
        return Trainer(progress=False, accelerator="cpu", callbacks=(callback,))

    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2), trainer=options("first"))
    full_disk(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2), trainer=options("second"))
    assert [file.name for file in tmp_path.iterdir()] == ["first.ckpt"]


def test_altered_checkpoints_of_lightning_are_refused(tmp_path):
    path, reader = tmp_path / "own.ckpt", AtomicCheckpointIO()
    weight = torch.arange(6.0)
    reader.save_checkpoint({"weight": weight}, path)
    assert torch.equal(reader.load_checkpoint(path)["weight"], weight)
    content = path.read_bytes()
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02", content.index(weight.numpy().tobytes())) + 1)
    places = {
        content.index(weight.numpy().tobytes()): 1,
        entry + 38: 0x10,
        len(content) - 30: 1,
    }  # a number, a mark, an end
    for place, bit in places.items():
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match="altered"):
            reader.load_checkpoint(path)


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


def test_user_callbacks_see_the_figures(toy, quiet):

    seen = {}

    class Watch(lightning.Callback):
        def on_train_end(self, trainer, module):
            seen.update(trainer.callback_metrics)

    trainer = dataclasses.replace(quiet, callbacks=(Watch(),), validate_every=2)
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=4), validation=toy.make_data(), trainer=trainer)
    assert {"loss", "x", "validation_loss"} <= seen.keys()


def test_exception_in_a_callback_is_raised_as_it_is(toy, quiet):

    class Fails(lightning.Callback):
        def on_train_batch_end(self, *_):
            raise ZeroDivisionError("mine")

    trainer = dataclasses.replace(quiet, callbacks=(Fails(),))
    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=4), trainer=trainer)


def test_progress_bar(toy, quiet, capsys):
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=3), trainer=dataclasses.replace(quiet, progress=True))
    assert "3/3" in capsys.readouterr().err
