"""Runs of a program of `benchmarks.studies` whose scores are kept and shown on a page."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.tables._page import ROOT


def command_of(program: str, options: Sequence[str]) -> str:
    """What to type for the run; a program is a module of `benchmarks.studies`."""
    return shlex.join(["python", "-m", program, *options])


def scores_of(program: str, options: Sequence[str], out: Path) -> dict:
    """Run the program, on from where an earlier run in the folder stopped: its scores, with its command."""
    words = [sys.executable, "-m", program, *options, "--quiet", "--resume", "--out", str(out)]
    subprocess.run(words, cwd=ROOT, check=True)
    return json.loads((out / "scores.json").read_text()) | {"command": command_of(program, options)}


def parser_of(text: str | None, studies: Iterable[str]) -> argparse.ArgumentParser:
    """Options that all tables have."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=studies, action="append", help="all without a result when absent")
    parser.add_argument("--page", action="store_true", help="write the pages only")
    parser.add_argument("--scratch", type=Path, default=ROOT / "results" / "tables", help="folder for checkpoints")
    return parser
