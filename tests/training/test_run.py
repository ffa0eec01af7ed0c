"""Runs: resumed ones have the same bits, and leave the process as it was."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pyro
import pytest
import torch

from pyro_seq.errors import CheckpointError, DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training import files
from tests.training.runs import METHOD, At, ctrl_c, make_normalised, same_weights, with_infinite


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


def test_keyboard_interrupt_from_anywhere(toy, quiet, tmp_path):
    def interrupt(engine):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    trainer = dataclasses.replace(quiet, directory=tmp_path, callbacks=(At(4, interrupt),))
    posterior = fit(toy.make_lines(), toy.make_data(), METHOD, trainer=trainer)
    assert posterior.status == "interrupted" and files.read(trainer.checkpoint)["steps_done"] == 4
    assert signal.getsignal(signal.SIGINT) is before


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_neither_memory_nor_open_files_grow():
    """Over 20 000 steps and 500 predictions, after a tenth as many of each; some rows of the history are kept."""
    script = """
import os, resource
from pathlib import Path
from tests import toy
import pyro_seq as ps
def size():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir("/proc/self/fd"))
def work(share):
    trainer = ps.Trainer(progress=False, accelerator="cpu", log_every=1000)
    posterior = ps.fit(toy.make_lines(), data, ps.SVI(num_steps=20_000 // share, batch_size=4), trainer=trainer)
    for seed in range(500 // share):
        ps.forecast(posterior, data, horizon=5, num_samples=10, seed=seed)
data = toy.make_data()
work(10)
before = size()
work(1)
after = size()
assert after[0] < 1.02 * before[0] and after[1] == before[1], (before, after)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


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


def test_tensorboard(toy, quiet, tmp_path):
    pytest.importorskip("tensorboard")
    trainer = dataclasses.replace(quiet, directory=tmp_path, tensorboard=True)
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2), trainer=trainer)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_nothing_to_train(toy, quiet):
    with pytest.raises(DataError, match="no parameters"):
        fit(toy.make_lines().requires_grad_(False), toy.make_data(), SVI(num_steps=1), trainer=quiet)


def test_a_resume_on_another_number_of_devices_says_so(toy, quiet, tmp_path):
    options = dataclasses.replace(quiet, directory=tmp_path, resume=True)
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2), trainer=options)
    content = files.read(tmp_path / "checkpoint.pt")
    assert content["num_devices"] == 1
    files.write(content | {"num_devices": 2}, tmp_path / "checkpoint.pt")
    with pytest.warns(UserWarning, match=r"began on 2 device\(s\) and goes on with 1"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=4), trainer=options)


def test_neither_checkpoint_nor_result_holds_a_bad_batch(toy, quiet, tmp_path):
    """One infinite value in 9 steps, and running statistics that would keep it for good."""
    method = SVI(num_steps=9, batch_size=4, views=[with_infinite(4)])
    posterior = fit(make_normalised(), toy.make_data(), method, trainer=dataclasses.replace(quiet, directory=tmp_path))
    assert posterior.history["skipped"][-1] == 1
    for state in (files.read(tmp_path / "checkpoint.pt")["weights"], posterior.model.state_dict()):
        assert [name for name, value in state.items() if "encoder" in name and not bool(value.isfinite().all())] == []
    assert bool(posterior.draws(toy.make_data(), 2)["line"].isfinite().all())
