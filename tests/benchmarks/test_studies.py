"""Every study explains itself and can be run briefly; `.ci/run` runs each one with `--smoke`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "benchmarks" / "studies").glob("[!_]*.py"))  # the others are parts of these


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_help_names_smoke_and_out(study: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.studies.{study.stem}", "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "--smoke" in done.stdout and "--out" in done.stdout
    assert not list(tmp_path.iterdir()), "--help must not write files"


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_study_reads_as_cells(study: Path) -> None:
    source = study.read_text()
    assert ast.get_docstring(ast.parse(source)), f"{study.name} has no docstring"
    assert len(re.findall(r"^# %%", source, flags=re.MULTILINE)) >= 3, f"{study.name} has fewer than three cells"
