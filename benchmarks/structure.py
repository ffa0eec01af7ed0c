"""How much there is to understand: rooms, the arrows between them, circles, and what one step passes through.

python -m benchmarks.structure            some seconds on one core; counts for the package that Python imports

The drawing is read from the import statements, wherever they stand: inside functions and for type checkers too.

* A file is a Python file of the package; its arrows go to the files that it imports. Importing a folder is an arrow to
  its ``__init__.py``; importing something inside a folder is not.
* A room is a file or a folder directly below the package, but for ``__init__.py``. A room's arrows are those of its
  files that leave it.
* A circle is a set of files, or rooms, each of which imports every other one, perhaps by way of third ones: a strongly
  connected component of more than one.
* Arrows that run back up are those that must go for the circles to open: the fewest whose removal leaves none.
* The stack is the longest chain of arrows, counted in files or rooms. A circle counts as one.

The walk is recorded by `sys.setprofile` after warm-up, with small models on random series.

* A training step is all that happens between Lightning's hooks ``on_train_batch_start`` and ``on_train_batch_end``: the
  minibatch, the loss, its gradient, the update. Validation, history and checkpoints come after it.
* A forecast is one call of `forecast`.
* A file counts when a function in it is entered; a function is a ``def`` or a lambda of the package. Comprehensions are
  not, nor what dataclasses write for themselves.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch

import pyro_seq as ps

Graph = Mapping[str, frozenset[str]]

WARM_UP = 3
NOT_FUNCTIONS = {"<module>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


# ---------------------------------------------------------------------- the drawing


class Drawing(NamedTuple):
    """Counts of a graph of imports."""

    places: int
    arrows: int
    back_up: int
    circles: list[list[str]]
    stack: int


def files(package: Path) -> Graph:
    """The files of a package, by their paths below it, and the files that each imports."""
    paths = sorted(package.rglob("*.py"))
    return {
        path.relative_to(package).as_posix(): frozenset(
            target.relative_to(package).as_posix() for target in _imported(path, package) if target != path
        )
        for path in paths
    }


def rooms(graph: Graph) -> Graph:
    """The rooms of a graph of files, and the rooms that each imports from."""
    names = {file: file.split("/")[0].removesuffix(".py") for file in graph if file != "__init__.py"}
    arrows = {(names[file], names[target]) for file in names for target in graph[file] if target in names}
    return {room: frozenset(b for a, b in arrows if a == room and b != room) for room in sorted({*names.values()})}


def measure(graph: Graph) -> Drawing:
    """All counts of a graph of files or rooms."""
    circles = _circles(graph)
    return Drawing(
        places=len(graph),
        arrows=sum(map(len, graph.values())),
        back_up=sum(_fewest_back_up(graph, circle) for circle in circles),
        circles=circles,
        stack=_stack(graph, circles),
    )


def _imported(path: Path, package: Path) -> Iterator[Path]:
    """Files of the package that the statements of one file import."""
    here = path.relative_to(package.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [[alias.name] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            names = [[f"{base}.{alias.name}", base] for alias in node.names]
        else:
            continue
        for candidates in names:
            yield from list(filter(None, (_file_of(name, package) for name in candidates)))[:1]


def _file_of(module: str, package: Path) -> Path | None:
    first, *rest = module.split(".")
    path = package.joinpath(*rest)
    options = (path.with_suffix(".py"), path / "__init__.py") if rest else (path / "__init__.py",)
    return next((option for option in options if first == package.name and option.is_file()), None)


def _reachable(graph: Graph) -> dict[str, set[str]]:
    reached = {place: set(targets) for place, targets in graph.items()}
    for middle in graph:
        for place in graph:
            if middle in reached[place]:
                reached[place] |= reached[middle]
    return reached


def _circles(graph: Graph) -> list[list[str]]:
    reached = _reachable(graph)
    found = {frozenset(other for other in reached[place] if place in reached[other]) for place in graph}
    return sorted(sorted(circle) for circle in found if len(circle) > 1)


def _fewest_back_up(graph: Graph, circle: list[str]) -> int:
    """Fewest arrows against any order of a circle, by the best order of each subset: 2^size subsets, so small circles.

    An order lists what is below first; the arrows against it go from a place to those not yet listed.
    """

    @cache
    def fewest(listed: frozenset[str]) -> int:
        return min((fewest(listed - {last}) + against(last, listed) for last in listed), default=0)

    def against(last: str, listed: frozenset[str]) -> int:
        return len((graph[last] & everything) - listed)

    everything = frozenset(circle)
    return fewest(everything)


def _stack(graph: Graph, circles: list[list[str]]) -> int:
    name = {place: place for place in graph} | {place: circle[0] for circle in circles for place in circle}
    below: dict[str, set[str]] = {name[place]: set() for place in graph}
    for place, targets in graph.items():
        below[name[place]] |= {name[target] for target in targets} - {name[place]}
    height: dict[str, int] = {}
    for place in TopologicalSorter(below).static_order():
        height[place] = 1 + max((height[other] for other in below[place]), default=0)
    return max(height.values(), default=0)


# ---------------------------------------------------------------------- the walk


class Walk:
    """What of a package is entered between `start` and `stop`, in this thread."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.codes: set[CodeType] = set()
        self._before: Any = None

    def start(self) -> None:
        self._before = sys.getprofile()
        sys.setprofile(self._enter)

    def stop(self) -> None:
        sys.setprofile(self._before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.codes.add(frame.f_code)

    @property
    def functions(self) -> set[tuple[str, str, int]]:
        """File, name and first line of each function."""
        inside = (code for code in self.codes if code.co_name not in NOT_FUNCTIONS)
        return {
            (Path(code.co_filename).relative_to(self.package).as_posix(), code.co_qualname, code.co_firstlineno)
            for code in inside
            if Path(code.co_filename).is_relative_to(self.package)
        }

    @property
    def files(self) -> set[str]:
        """Files that these functions are written in."""
        return {file for file, _, _ in self.functions}


class OneStep(lightning.Callback):
    """Lets a walk go through the step after the warm-up, and no other."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            self.walk.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            self.walk.stop()


def series() -> ps.Sequences:
    """Random series with times and gaps of their own."""
    source = torch.Generator().manual_seed(0)
    times = (0.1 + torch.rand(6, 8, generator=source)).cumsum(-1)
    mask = torch.rand(6, 8, generator=source) < 0.8
    return ps.Sequences(torch.rand(6, 8, 2, generator=source), times=times, mask=mask)


def walks(package: Path) -> dict[str, Walk]:
    """One training step by each method, and one forecast."""
    torch.manual_seed(0)
    data, found = series(), {name: Walk(package) for name in ("SVI step", "maximum-likelihood step", "forecast")}
    svi, likelihood, forecast = found.values()
    ode2vae, ode_lebm = ps.ODE2VAE((2,), 2), ps.ODELEBM((2,), 2)
    posterior = ps.fit(ode2vae, data, ps.SVI(num_steps=WARM_UP + 2, batch_size=4), trainer=_trainer(svi))
    method = ps.MaximumLikelihood(num_steps=WARM_UP + 2, batch_size=4)
    ps.fit(ode_lebm, data, method, trainer=_trainer(likelihood))
    ps.forecast(posterior, data, horizon=3, num_samples=4)  # warm-up
    forecast.start()
    ps.forecast(posterior, data, horizon=3, num_samples=4)
    forecast.stop()
    return found


def _trainer(walk: Walk) -> ps.Trainer:
    return ps.Trainer(progress=False, accelerator="cpu", callbacks=(OneStep(walk),))


# ---------------------------------------------------------------------- the report


def main() -> None:
    """Print all counts."""
    package = Path(ps.__file__).parent
    graph = files(package)
    print(f"{'':26}{'places':>8}{'arrows':>8}{'back up':>9}{'circles':>9}{'stack':>7}")
    for name, drawing in {"rooms": measure(rooms(graph)), "files": measure(graph)}.items():
        counts = f"{drawing.places:8}{drawing.arrows:8}{drawing.back_up:9}{len(drawing.circles):9}{drawing.stack:7}"
        print(f"{name:26}{counts}")
        for circle in drawing.circles:
            print(f"  circle of {len(circle)}: {', '.join(circle)}")
    print(f"\n{'':26}{'files':>8}{'functions':>11}")
    for name, walk in walks(package).items():
        print(f"{name:26}{len(walk.files):8}{len(walk.functions):11}")


if __name__ == "__main__":
    main()
