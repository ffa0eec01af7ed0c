"""The rows of `benchmarks.speed`: processor seconds of the library and of what stands beside it, after equal values."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from benchmarks._measure import interleave, require_equal

LIBRARY, LOOP = "library", "plain loop"
Call = Callable[[], Any]


@dataclass(frozen=True)
class Work:
    """One piece of work done in several ways.

    Args:
        name: What is done.
        sides: Ways to do it by name, `library` and usually `plain loop` among them; others are peers.
        values: Results of the library and of the loop, which must agree.
        tolerance: By how much, relative.
        repeats: How often each is timed.
    """

    name: str
    sides: Mapping[str, Call]
    values: Mapping[str, Callable[[], list[Tensor]]] = field(default_factory=dict)
    tolerance: float = 1e-5
    repeats: int = 7

    def measured(self) -> dict[str, Any]:
        """Equal values first, then medians of processor seconds, taken in turns."""
        difference = None
        if self.values:
            difference = require_equal(self.name, self.values[LIBRARY](), self.values[LOOP](), self.tolerance)
        times = interleave(self.sides, self.repeats)
        return {
            "name": self.name,
            "seconds": {side: timing.cpu for side, timing in times.items()},
            "difference": difference,
            "repeats": self.repeats,
        }


def is_installed(*packages: str) -> bool:
    """Whether peers are there; none is needed."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def ratio(row: Mapping[str, Any], side: str = LOOP) -> float | None:
    """How many times as fast as another side the library is."""
    seconds = row["seconds"]
    return seconds[side] / seconds[LIBRARY] if side in seconds else None


def lines_of(rows: Iterable[Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table in Markdown, with the figures of another run where it has them."""
    head = ["work", "library, ms", "plain loop, ms", "ratio", "peers, ms"]
    head += ["library before, ms", "faster by"] if before else []
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        seconds = row["seconds"]
        peers = [f"{side} {_ms(time)}" for side, time in seconds.items() if side not in (LIBRARY, LOOP)]
        times = ratio(row)
        cells = [row["name"], _ms(seconds[LIBRARY]), _ms(seconds.get(LOOP)), "" if times is None else f"{times:.2f}"]
        cells.append(", ".join(peers))
        if before:
            earlier = before.get(row["name"], {}).get("seconds", {}).get(LIBRARY)
            cells += [_ms(earlier), "" if earlier is None else f"{earlier / seconds[LIBRARY]:.2f}"]
        lines.append(_line(cells))
    return lines


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
