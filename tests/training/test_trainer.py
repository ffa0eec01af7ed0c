"""The user's options of a run: what is refused, before any work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pyro_seq.errors import PyroSeqError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training.trainer import Trainer


@pytest.mark.parametrize(
    "options",
    [
        {"log_every": 0},
        {"validate_every": 0},
        {"patience": 3},
        {"patience": 0, "validate_every": 1},
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


@pytest.mark.parametrize(
    "options",
    [{"max_seconds": "1"}, {"directory": 3}, {"callbacks": 3}, {"loggers": 3}, {"accelerator": "none"}, {"devices": 0}],
)
def test_what_lightning_would_refuse_later_is_refused_by_name(toy, options):
    with pytest.raises(PyroSeqError, match=f"`{next(iter(options))}`.*Got"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=1), trainer=Trainer(progress=False, **options))
