"""Files of tensors and plain data: what comes back, what is refused, and texts that tell options apart."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from pyro_seq.errors import CheckpointError, UnsupportedError
from pyro_seq.training.files import class_name, describe, differences, read, refuse, renamed, write

PAYLOAD = {
    "text": "ein Name ü",
    "number": 3,
    "share": 0.1,
    "nothing": None,
    "flag": True,
    "nested": {"list": [1, 2.5, "three"], "tensor": torch.arange(6.0).reshape(2, 3).double()},
}


def test_plain_data_come_back_as_they_were(tmp_path) -> None:
    write(PAYLOAD, tmp_path / "file")
    again = read(tmp_path / "file")
    assert torch.equal(again["nested"].pop("tensor"), PAYLOAD["nested"]["tensor"])
    assert again == PAYLOAD | {"nested": {"list": [1, 2.5, "three"]}}


def test_a_file_is_checked_by_its_first_line(tmp_path) -> None:
    path = tmp_path / "file"
    write(PAYLOAD, path)
    header, _, content = path.read_bytes().partition(b"\n")
    name, version, size, digest = header.rsplit(b" ", 3)
    assert (name, version, int(size), len(digest)) == (b"pyro_seq checkpoint", b"1", len(content), 64)
    for changed, words in (
        (content[:-1], f"has {len(content) - 1} of {len(content)} bytes"),
        (content[:-1] + bytes([content[-1] ^ 1]), "was altered"),
    ):
        path.write_bytes(header + b"\n" + changed)
        with pytest.raises(CheckpointError, match=words):
            read(path)


def test_what_is_not_ours_is_not_read(tmp_path) -> None:
    """A terabyte of something else, and a first line of ours that promises more than there is."""
    with (tmp_path / "film").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match="not a file of pyro_seq"):
        read(tmp_path / "film")
    (tmp_path / "file").write_bytes(b"pyro_seq checkpoint 1 %d %s\nPK" % (10**18, b"0" * 64))
    with pytest.raises(CheckpointError, match=f"it has 2 of {10**18} bytes"):
        read(tmp_path / "file")


def test_packed_parts_are_refused(tmp_path) -> None:
    """A file of a few bytes could unpack to any number of them; ours are never packed."""
    write(PAYLOAD, tmp_path / "file")
    content = (tmp_path / "file").read_bytes().partition(b"\n")[2]
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    content = packed.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "file").write_bytes(f"pyro_seq checkpoint 1 {len(content)} {digest}\n".encode() + content)
    with pytest.raises(CheckpointError, match="packed parts"):
        read(tmp_path / "file")


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ({"a": {"b": [1, nn.Linear(1, 1)]}}, r"Linear in checkpoint\['a'\]\['b'\]\[1\]"),
        ({"a": torch.float32}, r"dtype in checkpoint\['a'\]"),
        ({(1, object()): 2}, r"object in a key of checkpoint\[1\]"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, payload, place: str) -> None:
    with pytest.raises(UnsupportedError, match=place):
        write(payload, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_differences_are_listed_by_name() -> None:
    saved = {"a": torch.zeros(2), "b": "x", "old": 1}
    expected = {"a": torch.zeros(2, 1, dtype=torch.float64), "b": "x", "new": 1}
    assert differences(saved, expected) == [
        "missing in the file: new",
        "only in the file: old",
        "a: float32 (2,) in the file, float64 (2, 1) here",
    ]
    assert differences(saved, {**saved, "a": torch.ones(2)}) == [], "values of tensors are what a file is for"


def test_many_problems_are_cut_short() -> None:
    refuse([], "file", "Do this.")
    with pytest.raises(CheckpointError) as error:
        refuse([f"problem {i}" for i in range(25)], "file", "Do this.")
    lines = str(error.value).splitlines()
    assert lines[1].strip() == "problem 0" and lines[-2].strip() == "and 5 more" and lines[-1] == "Do this."
    assert len(lines) == 1 + 20 + 1 + 1


def test_parts_are_renamed_at_the_beginning_of_a_name_only() -> None:
    weights = {"model.old.weight": torch.zeros(1), "model.other.old.weight": torch.ones(1), "old.weight": torch.ones(1)}
    found = renamed(weights, {"old.": "new."}, "model.")
    assert list(found) == ["model.new.weight", "model.other.old.weight", "old.weight"]
    assert list(renamed(weights, {"old.": "new."})) == ["model.old.weight", "model.other.old.weight", "new.weight"]


@dataclass(frozen=True)
class Option:
    size: int
    rule: object


def test_options_have_texts_that_tell_them_apart() -> None:
    option = Option(3, functools.partial(torch.nn.functional.leaky_relu, negative_slope=0.1))
    assert describe(option) == "Option{rule: leaky_relu[]{negative_slope: 0.1}, size: 3}"
    assert describe([torch.tensor([1.0]), None, "a"]) == "[float32 (1,) [1.0], None, 'a']"
    assert describe(Option(3, max)) != describe(Option(4, max)) != describe(Option(4, min))
    assert class_name(nn.Linear(1, 1)) == "Linear"
