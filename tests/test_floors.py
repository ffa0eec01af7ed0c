"""The floors of the package: a file imports only from lower floors, or from its own folder."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyro_seq"
FLOORS = {
    "errors": 0,
    "data": 1,
    "ops": 1,
    "metrics": 2,
    "datasets": 2,
    "distributions": 2,
    "nn": 3,
    "model": 4,
    "door": 4,
    "posterior": 4,
    "models": 5,
    "training": 5,
    "infer": 6,
    "predict": 6,
    "diagnostics": 7,
    "testing": 7,
    "cli": 8,
} | {path.stem: 0 for path in PACKAGE.glob("_*.py") if path.stem != "__init__"}
STRANGERS = {"models", "datasets"}  # files of these folders do not see each other
ONLY_IN = {"lightning": "training/", "arviz": "diagnostics/arviz.py", "torchdiffeq": "ops/"}
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


def heads(file: Path) -> set[str]:
    """Names of the packages that a file imports, the standard library and this one apart."""
    return {name.split(".")[0] for name in imported_modules(file)} - sys.stdlib_module_names - {"pyro_seq"}


def test_every_file_has_a_floor() -> None:
    rooms = {room(module_name(file)) for file in FILES if file != Path("__init__.py")}
    assert rooms <= FLOORS.keys()


def test_imports_go_down() -> None:
    inside = [(file, name) for file in FILES[1:] for name in imported_modules(file) if name.split(".")[0] == "pyro_seq"]
    assert FILES[0] == Path("__init__.py") and len(inside) > 500
    assert [f"{file} {text}" for file, name in inside if (text := complaint(file, name))] == []


def test_third_party_packages_stay_in_their_room() -> None:
    homes = [(file, name, ONLY_IN[name]) for file in FILES for name in heads(file) & ONLY_IN.keys()]
    assert [f"{file} imports {name}" for file, name, home in homes if not file.as_posix().startswith(home)] == []


def test_ops_take_tensors_and_return_tensors() -> None:
    ops = [file for file in FILES if file.parts[0] == "ops"]
    assert [str(file) for file in ops if "pyro" in heads(file) or "Module" in words(file)] == []


def test_every_import_is_a_declared_dependency() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")

    def missing(file: Path) -> set[str]:
        required = setup["options"]["install_requires"]
        if extra := EXTRAS.get(file.as_posix()):
            required += setup["options.extras_require"][extra]
        declared = set(re.findall(r"^([\w-]+)", required, flags=re.MULTILINE))
        return {DISTRIBUTIONS.get(head, head) for head in heads(file)} - declared

    assert {str(file): names for file in FILES if (names := missing(file))} == {}


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
    assert complaint(Path("data/sequences.py"), "pyro_seq.ops.linalg")
    assert complaint(Path("predict/verbs.py"), "pyro_seq.infer.svi")
    assert complaint(Path("training/engine.py"), "pyro_seq.infer.svi")


def test_rules_allow_what_the_design_allows() -> None:
    assert complaint(Path("data/sequences.py"), "pyro_seq.errors") is None
    assert complaint(Path("infer/svi.py"), "pyro_seq.training.gradient_method") is None
    assert complaint(Path("posterior.py"), "pyro_seq.model") is None
    assert complaint(Path("ops/kalman.py"), "pyro_seq.ops.linalg") is None
    assert complaint(Path("models/srvp.py"), "pyro_seq.model") is None
    assert complaint(Path("models/__init__.py"), "pyro_seq.models.srvp") is None
    assert complaint(Path("datasets/walking.py"), "pyro_seq.datasets._cache") is None
    assert complaint(Path("cli.py"), "pyro_seq.infer.fit") is None
