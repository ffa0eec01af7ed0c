"""Seconds, operations, waits and memory of a training step, read by a callback while `fit` runs."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode

import pyro_seq as ps
from benchmarks._gpu_cases import WORKLOADS, Workload
from benchmarks._gpu_rows import Rows, last_lines, synchronise

READS = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal")
NUM_STEPS = 200  # more than are timed
ROOT = Path(__file__).parents[1]


def steps(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """Each example's training step on the device, in float32."""
    _each_step(rows, device, "32-true", is_quick)


def bf16(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """Each example's training step on the device, in bfloat16 where that does no harm."""
    _each_step(rows, device, "bf16-mixed", is_quick)


def host(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """Each example's training step on the CPU, with all threads and with one."""
    for threads in dict.fromkeys((torch.get_num_threads(), 1)):
        torch.set_num_threads(threads)
        _each_step(rows, torch.device("cpu"), "32-true", is_quick)


def _each_step(rows: Rows, place: torch.device, precision: str, is_quick: bool) -> None:
    workloads, seconds = (WORKLOADS[:-2], 0.5) if is_quick else (WORKLOADS, 2.0)
    for workload in workloads:
        threads = f", threads: {torch.get_num_threads()}" * (place.type == "cpu")
        most_seconds = max(1.0, min(10 * seconds, 0.6 * rows.seconds_left))
        rows.run(
            f"{workload.name}, {place.type}, {precision}{threads}",
            partial(measured, workload, place, precision, seconds, most_seconds),
            seconds=30.0,
        )


def measured(
    workload: Workload, device: torch.device, precision: str, seconds: float, most_seconds: float
) -> dict[str, Any]:
    """Figures of a step of `fit`, timed for some seconds; slow ones end after `most_seconds` in all."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model, data, method = workload.make(NUM_STEPS)
    model.to(device)
    data = data.to(device) if isinstance(data, ps.Sequences) else data
    clock = Clock(device, seconds)
    trainer = ps.Trainer(
        progress=False,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        precision=precision,
        callbacks=[clock],
        max_seconds=most_seconds,
        checkpoint_every=None,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ps.fit(model, data, method, trainer=trainer)
    finally:
        clock.close()
    return clock.figures()


class Operations(TorchDispatchMode):
    """Counts operations by name as they reach a device, and copies from it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.num_copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Count, and run."""
        result = func(*args, **(kwargs or {}))
        self.counts[func._schema.name] += 1
        source = next((part for part in args if isinstance(part, torch.Tensor)), None)
        if source is not None and source.is_cuda and isinstance(result, torch.Tensor) and not result.is_cuda:
            self.num_copies += 1
        return result


class Clock(lightning.Callback):
    """Times steps from end to end; the second one is counted, the third traced, and neither is timed.

    Args:
        device: Where training runs.
        seconds: How long to time.
    """

    COUNTED, TRACED, FIRST = 1, 2, 4

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds
        self.ends: list[float] = []
        self.operations = Operations()
        self.caught: list[Any] = []
        self.kernels: dict[str, Any] = {}
        self.stack = ExitStack()
        self.profile: Any = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begin with the memory of the model and the data."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        synchronise(self.device)
        self.ends.append(time.perf_counter())

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Count or trace this step, if it is its turn."""
        if batch_idx == self.COUNTED:
            self.caught = self.stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            self.stack.enter_context(self.operations)
        elif batch_idx == self.TRACED and self.device.type == "cuda":
            activities = [torch.profiler.ProfilerActivity.CUDA]
            self.profile = self.stack.enter_context(torch.profiler.profile(activities=activities))

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the clock; stop when enough steps are timed."""
        synchronise(self.device)
        self.close()
        if self.profile is not None:
            self.kernels, self.profile = traced(self.profile), None
        self.ends.append(time.perf_counter())
        timed = self.ends[-1] - self.ends[min(self.FIRST, len(self.ends) - 1)]
        if timed > self.seconds or (timed > 0.3 * self.seconds and batch_idx > 50):
            trainer.should_stop = True

    def close(self) -> None:
        """Leave what counts and traces, which a step that raised has left open."""
        self.stack.close()
        if self.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")

    def figures(self) -> dict[str, Any]:
        """What was read."""
        durations = [later - before for before, later in zip(self.ends, self.ends[1:], strict=False)]
        timed = durations[self.FIRST :]
        figures: dict[str, Any] = {"seconds": statistics.median(timed or durations), "repeats": len(timed)}
        if len(durations) > self.COUNTED:
            counts = self.operations.counts
            figures |= {"operations": sum(counts.values()), "reads": {name: counts[name] for name in READS}}
            figures["reads"] = {name: count for name, count in figures["reads"].items() if count}
        if self.device.type == "cuda":
            places = Counter(
                f"{_place(entry.filename)}:{entry.lineno}"
                for entry in self.caught
                if "synchroniz" in str(entry.message)
            )
            figures |= {"copies to the host": self.operations.num_copies, "waits": sum(places.values())}
            figures |= {"places of waits": dict(places.most_common(12)), **self.kernels}
            figures["peak MiB"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        return figures


def traced(profile: Any) -> dict[str, Any]:
    """What ran on the device in a step, or why that is not known."""
    try:
        events = [event for event in profile.key_averages() if event.device_type == DeviceType.CUDA]
        longest = sorted(events, key=lambda event: -event.self_device_time_total)[:8]
        return {
            "kernels": sum(event.count for event in events),
            "seconds in kernels": sum(event.self_device_time_total for event in events) * 1e-6,
            "longest": {f"{event.key[:60]} x{event.count}": event.self_device_time_total * 1e-6 for event in longest},
        }
    except Exception as error:
        return {"kernels": last_lines(error)[-1]}


def _place(name: str) -> str:
    path = Path(name)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "/".join(path.parts[-2:])
