"""Fits that are killed at any moment and resumed end with the bits of those that were not, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 3  # of each method; `python -m tests.kills 25` does more
SEED = 5
KILL = """
import sys
from pathlib import Path
from tests.kills import tally
found = tally(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
assert found.kills == int(sys.argv[2]) and found.ends and not found.problems, found
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SVI", "IWAE", "MaximumLikelihood", "MCMC"])
def test_killed_fits_end_as_if_nothing_had_been(name: str, tmp_path: Path) -> None:
    """In a process without threads, which may be copied."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILL, name, str(KILLS), str(SEED), str(tmp_path)]
    subprocess.run(command, env=environment, check=True)
