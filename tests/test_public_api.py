"""The public names: present, documented, and nothing beside them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pyro_seq

NAMES = sorted(pyro_seq.__all__)
CALLABLES = [name for name in NAMES if callable(getattr(pyro_seq, name, None))]
CLASSES = [name for name in CALLABLES if inspect.isclass(getattr(pyro_seq, name))]
MODULES = sorted(module.name for module in pkgutil.walk_packages(pyro_seq.__path__, "pyro_seq."))


def arguments(function: Callable[..., object]) -> list[str]:
    """Names of the parameters that a caller passes."""
    skipped = {"self", "args", "kwargs"}
    return [name for name in inspect.signature(function).parameters if name not in skipped]


def documented_arguments(doc: str) -> set[str]:
    """Names in the ``Args:`` and ``Attributes:`` sections of a Google-style docstring."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:(?: +.*)?(?:\n|$))*)", doc, flags=re.MULTILINE)
    lines = [line for section in sections for line in section.splitlines()]
    heads = [match[1] for line in lines if (match := re.match(r" {4}([\w`*][\w`, *]*?)(?: \([^)]*\))?:", line))]
    return {name.strip(" `*") for head in heads for name in head.split(",")}


def test_every_name_is_public_and_unique() -> None:
    assert len(set(NAMES)) == len(pyro_seq.__all__)
    assert not [name for name in NAMES if name.startswith("_") and name != "__version__"]


def test_names_exist_with_docstrings() -> None:
    things = {name: getattr(pyro_seq, name) for name in NAMES}
    documented = {name: thing for name, thing in things.items() if callable(thing) or isinstance(thing, ModuleType)}
    assert len(documented) > 80
    assert [name for name, thing in documented.items() if not inspect.getdoc(thing)] == []


def test_nothing_else_is_public() -> None:
    others = {name for name in vars(pyro_seq) if not name.startswith("_")} - set(NAMES)
    modules = {name.split(".")[1] for name in MODULES} | {"annotations"}
    assert others <= modules, f"in `pyro_seq` but not in `__all__`: {sorted(others - modules)}"


def undocumented(thing: Callable[..., object]) -> set[str]:
    """Arguments that neither the docstring of a thing nor, for a class, one of a base of this package explains."""
    if inspect.isclass(thing) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)):
        return set()
    bases = [base for base in getattr(thing, "__mro__", [thing]) if base.__module__.startswith("pyro_seq")]
    return set(arguments(thing)).difference(*(documented_arguments(inspect.getdoc(base) or "") for base in bases))


def test_every_argument_is_documented() -> None:
    assert {name: missing for name in CALLABLES if (missing := undocumented(getattr(pyro_seq, name)))} == {}


def test_every_method_is_documented() -> None:
    methods = [
        (name, member)
        for name in CLASSES
        for member, value in vars(getattr(pyro_seq, name)).items()
        if callable(value) and not member.startswith("_")
    ]
    assert len(methods) > 100
    documented = [
        (name, member) for name, member in methods if inspect.getdoc(getattr(getattr(pyro_seq, name), member))
    ]
    assert documented == methods


def test_modules_import_with_docstrings() -> None:
    assert len(MODULES) > 150
    assert [name for name in MODULES if not importlib.import_module(name).__doc__] == []


def test_documented_arguments_reads_google_style() -> None:
    args = "Args:\n    first: A thing\n        told: over two lines.\n    second, third: More.\n"
    doc = f"One line.\n\n{args}\nReturns:\n    x: y\n"
    assert documented_arguments(doc) == {"first", "second", "third"}


def test_what_only_some_need_is_imported_when_it_is_used() -> None:
    slow = ["lightning", "arviz", "matplotlib", "pandas", "xarray", "sklearn", "scipy", "torchdiffeq"]
    code = f"import pyro_seq, sys; print([name for name in {slow} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
