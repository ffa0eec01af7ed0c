"""What SRVP's benchmark measures in processes of their own: peak memory, and times under other allocator settings.

``python -m benchmarks._srvp_process`` reads an argument, the name of a measurement and its sizes, and prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import _srvp_baseline as plain
from benchmarks._measure import interleave
from benchmarks._srvp_task import Task

MIB = 2**10  # kB
# large blocks stay in the process when they are freed, and are not asked for page by page again
KEEPING = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


def measured(name: str, *, environment: Mapping[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """Run a measurement of this file in a fresh process."""
    command = [sys.executable, "-m", "benchmarks._srvp_process", json.dumps({"name": name, **options})]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | dict(environment or {})
    )
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr}")
    return json.loads(finished.stdout.splitlines()[-1])


def generation(side: str, horizon: int, num_samples: int, chunk_size: int | None, sizes: list) -> dict[str, float]:
    """Peak memory of a forecast: of the process in MiB, and what it held before; the result's MiB; and seconds."""
    task = Task(_sizes(sizes), 1, _sizes(sizes).num_frames)
    sides: dict[str, Callable[[], torch.Tensor]] = {
        "library": lambda: task.futures(horizon, num_samples, chunk_size).samples,
        "one by one": lambda: plain.one_by_one(task.networks, task.seen(), horizon, num_samples),
        "at once": lambda: plain.at_once(task.networks, task.seen(), horizon, num_samples),
    }
    if side == "library":
        task.futures(1, 1)  # what is loaded at the first call
        del task.networks, task.plain_optimizer
    else:
        del task.model, task.objective, task.optimizer
    del task.pairs
    before, start = _memory("VmRSS"), time.process_time()
    result = sides[side]()
    seconds = time.process_time() - start
    return {
        "peak": _memory("VmHWM") / MIB,
        "before": before / MIB,
        "result": result.nbytes / MIB**2,
        "cpu": seconds,
    }


def training(num_series: int, num_steps: int, repeats: int, sizes: list) -> dict[str, dict[str, float]]:
    """Timings of a training step by either side."""
    task = Task(_sizes(sizes), num_series, num_steps)
    times = interleave({"library": task.library, "baseline": task.baseline}, repeats)
    return {side: asdict(timing) for side, timing in times.items()}


def _sizes(values: list) -> plain.Sizes:
    return plain.Sizes(*(tuple(value) if isinstance(value, list) else value for value in values))


def _memory(name: str) -> int:
    """Memory of this process in kB; not `ru_maxrss`, which a child begins with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    measurements = {"generation": generation, "training": training}
    print(json.dumps(measurements[options.pop("name")](**options)))


if __name__ == "__main__":
    main()
