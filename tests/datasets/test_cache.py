"""The cache of generated arrays, and where data are looked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyro_seq.datasets._cache import cache_root, cached, data_root, replacing


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"x": np.arange(3.0), "empty": np.zeros((0, 2))}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "pyro_seq"


def test_roots(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYRO_SEQ_DATA", raising=False)
    assert cache_root() == data_root() == own_cache
    monkeypatch.setenv("PYRO_SEQ_DATA", str(tmp_path / "data"))
    assert data_root() == tmp_path / "data"
    assert cache_root() == own_cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "pyro_seq"


def test_arrays_are_made_once_for_each_setting(own_cache: Path) -> None:
    make = Maker()
    first, second = (cached("numbers", {"seed": 0}, make) for _ in range(2))
    assert make.calls == 1
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    cached("numbers", {"seed": 1}, make)
    assert make.calls == 2
    assert len(list((own_cache / "generated").iterdir())) == 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_file_is_made_anew(own_cache: Path, share: float) -> None:
    make = Maker()
    cached("numbers", {}, make)
    (file,) = (own_cache / "generated").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert cached("numbers", {}, make)["x"].tolist() == [0.0, 1.0, 2.0]
    assert make.calls == 2
    cached("numbers", {}, make)
    assert make.calls == 2


def test_flipped_bit_is_noticed(own_cache: Path) -> None:
    make = Maker()
    cached("numbers", {}, make)
    (file,) = (own_cache / "generated").iterdir()
    content = bytearray(file.read_bytes())
    content[content.index(np.float64(2.0).tobytes())] ^= 1
    file.write_bytes(content)
    assert cached("numbers", {}, make)["x"].tolist() == [0.0, 1.0, 2.0]
    assert make.calls == 2


@pytest.mark.parametrize("change", ["zeros", "fewer", "another name", "no sum"])
def test_readable_file_with_other_content_is_made_anew(own_cache: Path, change: str) -> None:
    make = Maker()
    cached("numbers", {}, make)
    (file,) = (own_cache / "generated").iterdir()
    arrays = dict(np.load(file))
    if change == "zeros":
        arrays["x"] *= 0
    elif change == "fewer":
        arrays["x"] = arrays["x"][:1]
    else:
        arrays["y" if change == "another name" else "x"] = arrays.pop("x")
        arrays.pop("sha256") if change == "no sum" else None
    np.savez(file, **arrays)
    for _ in range(2):
        found = cached("numbers", {}, make)
        assert found.keys() == {"x", "empty"} and found["x"].tolist() == [0.0, 1.0, 2.0]
    assert make.calls == 2


@pytest.mark.parametrize("error", [NotImplementedError, RuntimeError, KeyError])
def test_whatever_a_damaged_archive_raises_it_is_made_anew(monkeypatch: pytest.MonkeyPatch, error: type) -> None:
    """An altered flag of a zip file says that it is encrypted, or of a later version."""
    make = Maker()
    cached("numbers", {}, make)

    def refuse(*args: object, **options: object) -> None:
        raise error("from the archive")

    monkeypatch.setattr(np, "load", refuse)
    assert cached("numbers", {}, make)["x"].tolist() == [0.0, 1.0, 2.0]


def test_objects_are_refused_and_replaced(own_cache: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    make = Maker()
    cached("numbers", {}, make)
    (file,) = (own_cache / "generated").iterdir()
    with file.open("wb") as target:
        np.savez(target, x=np.array([Bomb()], dtype=object))
    assert cached("numbers", {}, make)["x"].tolist() == [0.0, 1.0, 2.0]
    assert not marker.exists()


def test_unwritable_cache_does_no_harm(own_cache: Path) -> None:
    own_cache.parent.write_text("a file where the folder should be")
    make = Maker()
    assert cached("numbers", {}, make)["x"].tolist() == [0.0, 1.0, 2.0]
    assert cached("numbers", {}, make)["x"].tolist() == [0.0, 1.0, 2.0]
    assert make.calls == 2


def test_replacing_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
