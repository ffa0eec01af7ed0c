"""Files are whole or absent, and no draft outlives the process that wrote it but till the next one writes there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyro_seq._files import remove_drafts, replacing, write_bytes

WRITE = """
import sys
from pyro_seq._files import replacing
with replacing(sys.argv[1]) as draft:
    draft.write_bytes(b"half")
    print("begun", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_draft_takes_the_place_of_the_file_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kept.txt"
    with replacing(path) as draft:
        assert draft.suffix == ".txt" and draft.parent == path.parent
        draft.write_text("new")
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert names(path.parent) == ["kept.txt"] and path.read_text() == "new"


def test_drafts_of_killed_processes_are_removed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(b"old", path)
    command = [sys.executable, "-c", WRITE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        write_bytes(b"new", path)
        assert len(names(tmp_path)) == 2, "it is at work on its own"
        process.kill()
        process.wait()
    assert len(names(tmp_path)) == 2 and path.read_bytes() == b"new"
    write_bytes(b"newer", path)
    assert names(tmp_path) == ["file"] and path.read_bytes() == b"newer"


def test_files_that_are_no_drafts_of_this_one_stay(tmp_path: Path) -> None:
    kept = ["file", ".0123abcd.other", ".0123abcd-file", "0123abcd.file", ".0123abcg.file", ".0123abcd.a.file"]
    for name in (*kept, ".0123abcd.file"):
        (tmp_path / name).touch()
    remove_drafts(tmp_path / "file")
    assert names(tmp_path) == sorted(kept)


def test_drafts_lie_where_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    (tmp_path / "there" / ".0123abcd.file").touch()
    write_bytes(b"new", tmp_path / "link")
    assert names(tmp_path / "there") == ["file"] and (tmp_path / "link").is_symlink()
