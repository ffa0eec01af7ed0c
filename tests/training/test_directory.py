"""One run a directory: a second is refused, what killed ones left does not matter."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from pyro_seq.errors import CheckpointError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training.directory import held
from tests.training.runs import At

HOLD = """
import fcntl, os, signal, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
os.write(file, b"process 1 on another")
print("held", flush=True)
signal.pause()
"""


def test_a_second_run_is_refused_in_words(toy, quiet, tmp_path):
    def second(engine):
        with pytest.raises(CheckpointError, match=rf"in use by another run \(process {os.getpid()} on "):
            fit(toy.make_lines(), toy.make_data(), SVI(num_steps=1), trainer=dataclasses.replace(trainer, callbacks=()))
        done.append(engine.steps_done)

    done = []
    trainer = dataclasses.replace(quiet, directory=tmp_path, resume=True, callbacks=[At(2, second)])
    fit(toy.make_lines(), toy.make_data(), SVI(num_steps=3), trainer=trainer)
    assert done == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.csv"]


def test_the_lock_of_a_dead_process_means_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(CheckpointError, match=r"process 1 on another"), held(tmp_path):
            pass
        process.kill()
        process.wait()
    assert (tmp_path / ".lock").exists()
    with held(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / ".lock").exists()


def test_it_is_let_go_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), held(tmp_path):
            raise RuntimeError


def test_drafts_of_checkpoints_are_removed_and_nothing_else(tmp_path):
    kept = ["checkpoint.pt", ".0123abcd.other.pt", ".0123abcd-checkpoint.pt", "0123abcd.checkpoint.pt"]
    for name in (*kept, ".0123abcd.checkpoint.pt", ".ffffffff.checkpoint.pt"):
        (tmp_path / name).touch()
    with held(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".lock"])


def test_nothing_is_held_without_a_directory():
    with held(None):
        pass
