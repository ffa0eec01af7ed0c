"""What the GPU benchmark counts, keeps and stops is right, and its parts run on a CPU; no timing."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch

import pyro_seq as ps
from benchmarks import gpu
from benchmarks._gpu_cases import CASES, Workload
from benchmarks._gpu_checks import methods, used
from benchmarks._gpu_operations import KALMAN_WAYS, Target, differences, moved
from benchmarks._gpu_rows import OutOfTime, Rows, limit, timed
from benchmarks._gpu_steps import Operations, measured
from benchmarks._measure import gap
from benchmarks.kalman import Sizes, make_task

CPU = torch.device("cpu")


def raises(error: Exception):
    def figures():
        raise error

    return figures


def test_a_row_says_what_came_of_it_and_is_on_disk(tmp_path):
    path = tmp_path / "rows.json"
    rows = Rows("some", path, time.time() + 60)
    rows.run("good", lambda: {"seconds": 2.0})
    assert json.loads(path.read_text())[0]["seconds"] == 2.0
    rows.run("bad", raises(ValueError("no such thing\nand more")))
    rows.run("unsupported", raises(ps.UnsupportedError("not here")))
    rows.run("slow", lambda: time.sleep(10), seconds=1.0)
    rows.until = time.time()
    rows.run("late", lambda: {})
    kept = {row["name"]: row for row in json.loads(path.read_text())}
    assert {name: row["status"] for name, row in kept.items()} == {
        "good": "ok",
        "bad": "failed",
        "unsupported": "not supported",
        "slow": "stopped after 1 s",
        "late": "skipped: out of time",
    }
    assert kept["bad"]["error"][-1] == "ValueError: no such thing"
    assert "test_gpu.py" in kept["bad"]["error"][-2]


def test_a_limit_inside_another_gives_way_to_it():
    with pytest.raises(OutOfTime), limit(0.3):
        with limit(10.0):
            pass
        time.sleep(5)
    with limit(0.05):
        pass
    time.sleep(0.1)  # nothing is left that would ring


def test_a_call_is_timed_without_the_first():
    waits = iter([0.3, *[0.01] * 10])
    found = timed(lambda: time.sleep(next(waits)), CPU, seconds=1.0, most=4)
    assert found["repeats"] == 4
    assert found["seconds"] < 0.1


def test_operations_are_counted_backwards_too():
    weight = torch.ones(3, requires_grad=True)
    with Operations() as counted:
        loss = (weight * 2.0).sum()
        loss.backward()
        loss.item()
    counts = counted.counts
    assert counts["aten::_local_scalar_dense"] == 1
    assert counts["aten::sum"] == 1
    assert counts["aten::mul"] == 2  # there and back
    assert counted.num_copies == 0


def test_a_step_of_fit_is_measured():
    case = CASES[0]
    workload = Workload("small", lambda n: (case.model(CPU), case.data(CPU), ps.SVI(num_steps=n, batch_size=3)))
    found = measured(workload, CPU, "32-true", 0.2, 10.0)
    assert found["repeats"] > 3
    assert found["operations"] > 200
    assert found["reads"]["aten::_local_scalar_dense"] >= 1
    assert not torch._C._len_torch_dispatch_stack()


def test_a_step_that_raises_leaves_nothing_open():
    def broken(batch, step, generator):
        if step == 1:
            raise RuntimeError("broken view")
        return batch

    case = CASES[0]
    workload = Workload("small", lambda n: (case.model(CPU), case.data(CPU), ps.SVI(num_steps=n, views=[broken])))
    with pytest.raises(RuntimeError, match="broken view"):
        measured(workload, CPU, "32-true", 0.2, 10.0)
    assert not torch._C._len_torch_dispatch_stack()


@pytest.mark.parametrize("name", ["SVI, resumed", "MCMC, HMC"])
def test_every_verb_runs(name):
    found = used(CASES[0], methods(CPU)[name], CPU)
    assert "status" not in found
    assert found["verbs that passed"] == (14 if name.startswith("SVI") else 10)


def test_a_verb_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(ps, "impute", lambda *args, **options: raises(ValueError("no gaps today"))())
    found = used(CASES[0], methods(CPU)["SVI"], CPU)
    assert found["status"] == "failed"
    assert set(found["verbs that failed"]) == {"impute", "impute from the past"}
    assert found["verbs that failed"]["impute"][-1] == "ValueError: no gaps today"


def test_a_moved_task_is_the_same():
    task = make_task(Sizes(6, 2), dtype=torch.float64)
    again = moved(task, CPU)
    assert all(part.is_leaf and part.requires_grad for part in again.model)
    for options in KALMAN_WAYS.values():
        assert gap(again.library(**options), task.library(**options)) == 0
    # a few units of single precision, and not none
    assert all(1e-8 < difference < 1e-3 for difference in differences((2, 6, 4), CPU).values())


def test_library_and_plain_loop_run_the_same_chain():
    target = Target(50, 3, CPU)
    library, plain = target.library(40), target.plain(40)
    assert library == pytest.approx(plain, abs=1e-4)
    assert 0.5 < library < 1.0


# ---------------------------------------------------------------- the processes


def results(out) -> tuple[dict, dict[str, list]]:
    known = json.loads((out / "gpu.json").read_text())
    parts: dict[str, list] = {}
    for row in known.pop("rows"):
        parts.setdefault(row["part"], []).append(row)
    return known, parts


def test_parts_run_in_processes_of_their_own(tmp_path, capsys):
    gpu.main(["--device", "cpu", "--minutes", "1", "--only", "kalman", "mala", "--out", str(tmp_path)])
    known, parts = results(tmp_path)
    assert known["device"] == "cpu"
    assert known["processes"] == "fork"
    assert [len(parts[name]) for name in ("kalman", "mala")] == [5, 2]
    assert {row["status"] for rows in parts.values() for row in rows} == {"ok"}
    table = (tmp_path / "gpu.md").read_text()
    assert "| smoothing, parallel, 32 x 100 x 4, cpu | ok | seconds " in table
    assert table in capsys.readouterr().out


def test_a_part_that_dies_or_hangs_costs_only_itself(tmp_path, monkeypatch):
    def dies(rows, device, share, is_quick):
        rows.run("before", lambda: {})
        print("about to die", flush=True)
        os._exit(3)

    def hangs(rows, device, share, is_quick):
        rows.run("before", lambda: {})
        time.sleep(60)

    def works(rows, device, share, is_quick):
        rows.run("all", lambda: {"answer": 1.5})

    monkeypatch.setattr(gpu, "GRACE", 0.0)
    monkeypatch.setattr(gpu, "ALONE", (gpu.Part("kalman", 0.2), gpu.Part("mala", 0.1), gpu.Part("digits", 0.7)))
    monkeypatch.setattr(gpu, "WORK", {"kalman": dies, "mala": hangs, "digits": works})
    gpu.main(["--device", "cpu", "--minutes", "0.2", "--out", str(tmp_path)])
    _, parts = results(tmp_path)
    assert [row["status"] for row in parts["kalman"]] == ["ok", "the process ended with 3"]
    assert parts["kalman"][1]["error"] == ["about to die"]
    assert [row["status"] for row in parts["mala"]] == ["ok", "stopped: out of time"]
    assert [row["status"] for row in parts["digits"]] == ["ok"]
    assert "answer 1.5" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "START_METHODS", ("fork",))
    with pytest.raises(SystemExit, match="'cuda' cannot be used: .*[A-Za-z]"):
        gpu.main(["--out", str(tmp_path)])
