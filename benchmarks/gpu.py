"""What works on a GPU and how fast, within a given time: tests, checks, verbs, steps, recursions, whole trainings.

``python -m benchmarks.gpu --minutes 9 --out DIR`` writes ``DIR/gpu.json`` whenever it knows more, and ``DIR/gpu.md``.
Each part is a process, so that one that crashes or hangs costs only itself; processes are forked before anything has
touched the device, which spares them the imports. The parts that nobody times run at once; then come the others, one
after another, and a part that ends early leaves its time to the next. Below five minutes all sizes are those of a
trial, which ``--device cpu`` runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  (here, that no process has to)
import torch

from benchmarks import _gpu_checks, _gpu_operations, _gpu_steps, _gpu_training
from benchmarks._gpu_rows import Rows, last_lines, write_json
from benchmarks._measure import device_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "pyro-ppl", "lightning", "numpy", "arviz")
START_METHODS = "fork", "spawn"  # of processes; the second where the imports have touched the device
GRACE = 5.0  # seconds after its time until a part is stopped
QUICK_BELOW = 5.0  # minutes
TEST_OPTIONS = ("-o", "addopts=", "-o", "filterwarnings=", "--import-mode=importlib", "-p", "no:cacheprovider", "-q")


@dataclass(frozen=True)
class Part:
    """A process's work.

    Args:
        name: Of the function in `WORK`.
        share: Of the time, beside the shares of the other parts that run.
        numerator: With `denominator`, which share of the cases it takes.
        denominator: In how many processes the cases are shared out.
    """

    name: str
    share: float
    numerator: int = 0
    denominator: int = 1


TOGETHER = (
    Part("tests", 0.22),
    *(Part("checks", 0.22, number, 3) for number in range(3)),
    *(Part("verbs", 0.22, number, 11) for number in range(11)),
)
ALONE = (
    Part("steps", 0.06),
    Part("bf16", 0.06),
    Part("host", 0.1),
    Part("kalman", 0.07),
    Part("mala", 0.05),
    Part("digits", 0.22),
    Part("video", 0.22),
)
ENDING = 0.98  # share of the time after which the last part must have ended


# ---------------------------------------------------------------------- inside a process


def tests(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """The tests that are marked as a GPU's, by pytest in a process of its own."""
    if (ROOT / "tests").is_dir():
        rows.run("pytest -m gpu", lambda: _pytest(rows.seconds_left - 2), seconds=rows.seconds_left)


def _pytest(seconds: float) -> dict[str, Any]:
    marked = sorted(str(p) for p in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in p.read_text())
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *TEST_OPTIONS, "--tb=short", *marked]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=max(1.0, seconds)
    )
    lines = done.stdout.strip().splitlines()
    heads = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    figures = {"files": len(marked), "summary": lines[-1:] or done.stderr.splitlines()[-3:], "failures": heads[:60]}
    return figures | ({} if done.returncode in (0, 5) else {"status": "failed", "tail": lines[-40:]})


WORK: dict[str, Callable[[Rows, torch.device, slice, bool], None]] = {
    "tests": tests,
    "checks": _gpu_checks.checks,
    "verbs": _gpu_checks.verbs,
    "steps": _gpu_steps.steps,
    "bf16": _gpu_steps.bf16,
    "host": _gpu_steps.host,
    "kalman": _gpu_operations.kalman,
    "mala": _gpu_operations.mala,
    "digits": _gpu_training.digits,
    "video": _gpu_training.video,
}


def work(part: Part, path: Path, device: str, until: float, is_quick: bool) -> None:
    """Run one part, its output in a file beside its rows."""
    redirect(path.with_suffix(".log"))
    if part.denominator > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // 8))
    rows = Rows(part.name, path, until)
    try:
        share = slice(part.numerator, None, part.denominator)
        WORK[part.name](rows, torch.device(device), share, is_quick)
    except BaseException as error:
        rows.rows.append({"part": part.name, "name": "the part", "status": "failed", "error": last_lines(error)})
        write_json(rows.path, rows.rows)
        raise


def redirect(log: Path) -> None:
    """Send all output of this process to a file, that of its libraries and of what it starts too."""
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    for number in (1, 2):
        os.dup2(sys.stdout.fileno(), number)


def probe(path: Path, device: str) -> None:
    """Write what the device is, after using it."""
    redirect(path.with_suffix(".log"))
    known: dict[str, Any] = {"device": device, "cuda": torch.version.cuda}
    if device == "cuda":
        total = float(torch.ones(2, device=device).sum())
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        known |= {"device": torch.cuda.get_device_name(), "GiB": round(memory, 1), "two": total}
        known |= {"cudnn": torch.backends.cudnn.version()}
    write_json(path, known)


