"""What a second process on a second core is worth: a step of SRVP by one process and by two, in wall time.

``python -m benchmarks.processes`` trains the example's SRVP and the paper's in programs of their own, with one thread
per process, in turns, on minibatches of the same size in all. That two processes take the steps of one is a test,
``pytest -m slow tests/infer/test_devices.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch

import pyro_seq as ps
from benchmarks import _gpu_cases as cases
from benchmarks._gpu_rows import write_json

RESULTS = Path(__file__).parent / "results" / "processes.json"
WORK = {
    "example, 16 videos of 15 frames of 32 x 32": cases._srvp_example,
    "paper, 16 videos of 15 frames of 64 x 64": lambda steps: cases.srvp_paper(steps, batch_size=16),
}
WARM = 2  # steps before the clock starts


class Clock(lightning.Callback):
    """Wall time of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Read the clock."""
        self.ends.append(time.perf_counter())


def train(name: str, num_processes: int, num_steps: int) -> None:
    """Train in this program, as one of the processes; the first prints seconds per step and the last loss."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, data, method = WORK[name](num_steps)
    clock = Clock()
    trainer = ps.Trainer(
        progress=False,
        accelerator="cpu",
        devices=num_processes,
        strategy="ddp" if num_processes > 1 else "auto",
        callbacks=[clock],
        log_every=num_steps,
        checkpoint_every=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = ps.fit(model, data, method, trainer=trainer)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        seconds = [later - before for before, later in zip(clock.ends[WARM:], clock.ends[WARM + 1 :], strict=False)]
        print(json.dumps({"seconds": statistics.median(seconds), "loss": posterior.history["loss"][-1]}))


def measured(name: str, num_processes: int, num_steps: int) -> dict[str, float]:
    """Figures of a run in a program of its own."""
    command = [sys.executable, "-m", "benchmarks.processes", "--train", name, str(num_processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, "--steps", str(num_steps)], capture_output=True, text=True, check=False, env=environment
    )
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr}")
    return json.loads([line for line in finished.stdout.splitlines() if line.startswith("{")][-1])


def main() -> None:
    """Run all, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--train", nargs=2, metavar=("NAME", "PROCESSES"), help="one run, in this program")
    options = parser.parse_args()
    if options.train:
        train(options.train[0], int(options.train[1]), options.steps)
        return
    rows: dict[str, dict[str, float]] = {}
    for name in options.work:
        runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(options.repeats):
            for num_processes, found in runs.items():
                found.append(measured(name, num_processes, options.steps))
        one, two = (statistics.median(run["seconds"] for run in found) for found in runs.values())
        rows[name] = {"one process": one, "two": two, "speed-up": one / two}
        rows[name] |= {"loss of one": runs[1][0]["loss"], "loss of two": runs[2][0]["loss"]}
        print(name, rows[name], flush=True)
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
