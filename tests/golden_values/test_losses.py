"""Training gives the numbers of this release, and a slight change of it does not."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pyro_seq import models
from tests.golden_values import make

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of runs that are far too short
KNOWN = json.loads(make.VALUES.read_text())


def test_every_model_has_values() -> None:
    assert KNOWN.keys() == make.METHODS.keys()
    assert {type(make.MODELS[name].build()).__name__ for name in KNOWN} == set(models.__all__)


@pytest.mark.parametrize("name", make.METHODS)
def test_losses_after_twenty_steps(name: str) -> None:
    assert make.losses(name) == pytest.approx(KNOWN[name], rel=1e-6)


def test_a_slight_change_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(make.METHODS, "recurrent_vae", dataclasses.replace(make.SVI, learning_rate=1.001e-2))
    assert make.losses("recurrent_vae") != pytest.approx(KNOWN["recurrent_vae"], rel=1e-6)
