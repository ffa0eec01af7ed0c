"""The manual and the repository: complete, and free of traces of the machine they were written on."""

from __future__ import annotations

import importlib
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

import pyro_seq

ROOT = Path(__file__).parents[1]
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|tmp|root|home|opt|mnt|Users)/\w")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")
BINARY_LINES = 10_000  # a longer line belongs to a generated file


def tracked_texts() -> list[Path]:
    """Text files under version control, or all files where there is no git."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        return sorted((ROOT / "pyro_seq").rglob("*.py"))
    names = [Path(name) for name in listing.stdout.split("\0") if name]
    wanted = {".py", ".md", ".cfg", ".toml", ".txt", ".json", ".csv", ""}
    return [ROOT / name for name in names if name.suffix in wanted and (ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked_texts():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if len(line) < BINARY_LINES and pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    return found


API_PAGE = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("name", sorted(pyro_seq.__all__))
def test_public_name_is_on_the_api_page(name: str) -> None:
    assert re.search(rf"\bpyro_seq\.{name}\b", API_PAGE), f"docs/api.md does not list pyro_seq.{name}"


@pytest.mark.parametrize("folder", ["datasets", "metrics", "distributions", "testing"])
def test_public_names_of_modules_are_on_the_api_page(folder: str) -> None:
    names = importlib.import_module(f"pyro_seq.{folder}").__all__
    missing = [name for name in names if not re.search(rf"\bpyro_seq\.{folder}\.{name}\b", API_PAGE)]
    assert not missing, f"docs/api.md does not list {missing} of pyro_seq.{folder}"


def test_no_machine_paths() -> None:
    assert not lines_matching(MACHINE_PATH)


def test_nothing_is_marked_unfinished() -> None:
    assert not lines_matching(UNFINISHED)


def test_every_dependency_is_justified() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = re.findall(r"^([\w-]+)", setup["options"]["install_requires"], flags=re.MULTILINE)
    design = (ROOT / "docs" / "design.md").read_text()
    missing = [name for name in required if f"`{name}`" not in design]
    assert required and not missing, f"docs/design.md gives no reason for {missing}"


def test_every_direct_dependency_is_pinned() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    blocks = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    required = {name.lower() for block in blocks for name in re.findall(r"^([\w-]+)", block, flags=re.MULTILINE)}
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert required <= pinned, f"constraints.txt does not pin {sorted(required - pinned)}"
