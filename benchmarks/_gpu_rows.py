"""Rows of the GPU benchmark: each figured out by itself, within its time, kept on disk as soon as it is known."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import pyro_seq as ps

LAST_LINES = 6  # of a traceback, enough to say where it was raised
LONGEST_LINE = 400
Figures = Mapping[str, Any]


class OutOfTime(BaseException):
    """The time of a row is up; not an `Exception`, so that nothing on the way takes it for a failure."""


class Rows:
    """Rows of one part, written anew to a file whenever one is added.

    Args:
        part: Name of the part.
        path: The file.
        until: When the part must end, in the seconds of `time.time`.
    """

    def __init__(self, part: str, path: Path, until: float) -> None:
        self.part, self.path, self.until = part, path, until
        self.rows: list[dict[str, Any]] = []

    @property
    def seconds_left(self) -> float:
        """Seconds until the part must end."""
        return self.until - time.time()

    def run(self, name: str, figures: Callable[[], Figures | None], *, seconds: float = 60.0) -> dict[str, Any]:
        """Add the row that `figures` returns, or what stopped it, within `seconds` and the time of the part."""
        row: dict[str, Any] = {"part": self.part, "name": name}
        allowed = min(seconds, self.seconds_left)
        if allowed < 1:
            row["status"] = "skipped: out of time"
        else:
            begin = time.perf_counter()
            row |= _outcome(figures, allowed)
            row["took"] = round(time.perf_counter() - begin, 2)
        self.rows.append(row)
        write_json(self.path, self.rows)
        return row


def _outcome(figures: Callable[[], Figures | None], seconds: float) -> dict[str, Any]:
    try:
        with limit(seconds):
            return {"status": "ok", **(figures() or {})}
    except OutOfTime:
        return {"status": f"stopped after {seconds:.0f} s"}
    except ps.UnsupportedError as error:
        return {"status": "not supported", "error": last_lines(error)[-1:]}
    except Exception as error:
        return {"status": "failed", "error": last_lines(error)}


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after so many seconds; what waits inside a single call is not stopped.

    A limit around this one goes on afterwards.
    """

    def stop(number: int, frame: Any) -> None:
        raise OutOfTime

    handler, begin = signal.signal(signal.SIGALRM, stop), time.monotonic()
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, outer - (time.monotonic() - begin)))


def last_lines(error: BaseException) -> list[str]:
    """End of the traceback, the message last."""
    text = "".join(traceback.format_exception(error)).rstrip().splitlines()
    message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    frames = [line.strip() for line in text if line.lstrip().startswith("File ")]
    return [line[:LONGEST_LINE] for line in [*frames[-LAST_LINES:], message]]


def write_json(path: Path, value: Any) -> None:
    """Write a file that is whole at any moment."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1, default=str) + "\n")
    draft.replace(path)


def synchronise(device: torch.device) -> None:
    """Wait for the device to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], Any], device: torch.device, *, seconds: float, most: int = 20) -> dict[str, Any]:
    """Median seconds of a call after one that is not counted; a single call that takes all the time counts itself."""
    times = [_once(function, device)]
    begin = time.perf_counter()
    while len(times) <= most and time.perf_counter() - begin + times[-1] < seconds:
        times.append(_once(function, device))
    counted = times[1:] or times
    return {"seconds": statistics.median(counted), "repeats": len(times) - 1}


def _once(function: Callable[[], Any], device: torch.device) -> float:
    synchronise(device)
    begin = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - begin
