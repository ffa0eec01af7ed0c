"""Stopping and going on: bit-equal resumes, interrupts, bad numbers, full disks."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import lightning.pytorch as lightning
import pytest
import torch

from pyro_seq.errors import CheckpointError, NumericalError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training import files
from pyro_seq.training.trainer import Trainer
from pyro_seq.training.views import RandomSteps

METHOD = SVI(num_steps=20, batch_size=3, learning_rate=0.01, average=0.9, views=(RandomSteps(count=7, keep=5),))


class At(lightning.Callback):
    """Call `action` after the given step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer, engine, *_):
        if engine.steps_done == self.step:
            self.action(engine)


def ctrl_c(engine=None):
    signal.raise_signal(signal.SIGINT)


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ---------------------------------------------------------------------- resuming


@pytest.mark.parametrize("stop", [1, 7, 11])  # 8 series in batches of 3 make epochs of 2 steps: all lie inside one
def test_resumed_run_has_the_same_bits(toy, quiet, tmp_path, stop):
    data, held_out = toy.make_data(), toy.make_data(seed=1)
    options = dataclasses.replace(quiet, validate_every=4, keep_best=True, log_every=3)
    whole = fit(toy.make_lines(), data, METHOD, validation=held_out, seed=3, trainer=options)
    options = dataclasses.replace(options, directory=tmp_path)
    interrupted = dataclasses.replace(options, callbacks=(At(stop, ctrl_c),))
    first = fit(toy.make_lines(), data, METHOD, validation=held_out, seed=3, trainer=interrupted)
    assert first.status == "interrupted" and not same_weights(first.model, whole.model)
    torch.manual_seed(99)
    resume = dataclasses.replace(options, resume=True)
    second = fit(toy.make_lines(seed=8), data, METHOD, validation=held_out, seed=3, trainer=resume)
    assert second.status == "completed" and same_weights(second.model, whole.model)
    assert {k: torch.tensor(v).nan_to_num(-1).tolist() for k, v in second.history.items()} == {
        k: torch.tensor(v).nan_to_num(-1).tolist() for k, v in whole.history.items()
    }
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + len(whole.history["step"])


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


def test_resume_of_a_finished_run_and_longer(toy, quiet, tmp_path):
    data = toy.make_data()
    options = dataclasses.replace(quiet, directory=tmp_path, resume=True)
    first = fit(toy.make_lines(), data, METHOD, trainer=options)
    again = fit(toy.make_lines(), data, METHOD, trainer=options)
    assert same_weights(first.model, again.model) and again.history == first.history
    longer = dataclasses.replace(METHOD, num_steps=30)
    extended = fit(toy.make_lines(), data, longer, trainer=options)
    assert same_weights(extended.model, fit(toy.make_lines(), data, longer, trainer=quiet).model)