# ---------------------------------------------------------------------- the processes


class Run:
    """Starts parts, gathers their rows, and stops those that outstay their time.

    Args:
        options: The command line.
        folder: For the parts' own files.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.begin = options, folder, time.time()
        self.is_quick = options.minutes < QUICK_BELOW
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.paths: list[Path] = []
        self.failures: list[dict[str, Any]] = []
        self.facts = self._facts()

    def in_turn(self, stages: Sequence[Sequence[Part]]) -> None:
        """Run one stage after another; each must have ended when the shares up to it are used up."""
        lengths = [max((part.share for part in parts), default=0.0) for parts in stages]
        for number, parts in enumerate(stages):
            used = sum(lengths[: number + 1]) / sum(lengths)
            self.together(parts, self.begin + 60 * self.options.minutes * ENDING * used)

    def together(self, parts: Sequence[Part], until: float) -> None:
        """Run parts at once, and wait for all."""
        running = [(part, *self._start(part, until)) for part in parts]
        for part, process, path in running:
            deadline = until + GRACE
            while process.is_alive() and time.time() < deadline:
                process.join(0.5)
                self.write()
            was_stopped = process.is_alive()
            if was_stopped:
                process.kill()
                process.join()
            if process.exitcode:
                status = "stopped: out of time" if was_stopped else f"the process ended with {process.exitcode}"
                tail = _tail(path.with_suffix(".log"))
                self.failures.append({"part": part.name, "name": "the process", "status": status, "error": tail})
            self.write()
            print(f"{time.time() - self.begin:5.0f} s  {part.name}: {len(self.rows())} rows", flush=True)

    def _start(self, part: Part, until: float) -> tuple[Any, Path]:
        path = self.folder / f"{part.name}_{part.numerator}.json"
        self.paths.append(path)
        given = (part, path, self.options.device, until, self.is_quick)
        return self._process(work, given), path

    def _process(self, target: Callable[..., None], given: tuple) -> Any:
        process = self.context.Process(target=target, args=given, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: those are idle
            process.start()
        return process

    def _facts(self) -> dict[str, Any]:
        """What the figures are made with; the device is asked in a forked process, or else in a new one."""
        for method in START_METHODS:
            self.context = multiprocessing.get_context(method)
            path = self.folder / f"device_{method}.json"
            self._process(probe, (path, self.options.device)).join(60)
            if path.exists():
                known = json.loads(path.read_text())
                break
        else:
            raise SystemExit(
                f"The device {self.options.device!r} cannot be used: {_tail(path.with_suffix('.log'))[-1:]}"
            )
        known |= {"processor": device_name(), "threads": torch.get_num_threads(), "processes": method}
        known |= {"python": platform.python_version(), "minutes": self.options.minutes}
        return known | {"versions": {name: _version(name) for name in PACKAGES}}

    def rows(self) -> list[dict[str, Any]]:
        """All that is known."""
        return [row for path in self.paths if path.exists() for row in json.loads(path.read_text())] + self.failures

    def write(self) -> None:
        """Keep all that is known."""
        write_json(self.out / "gpu.json", self.facts | {"rows": self.rows()})


def _tail(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# ---------------------------------------------------------------------- the table


def table(known: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """A table of every part, in Markdown."""
    lines = [f"{name}: {value}" for name, value in known.items()]
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        lines += ["", f"## {part}", "", "| | status | figures |", "|---|---|---|"]
        lines += [f"| {row['name']} | {row['status']} | {_cell(row)} |" for row in own]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any]) -> str:
    shown = {name: value for name, value in row.items() if name not in ("part", "name", "status", "took")}
    if "error" in shown:
        shown["error"] = str(shown["error"][-1:])
    texts = (f"{name} {_text(value)}" for name, value in shown.items() if value not in (None, {}, []))
    return "; ".join(texts).replace("|", "/").replace("\n", " ")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    return str(value[-1]) if isinstance(value, list) else str(value)


# ---------------------------------------------------------------------- the command line


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything")
    parser.add_argument("--out", default="results/gpu", help="folder for gpu.json and gpu.md")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what to try")
    parser.add_argument("--only", nargs="+", choices=WORK, default=list(WORK), help="which parts to run")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Run the parts, and print what came out."""
    options = arguments(given)
    with tempfile.TemporaryDirectory() as name:
        run = Run(options, Path(name))
        first = tuple(part for part in TOGETHER if not run.is_quick or part.numerator == 0)
        stages = [[part for part in parts if part.name in options.only] for parts in (first, *((p,) for p in ALONE))]
        run.in_turn([parts for parts in stages if parts])
        text = table(run.facts, run.rows())
    (run.out / "gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
