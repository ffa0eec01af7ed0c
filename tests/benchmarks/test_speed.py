"""The speed benchmark runs, its sides agree, and counts of operations and synchronisations stay within bounds."""

from __future__ import annotations

import pytest
import torch

from benchmarks import _speed_chains, _speed_costs, _speed_counts, _speed_encoders, _speed_kalman, _speed_rows, speed
from benchmarks._measure import gap

WORKS = [*_speed_chains.works(True), *_speed_encoders.works(True), *_speed_kalman.works(True)]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_library_and_loop_agree(work) -> None:
    if work.values:
        assert gap(work.values["library"](), work.values["plain loop"]()) <= work.tolerance
    else:
        assert work.sides["library"]().isfinite().all()


def test_a_quick_run_writes_results_and_tables(tmp_path) -> None:
    path = tmp_path / "speed.json"
    speed.run(path, ("encoders", "counts", "costs"), is_quick=True)
    results = speed.json.loads(path.read_text())
    tables = speed.tables_of(results | {"before": results})
    assert results["counts"][0]["step"]["operations"] > 0
    assert "| 1.00 |" in tables["works"][2] and "RecurrentVAE" in tables["counts"][2] and "draws" in tables["costs"][2]


def test_counts_see_reads_and_leave_out_views() -> None:
    with _speed_counts.Count() as counted:
        values = torch.ones(3, 2)
        float(values.t()[0, 0] + 1)
    assert (counted.operations, counted.reads) == (2, 1)


def test_slower_than_the_loop_shows() -> None:
    row = {"name": "work", "seconds": {"library": 2.0, "plain loop": 1.0}, "difference": 0.0}
    assert _speed_rows.ratio(row) == 0.5 and "| 0.50 |" in _speed_rows.lines_of([row], {})[2]


# operations and reads of a training step and of a forecast, a tenth above what was counted
BOUNDS = {
    "RecurrentVAE, vectors": {"step": (550, 45), "forecast": (470, 25)},
    "ODELEBM, bound": {"step": (2600, 55), "forecast": (1750, 35)},
}


@pytest.mark.parametrize("name", ["RecurrentVAE, vectors", pytest.param("ODELEBM, bound", marks=pytest.mark.slow)])
def test_counts_do_not_creep_up(name) -> None:
    counts = _speed_counts.counts(name)
    for part, (operations, reads) in BOUNDS[name].items():
        assert counts[part]["operations"] <= operations and counts[part]["reads"] <= reads


def test_peak_is_that_of_the_call() -> None:
    _, peak = _speed_costs.peak_of(lambda: torch.ones(2**22).sum())
    assert peak is None or 12 < peak < 40