def test_resume_lists_what_differs(toy, quiet, tmp_path):
    data = toy.make_data()
    options = dataclasses.replace(quiet, directory=tmp_path, resume=True)
    fit(toy.make_lines(), data, METHOD, trainer=options)

    class Other(toy.Lines):
        pass

    faster = dataclasses.replace(METHOD, learning_rate=0.02)
    wider = toy.make_lines()
    wider.emit = torch.nn.Linear(1, 2, bias=False)
    for model, other_data, method, seed, words in [
        (toy.make_lines(), toy.make_data(seed=1), METHOD, 0, "data: "),
        (toy.make_lines(), data, faster, 0, "learning_rate: 0.01 in the file, 0.02 here"),
        (toy.make_lines(), data, METHOD, 1, "seed: 0 in the file, 1 here"),
        (Other(), data, METHOD, 0, "class: Lines in the file"),
        (wider, data, METHOD, 0, r"only in the file: model\.emit\.bias"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            fit(model, other_data, method, seed=seed, trainer=options)


# ---------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_returns_what_there_is(toy, quiet, number):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    trainer = dataclasses.replace(quiet, callbacks=(At(4, lambda engine: signal.raise_signal(number)),))
    posterior = fit(toy.make_lines(), toy.make_data(), METHOD, trainer=trainer)
    assert posterior.status == "interrupted" and posterior.history["step"] == [1.0]
    assert before == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]


def test_keyboard_interrupt_from_anywhere(toy, quiet, tmp_path):
    def interrupt(engine):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    trainer = dataclasses.replace(quiet, directory=tmp_path, callbacks=(At(4, interrupt),))
    posterior = fit(toy.make_lines(), toy.make_data(), METHOD, trainer=trainer)
    assert posterior.status == "interrupted" and files.read(trainer.checkpoint)["steps_done"] == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_clock(toy, quiet):
    method = SVI(num_steps=10**8)
    posterior = fit(toy.make_lines(), toy.make_data(), method, trainer=dataclasses.replace(quiet, max_seconds=0.2))
    assert posterior.status == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_real_signals_to_a_process(tmp_path, number):
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import toy
        from pyro_seq.infer.fit import fit
        from pyro_seq.infer.svi import SVI
        from pyro_seq.training.trainer import Trainer
        trainer = Trainer(directory={str(tmp_path)!r}, progress=False, checkpoint_every=5, accelerator="cpu")
        posterior = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=10**7), trainer=trainer)
        print(posterior.status)
    """)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, text=True)
    file = tmp_path / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert files.read(file)["steps_done"] >= 5
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 0 and output.strip() == "interrupted"


# ---------------------------------------------------------------------- bad numbers


def poisoned(toy, bad_steps, kind="nan"):
    """A model whose objective is not finite at some calls."""

    class Poisoned(toy.Lines):
        calls = 0

        def regulariser(self, data, model_trace, guide_trace):
            step, self.calls = self.calls, self.calls + 1
            weight = self.emit.weight.square().sum()
            factor = float(kind) if step in bad_steps else 0.0
            return {"spice": (weight * factor).expand(data.num_series)}

    torch.manual_seed(0)
    return Poisoned()


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_bad_steps_are_skipped_and_counted(toy, quiet, kind):
    model = poisoned(toy, {2, 3, 6, 7, 9}, kind)
    history = fit(model, toy.make_data(), SVI(num_steps=10, learning_rate=0.01), trainer=quiet).history
    assert history["skipped"] == [0.0, 5.0]
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_skipped_step_leaves_weights_alone(toy, quiet):
    """A run with one bad step equals a run in which that step was never taken, but for the noise of the others."""
    states = []
    model = poisoned(toy, {3})

    def keep(engine):
        states.append(engine.model.emit.weight.detach().clone())

    spy = [At(step, keep) for step in (3, 4, 5)]
    fit(model, toy.make_data(), SVI(num_steps=5), trainer=dataclasses.replace(quiet, callbacks=spy))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])


def test_three_bad_steps_in_a_row_are_an_error(toy, quiet):
    model = poisoned(toy, {4, 5, 6})
    with pytest.raises(NumericalError, match=r"3 steps in a row, up to step 6: not finite are the terms \['spice'\]"):
        fit(model, toy.make_data(), SVI(num_steps=10), trainer=quiet)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_bad_from_the_first_step(toy, quiet):
    with pytest.raises(NumericalError, match="from the first step on"):
        fit(poisoned(toy, set(range(9))), toy.make_data(), SVI(num_steps=10), trainer=quiet)


def test_error_of_a_distribution_counts_as_a_bad_step(toy, quiet):
    class Fails(toy.Lines):
        def guide(self, data):
            super().guide(data)
            torch.distributions.Normal(torch.tensor(float("nan")), 1.0, validate_args=True)

    with pytest.raises(NumericalError, match="Expected parameter") as caught:
        fit(Fails(), toy.make_data(), SVI(num_steps=10), trainer=quiet)
    assert isinstance(caught.value.__cause__, ValueError)


def test_enormous_rate_never_returns_bad_weights(toy, quiet):
    model = toy.make_lines()
    with pytest.raises(NumericalError):
        fit(model, toy.make_data(), SVI(num_steps=50, learning_rate=1e30, optimizer=torch.optim.SGD), trainer=quiet)


# ---------------------------------------------------------------------- full disk


def full_disk(monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


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
