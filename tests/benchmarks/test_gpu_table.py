"""The tables of the GPU benchmark: what is kept of a run, and what is read from it."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.tables import gpu as table


def step(name: str, **figures) -> dict:
    return {"part": "steps", "name": name, "status": "ok", **figures}


@pytest.fixture
def runs() -> list[dict]:
    return json.loads(table.RESULT.read_text())["runs"]


def test_places_lose_the_folders_of_the_machine_and_numbers_their_noise():
    line = 'File "/some/folder/pyro_seq/predict/verbs.py", line 194'
    library = 'File "/usr/lib/python3/site-packages/torch/autograd/graph.py", line 8'
    kept = table.shortened({"error": [line, library], "seconds": 0.123456, "steps": 12345, "took": 3.0})
    assert kept["error"] == ['File "pyro_seq/predict/verbs.py", line 194', 'File "torch/autograd/graph.py", line 8']
    assert kept["seconds"] == 0.1235 and kept["steps"] == 12345 and "took" not in kept


def test_a_time_says_whether_it_is_one_call_and_what_came_of_a_row_without_one():
    assert table.milliseconds({"seconds": 0.01234, "repeats": 3}) == "12.3"
    assert table.milliseconds({"seconds": 5.1234, "repeats": 0}) == "5123†"
    assert table.milliseconds({"status": "skipped: out of time"}) == "skipped"
    assert table.milliseconds(None) == ""


def test_waits_are_summed_by_library():
    places = {
        "pyro/util.py:135": 4,
        "distributions/distribution.py:76": 3,
        "pyro_seq/model.py:1": 2,
        "pyro_seq/a.py:9": 1,
    }
    row = step("some model, small, cuda, 32-true", waits=12) | {"places of waits": places}
    *_, line = table.waits_section([{"rows": [row]}])
    assert line == "| some model | 12 | 4 | 3 | 3 | 2 | `model.py:1` 2, `a.py:9` 1 |"


def test_folders_are_gathered_in_order(tmp_path):
    for number, name in enumerate(("first", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gpu.json").write_text(json.dumps({"minutes": number, "rows": [step("x")]}))
    gathered = table.gather([tmp_path / "second", tmp_path / "first"])
    assert [run["minutes"] for run in gathered["runs"]] == [1, 0]
    assert table.command(gathered["runs"][0]) == "python -m benchmarks.gpu --minutes 1 --only steps"


def test_the_page_shows_the_results_that_are_kept(tmp_path, runs):
    page = tmp_path / "gpu.md"
    page.write_text(re.sub(r"(<!-- (?!end).*? -->).*?(<!-- end)", r"\1\n\2", table.PAGE.read_text(), flags=re.DOTALL))
    assert page.read_text() != table.PAGE.read_text()
    table.write_page(page, runs)
    assert page.read_text() == table.PAGE.read_text()


def test_the_page_may_say_that_nothing_failed_in_the_end(runs):
    last = {(row["part"], row["name"]): row["status"] for run in runs for row in run["rows"]}
    assert set(last.values()) <= {"ok", "not supported"}
