"""The public names: present, documented, and nothing beside them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from types import ModuleType

import pytest

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


@pytest.mark.parametrize("name", NAMES)
def test_name_exists_with_docstring(name: str) -> None:
    thing = getattr(pyro_seq, name)
    if callable(thing) or isinstance(thing, ModuleType):
        assert inspect.getdoc(thing), f"pyro_seq.{name} has no docstring"


def test_nothing_else_is_public() -> None:
    others = {name for name in vars(pyro_seq) if not name.startswith("_")} - set(NAMES)
    modules = {name.split(".")[1] for name in MODULES} | {"annotations"}
    assert others <= modules, f"in `pyro_seq` but not in `__all__`: {sorted(others - modules)}"


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_is_documented(name: str) -> None:
    thing = getattr(pyro_seq, name)
    if inspect.isclass(thing) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)):
        assert inspect.getdoc(thing)
        return
    missing = set(arguments(thing)) - documented_arguments(inspect.getdoc(thing) or "")
    assert not missing, f"pyro_seq.{name} does not document {sorted(missing)}"


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_documented(name: str) -> None:
    cls = getattr(pyro_seq, name)
    own = [member for member, value in vars(cls).items() if callable(value) and not member.startswith("_")]
    missing = [member for member in own if not inspect.getdoc(getattr(cls, member))]
    assert not missing, f"pyro_seq.{name} has methods without a docstring: {missing}"


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_with_docstring(name: str) -> None:
    assert importlib.import_module(name).__doc__, f"{name} has no docstring"


def test_documented_arguments_reads_google_style() -> None:
    args = "Args:\n    first: A thing\n        told: over two lines.\n    second, third: More.\n"
    doc = f"One line.\n\n{args}\nReturns:\n    x: y\n"
    assert documented_arguments(doc) == {"first", "second", "third"}
