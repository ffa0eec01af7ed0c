"""Hard limits on the size of files, classes, functions and argument lists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("pyro_seq", "examples", "benchmarks")
FILES = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILE_LINES = 400
CLASS_LINES = 250
FUNCTION_LINES = 60
PROGRAM_LINES = 50  # `model` and `guide`
ARGUMENTS = 12

Function = ast.FunctionDef | ast.AsyncFunctionDef


def body_lines(node: Function | ast.ClassDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def function_excess(node: Function) -> Iterator[str]:
    limit = PROGRAM_LINES if node.name in {"model", "guide"} else FUNCTION_LINES
    if body_lines(node) > limit:
        yield f"`{node.name}` has {body_lines(node)} lines of {limit}"
    arguments = [arg for arg in node.args.posonlyargs + node.args.args + node.args.kwonlyargs if arg.arg != "self"]
    if len(arguments) > ARGUMENTS:
        yield f"`{node.name}` takes {len(arguments)} arguments of {ARGUMENTS}"


def excess(source: str) -> Iterator[str]:
    if (lines := len(source.splitlines())) > FILE_LINES:
        yield f"{lines} lines of {FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and body_lines(node) > CLASS_LINES:
            yield f"class `{node.name}` has {body_lines(node)} lines of {CLASS_LINES}"
        elif isinstance(node, Function):
            yield from function_excess(node)


def test_sizes() -> None:
    assert len(FILES) > 200
    assert [f"{file}: {text}" for file in FILES for text in excess((ROOT / file).read_text())] == []


def test_limits_catch_offenders() -> None:
    assert len(list(excess("x = 1\n" * (FILE_LINES + 1)))) == 1
    assert len(list(excess("def model(self):\n" + "    x = 1\n" * (PROGRAM_LINES + 1)))) == 1
    arguments = ", ".join(f"a{i}" for i in range(ARGUMENTS + 1))
    assert len(list(excess(f"def f({arguments}):\n    return 1\n"))) == 1
    assert not list(excess('def f():\n    """' + "text\n" * 70 + '"""\n    return 1\n'))
