"""Fetching from a local file address: no network is touched."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from pathlib import Path

import pytest

from pyro_seq.datasets._download import fetch
from pyro_seq.errors import DataError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(tmp_path: Path) -> str:
    source = tmp_path / "public" / "file.gz"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    return source.as_uri()


def test_fetch_stores_the_file(url: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.gz"
    fetch(url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.gz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "not the expected file"),
        ({"max_bytes": len(CONTENT) - 1}, "at most"),
        ({"url": "file:///does/not/exist"}, "could not be downloaded"),
    ],
)
def test_failure_leaves_nothing_and_says_what_to_do(url: str, tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "target" / "file.gz"
    arguments = {"url": url, "sha256": SHA256} | change
    with pytest.raises(DataError, match=message) as caught:
        fetch(path=path, **arguments)
    assert arguments["url"] in str(caught.value)
    assert f"put it at {path}" in str(caught.value)
    assert not list(path.parent.iterdir())


def test_existing_file_survives_a_failure(url: str, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_text("old")
    with pytest.raises(DataError):
        fetch(url, path, sha256="0" * 64)
    assert path.read_text() == "old"


def test_broken_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise ConnectionResetError("reset by peer")
            return super().read(size)

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Broken(CONTENT))
    with pytest.raises(DataError, match="reset by peer"):
        fetch("https://example.org/file", tmp_path / "sub" / "file", sha256=SHA256)
    assert not list((tmp_path / "sub").iterdir())
