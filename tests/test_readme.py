"""The README: its code runs, and its commands are those that the project uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import ROOT, run_page

README = (ROOT / "README.md").read_text()


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page("README.md", num_steps="3", num_samples="3")
    assert names["prediction"].samples.shape == (3, 33, 11, 1, 8, 8)
    seen = names["gaps"].entry_mask
    assert 0.6 < seen.float().mean() < 0.85
    assert names["filled"].samples[0][seen].equal(names["test"].values[seen])
    assert Path("digits.pt").is_file()


def test_code_of_the_start_page_runs() -> None:
    names = run_page("docs/index.md", num_steps="3")
    assert names["prediction"].samples.shape == (100, 33, 11, 1, 8, 8)


def test_code_is_one_screen() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert len(block.splitlines()) <= 35


def test_the_example_shown_whole_is_the_file() -> None:
    shown = re.findall(r"^```python (examples/\S+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert len(shown) == 1
    for name, text in shown:
        assert text == (ROOT / name).read_text()


def test_every_example_is_named() -> None:
    examples = {path.name for path in (ROOT / "examples").glob("[!_]*.py")}
    assert examples == set(re.findall(r"^\| \[`(\w+\.py)`\]", README, flags=re.MULTILINE))


def test_commands_are_one_line_and_name_what_exists() -> None:
    commands = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert all(len(command.strip().splitlines()) == 1 for command in commands)
    first, second = commands
    setup = (ROOT / "setup.cfg").read_text()
    assert "-c constraints.txt" in first and (ROOT / "constraints.txt").is_file()
    (example,) = re.findall(r"examples/\S+", first)
    assert (ROOT / example).is_file()
    (extra,) = re.findall(r"\.\[(\w+)\]", second)
    assert f"\n{extra} =\n" in setup and second.rstrip().endswith(".venv/bin/pytest")
