"""The floors of the package: a file imports only from lower floors, or from its own folder."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyro_seq"
FLOORS = {
    "errors": 0,
    "data": 0,
    "ops": 1,
    "metrics": 1,
    "datasets": 1,
    "distributions": 2,
    "nn": 3,
    "model": 4,
    "posterior": 4,
    "models": 5,
    "infer": 5,
    "diagnostics": 6,
    "testing": 6,
    "cli": 7,
} | {path.stem: 0 for path in PACKAGE.glob("_*.py") if path.stem != "__init__"}
STRANGERS = {"models", "datasets"}  # files of these folders do not see each other
ONLY_IN = {"lightning": "infer", "arviz": "diagnostics/arviz.py", "torchdiffeq": "ops/"}
# Files that import from an extra, and say so when it is missing
EXTRAS = {"datasets/_ball_world.py": "physics", "datasets/_walkers.py": "mujoco", "datasets/_movies.py": "video"}
DISTRIBUTIONS = {"PIL": "pillow", "dm_control": "dm-control", "pyro": "pyro-ppl", "sklearn": "scikit-learn"}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    """``pyro_seq.ops.odeint`` for ``ops/odeint.py``."""
    parts = ("pyro_seq", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imported_modules(file: Path) -> Iterator[str]:
    """Absolute names of all modules that a file imports, wherever the statement stands."""
    package = module_name(file).split(".")
    package = package if file.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if base.split(".")[0] == "pyro_seq" and is_module(inner) else base


def words(file: Path) -> set[str]:
    """All names and attributes that a file reads."""
    nodes = list(ast.walk(ast.parse((PACKAGE / file).read_text())))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def room(module: str) -> str:
    """The folder or file right under ``pyro_seq`` that a module belongs to; empty for the package itself."""
    return ".".join(module.split(".")[1:2])


def complaint(file: Path, target: str) -> str | None:
    """Why `file` may not import the module `target` of the package, or None."""
    source = module_name(file)
    here, there = room(source), room(target)
    if not there:
        return "imports the package itself: name the module"
    if there not in FLOORS:
        return f"imports {target}, which has no floor"
    if here != there:
        same_folder = len(file.parts) == 1 and FLOORS[here] == FLOORS[there] and (PACKAGE / f"{there}.py").is_file()
        allowed = FLOORS[there] < FLOORS[here] or same_folder
        return None if allowed else f"floor {FLOORS[here]} imports {target} on floor {FLOORS[there]}"
    if here in STRANGERS and file.name != "__init__.py":
        private = target.split(".")[-1].startswith("_") and here == "datasets"
        return None if private else f"imports its neighbour {target}"
    return None


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down(file: Path) -> None:
    if file == Path("__init__.py"):
        assert room(module_name(file)) == ""
        return
    assert room(module_name(file)) in FLOORS, f"{file} has no floor"
    inside = [name for name in imported_modules(file) if name.split(".")[0] == "pyro_seq"]
    complaints = [text for name in inside if (text := complaint(file, name))]
    assert not complaints, f"{file}: " + "; ".join(complaints)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_third_party_packages_stay_in_their_room(file: Path) -> None:
    outside = {name for name in imported_modules(file) if name.split(".")[0] != "pyro_seq"}
    heads = {name.split(".")[0] for name in outside}
    strays = [name for name, home in ONLY_IN.items() if name in heads and not file.as_posix().startswith(home)]
    assert not strays, f"{file} imports {strays}; allowed: {ONLY_IN}"
    if file.parts[0] == "ops":
        assert "pyro" not in heads and "Module" not in words(file), f"{file}: ops take tensors and return tensors"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_import_is_a_declared_dependency(file: Path) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"]
    if extra := EXTRAS.get(file.as_posix()):
        required += setup["options.extras_require"][extra]
    declared = set(re.findall(r"^([\w-]+)", required, flags=re.MULTILINE))
    heads = {name.split(".")[0] for name in imported_modules(file)} - sys.stdlib_module_names - {"pyro_seq"}
    missing = {DISTRIBUTIONS.get(head, head) for head in heads} - declared
    assert not missing, f"{file} imports {sorted(missing)}, which setup.cfg does not require"


def test_every_folder_is_a_package() -> None:
    folders = {file.parent for file in FILES}
    missing = [str(folder) for folder in sorted(folders) if not (PACKAGE / folder / "__init__.py").is_file()]
    assert not missing, f"no __init__.py, so an installed copy would lack {missing}"


def test_rules_catch_offenders() -> None:
    assert complaint(Path("ops/kalman.py"), "pyro_seq.nn.mlp")
    assert complaint(Path("models/srvp.py"), "pyro_seq.models.ode2vae")
    assert complaint(Path("models/srvp.py"), "pyro_seq.infer.svi")
    assert complaint(Path("datasets/walking.py"), "pyro_seq.datasets.balls")
    assert complaint(Path("testing/checks.py"), "pyro_seq.diagnostics.arviz")
    assert complaint(Path("nn/mlp.py"), "pyro_seq")
    assert complaint(Path("data.py"), "pyro_seq.ops.linalg")


def test_rules_allow_what_the_design_allows() -> None:
    assert complaint(Path("data.py"), "pyro_seq.errors") is None
    assert complaint(Path("posterior.py"), "pyro_seq.model") is None
    assert complaint(Path("ops/kalman.py"), "pyro_seq.ops.linalg") is None
    assert complaint(Path("models/srvp.py"), "pyro_seq.model") is None
    assert complaint(Path("models/__init__.py"), "pyro_seq.models.srvp") is None
    assert complaint(Path("datasets/walking.py"), "pyro_seq.datasets._cache") is None
    assert complaint(Path("cli.py"), "pyro_seq.infer.fit") is None
