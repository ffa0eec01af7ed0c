"""A second process is timed in a program of its own."""

from __future__ import annotations

import json

import pytest

from benchmarks import processes


@pytest.mark.slow
def test_one_and_two_processes_report_a_step(tmp_path, monkeypatch):
    name, output = next(iter(processes.WORK)), tmp_path / "processes.json"
    options = ["--steps", "4", "--repeats", "1", "--work", name, "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["processes", *options])
    processes.main()
    [row] = json.loads(output.read_text()).values()
    assert row["speed-up"] == row["one process"] / row["two"] > 0
