"""Counts of a made-up package whose drawing is known, and what a walk sees and does not see."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import pyro_seq as ps
from benchmarks.structure import OneStep, Walk, files, measure, rooms, series

SOURCES = {
    "__init__.py": "from house.attic.roof import tile",
    "cellar.py": "import os\nimport house.attic_of_others",
    "hall.py": "from house import cellar\nfrom .kitchen import stove",
    "kitchen.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.stairs import step",
    "stairs.py": "def climb():\n    import house.hall",
    "attic/__init__.py": "from house.attic.roof import tile",
    "attic/roof.py": "from ..stairs import step\nfrom . import beam\nfrom house.cellar import coal",
    "attic/beam.py": "",
}
ARROWS = {
    "__init__.py": {"attic/roof.py"},
    "cellar.py": set(),
    "hall.py": {"cellar.py", "kitchen.py"},
    "kitchen.py": {"stairs.py"},
    "stairs.py": {"hall.py"},
    "attic/__init__.py": {"attic/roof.py"},
    "attic/roof.py": {"stairs.py", "attic/beam.py", "cellar.py"},
    "attic/beam.py": set(),
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    package = tmp_path / "house"
    for name, text in SOURCES.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_arrows_are_the_import_statements_wherever_they_stand(house: Path) -> None:
    assert files(house) == ARROWS


def test_counts_of_files(house: Path) -> None:
    """hall, kitchen and stairs import each other in a ring, so one arrow must go; roof stands on it, it on cellar."""
    drawing = measure(files(house))
    assert drawing == (8, 9, 1, [["hall.py", "kitchen.py", "stairs.py"]], 4)


def test_counts_of_rooms(house: Path) -> None:
    graph = rooms(files(house))
    assert graph["attic"] == {"cellar", "stairs"}
    assert measure(graph) == (5, 6, 1, [["hall", "kitchen", "stairs"]], 3)


def test_arrows_that_run_back_up_are_the_fewest_that_open_all_circles() -> None:
    """A star of two-way arrows needs one each; three places that all import each other, three; apart they add up."""
    star = {"a": frozenset("bcd"), "b": frozenset("a"), "c": frozenset("a"), "d": frozenset("a")}
    full = {place: frozenset("xyz") - {place} for place in "xyz"}
    assert measure(star).back_up == 3 and measure(full).back_up == 3
    both = measure(star | full | {"top": frozenset("ax")})
    assert (both.back_up, both.circles, both.stack) == (6, [["a", "b", "c", "d"], ["x", "y", "z"]], 2)


def test_a_walk_counts_functions_of_the_package_once(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "room.py").write_text(
        "def enter():\n    return [leave(i) for i in range(3)]\n\ndef leave(i):\n    return (lambda: i)()\n"
        "\ndef unused():\n    pass\n"
    )
    spec = importlib.util.spec_from_file_location("room", package / "room.py")
    room = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    walk, before = Walk(package), sys.getprofile()
    walk.start()
    room.enter()
    Path("elsewhere").is_absolute()
    walk.stop()
    room.unused()
    assert walk.functions == {
        ("room.py", "enter", 1),
        ("room.py", "leave", 4),
        ("room.py", "leave.<locals>.<lambda>", 5),
    }
    assert walk.files == {"room.py"} and sys.getprofile() is before


def test_a_walk_of_one_step_has_the_model_in_it_and_not_what_is_outside_the_step() -> None:
    package = Path(ps.__file__).parent
    walk, model = Walk(package), ps.ODE2VAE((2,), 2)
    trainer = ps.Trainer(progress=False, accelerator="cpu", callbacks=(OneStep(walk),))
    ps.fit(model, series(), ps.SVI(num_steps=5, batch_size=4), trainer=trainer)
    names = {name for _, name, _ in walk.functions}
    assert {"ODE2VAE.model", "ODE2VAE.guide"} <= names
    assert not {"fit", "SVI.run", "ODE2VAE.__init__"} & names
