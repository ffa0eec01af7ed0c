"""The baseline and the library compute the same numbers, and all parts of the benchmark run small; no timing."""

from __future__ import annotations

import pytest
import torch

from benchmarks import _measure, _srvp_process, srvp
from benchmarks import _srvp_baseline as plain
from benchmarks._measure import gap
from benchmarks._srvp_task import Task
from benchmarks.srvp import DOUBLE, SMALL

SIZES = [SMALL, plain.Sizes((3, 16, 32), (4, 6), 5, 3, 4, 7, 2, 16)]


@pytest.mark.parametrize("sizes", SIZES, ids=["one channel", "three channels"])
def test_training_steps_agree_in_loss_and_gradients(sizes):
    task = Task(sizes, 3, 6, dtype=torch.float64)
    library, baseline = task.both()
    assert len(library) == 1 + len(list(task.networks.parameters())) == 1 + len(list(task.model.parameters()))
    assert gap(library, baseline) < DOUBLE
    # the step was the same as well
    assert gap([convert(own) for own, _, convert in task.pairs], [other for _, other, _ in task.pairs]) < 1e-6


@pytest.mark.parametrize("sizes", SIZES, ids=["one channel", "three channels"])
def test_futures_agree_given_the_same_latents(sizes):
    task = Task(sizes, 2, sizes.num_frames, dtype=torch.float64)
    library, baseline = task.both_futures(4, 3)
    assert library[0].shape == (3, 2, 4, *sizes.obs_shape)
    assert gap(library, baseline) < DOUBLE
    assert (library[0][0] - library[0][1]).norm() > 1e-6


def test_samples_one_by_one_and_at_once_have_one_order():
    task = Task(SMALL, 2, SMALL.num_frames)
    networks, seen = task.networks, task.seen()
    ways = [way(networks, seen, 3, 4) for way in (plain.one_by_one, plain.at_once)]
    assert [tuple(way.shape) for way in ways] == [(4, 3, 2, 1, 16, 16)] * 2
    # the clips differ by more than the draws of one do
    centre = [way.mean((0, 1)) for way in ways]
    assert (centre[0] - centre[1]).norm() < (centre[0][0] - centre[0][1]).norm()


@pytest.mark.slow
def test_peak_memory_is_that_of_a_fresh_process():
    found = srvp.measured("generation", side="library", horizon=2, num_samples=2, chunk_size=None, sizes=SMALL)
    assert found["peak"] >= found["before"] > 100
    assert found["result"] == 2 * 2 * 16 * 16 * 4 / 2**20
    with pytest.raises(SystemExit, match="failed"):
        srvp.measured("nothing")


@pytest.mark.slow
def test_all_rows_of_the_quick_mode(tmp_path, monkeypatch):
    def here(name, *, environment=None, **options):
        return getattr(_srvp_process, name)(**(options | {"sizes": [*options["sizes"]]}))

    monkeypatch.setattr(srvp, "measured", here)
    monkeypatch.setattr(_measure, "folder", lambda: tmp_path)
    rows = srvp.training_rows(SMALL, True) + srvp.generation_rows(SMALL, True)
    rows += srvp.large_rows(SMALL, True) + srvp.scaling_rows(SMALL, True)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.value >= 0 for row in rows) and rows[0].bound == 1.3
    assert {path.name for path in tmp_path.iterdir()} == {
        f"srvp_{part}.png" for part in ("horizon", "samples", "pixels")
    }
