"""Every example is short, explains itself in cells, takes three options, and ends with a picture."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[!_]*.py"))  # the other file is what they share
MOST_LINES = 60


def run(example: Path, folder: Path, *options: str) -> str:
    """What the example prints, started from the folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(example), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_one_for_each_model() -> None:
    sources = [example.read_text() for example in EXAMPLES]
    for name in (
        "ps.ODE2VAE(",
        "ps.KalmanVAE(",
        "ps.SRVP(",
        "ps.ODELEBM(",
        "ps.StructuralSeries(",
        "ps.DynamicFactors(",
    ):
        assert any(name in source for source in sources), name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_reads_as_cells(example: Path) -> None:
    source = example.read_text()
    assert len(source.splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(source)), f"{example.name} has no docstring"
    assert len(re.findall(r"^# %%", source, flags=re.MULTILINE)) >= 3, f"{example.name} has fewer than three cells"
    assert "__main__" not in source and "argparse" not in source


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_help_names_three_options_and_a_choice_of_data(example: Path, tmp_path: Path) -> None:
    found = set(re.findall(r"--[\w-]+", run(example, tmp_path, "--help")))
    more = {"--data"} if "data=(" in example.read_text() else set()
    assert found == {"--help", "--smoke", "--device", "--out"} | more
    assert not list(tmp_path.iterdir()), "--help must not write files"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_smoke_run_scores_beside_baselines_and_draws(example: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = run(example, tmp_path, "--smoke", "--device", "cpu", "--out", str(out))
    assert "training mean" in printed and "last frame" in printed
    pictures = list(out.glob("*.png"))
    assert pictures and all(picture.stat().st_size > 5_000 for picture in pictures)
    assert list(tmp_path.iterdir()) == [out], "an example must write to its folder alone"


@pytest.mark.data
def test_records_take_real_stays(tmp_path: Path) -> None:
    printed = run(ROOT / "examples" / "icu_records.py", tmp_path, "--smoke", "--data", "physionet", "--device", "cpu")
    assert "NISysABP" in printed and "90 % holds" in printed


def test_cells_of_a_notebook_have_the_defaults(tmp_path: Path) -> None:
    code = (
        "import sys, types; sys.modules['ipykernel'] = types.ModuleType('ipykernel'); sys.argv = ['x', '-f', 'file']\n"
        f"sys.path.insert(0, {str(ROOT / 'examples')!r}); from _options import read; print(read('cells'))"
    )
    file = tmp_path / "cells.py"
    file.write_text(code)
    assert "smoke=False" in run(file, tmp_path)
