"""The file format: round trips, and everything that must be refused."""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import os
import pickle
from pathlib import Path

import pytest
import torch

from pyro_seq._options import options_of
from pyro_seq.data import Labels, Sequences
from pyro_seq.errors import CheckpointError, DataError, NumericalError, UnsupportedError
from pyro_seq.infer.checkpoint import load, save
from pyro_seq.posterior import GuidePosterior, StoredPosterior
from pyro_seq.training.files import FORMAT_VERSION, describe, read, write
from tests.training.runs import make_normalised


@pytest.fixture
def posterior(toy):
    model = toy.make_lines()
    model.adapt(toy.make_data())
    return GuidePosterior(model, {"step": [1.0, 2.0], "loss": [3.0, float("nan")]}, "interrupted")


def test_round_trip(toy, posterior, tmp_path):
    path = tmp_path / "new" / "ein Name ü.pt"
    save(posterior, path)
    save(posterior, str(path))  # a second time, over the first
    loaded = load(path, toy.make_lines(seed=5))
    data = toy.make_data()
    for name, draws in posterior.draws(data, 3).items():
        assert torch.equal(draws, loaded.draws(data, 3)[name])
    assert loaded.status == "interrupted" and loaded.history["step"] == [1.0, 2.0]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_round_trip_of_stored_draws(toy, tmp_path):
    data = toy.make_data(3)
    sites = {"line": torch.randn(2, 5, 3, 2), "drift": torch.randn(2, 5, 1)}
    stats = {"diverging": torch.zeros(2, 5).bool()}
    stored = StoredPosterior(toy.make_lines(), data, sites, frozenset({"drift"}), stats)
    save(stored, tmp_path / "file")
    loaded = load(tmp_path / "file", toy.make_lines(seed=2))
    assert loaded.global_sites == {"drift"} and torch.equal(loaded.data.values, data.values)
    for name, draws in stored.draws(data, 4).items():
        assert torch.equal(draws, loaded.draws(data, 4)[name])


def test_labels_and_covariates_of_fitted_series_are_saved(toy, tmp_path):
    labels = Labels(variables=["pulse", "pressure"], static=["age"], series=[7, 9, 11])
    data = Sequences(toy.make_data(3).values, static=[[30.0], [50.0], [70.0]], labels=labels)[[0, 2, 2]]
    save(StoredPosterior(toy.make_lines(), data, {"line": torch.randn(2, 5, 3, 2)}), tmp_path / "file")
    loaded = load(tmp_path / "file", toy.make_lines()).data
    assert loaded.labels == data.labels
    assert loaded.labels.series == (7, 11, 11)
    assert loaded.static.tolist() == [[30.0], [70.0], [70.0]]


@pytest.mark.gpu
def test_stored_draws_are_loaded_to_the_device_of_the_model(toy, tmp_path):
    data = toy.make_data(3)
    stored = StoredPosterior(toy.make_lines(), data, {"line": torch.randn(2, 5, 3, 2)})
    save(stored, tmp_path / "file")
    loaded = load(tmp_path / "file", toy.make_lines().cuda())
    assert loaded.data.device.type == "cuda"
    draws = loaded.draws(data.to("cuda"), 4)["line"]
    assert draws.device.type == "cuda"
    assert torch.equal(draws.cpu(), stored.draws(data, 4)["line"])


def test_link_stays_a_link(posterior, tmp_path):
    save(posterior, tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    save(posterior, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_truncated_files_are_refused(posterior, tmp_path, toy):
    path = tmp_path / "file"
    save(posterior, path)
    content = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(CheckpointError, match=r"not complete|is empty"):
            load(path, toy.make_lines())
    path.write_bytes(content[:40])
    with pytest.raises(CheckpointError, match="not complete"):
        load(path, toy.make_lines())


def test_flipped_bits_are_refused(posterior, tmp_path):
    path = tmp_path / "file"
    save(posterior, path)
    content = path.read_bytes()
    for position in [0, 10, 20, 25, 60, *range(150, len(content), len(content) // 40)]:
        altered = bytearray(content)
        altered[position] ^= 4
        path.write_bytes(bytes(altered))
        with pytest.raises(CheckpointError):
            read(path)


def test_foreign_and_missing_files(tmp_path):
    path = tmp_path / "file"
    torch.save({"model": {}}, path)
    with pytest.raises(CheckpointError, match="not a file of pyro_seq"):
        read(path)
    with pytest.raises(CheckpointError, match="could not be read"):
        read(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="could not be read"):
        read(tmp_path)


@pytest.mark.parametrize(("version", "age"), [(FORMAT_VERSION + 1, "newer"), (0, "older")])
def test_other_versions(posterior, tmp_path, version, age):
    path = tmp_path / "file"
    save(posterior, path)
    header, _, content = path.read_bytes().partition(b"\n")
    words = header.split()
    words[2] = str(version).encode()
    path.write_bytes(b" ".join(words) + b"\n" + content)
    with pytest.raises(CheckpointError, match=age):
        read(path)


class Evil:
    """Unpickling this creates a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_crafted_pickle_runs_no_code(tmp_path):
    """With the right header and sum, as someone who knows the format would make it."""
    marker, path = tmp_path / "marker", tmp_path / "file"
    buffer = io.BytesIO()
    torch.save({"kind": "guide", "model": Evil(marker)}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Evil(marker))):
        digest = hashlib.sha256(content).hexdigest()
        path.write_bytes(f"pyro_seq checkpoint {FORMAT_VERSION} {len(content)} {digest}\n".encode() + content)
        with pytest.raises(CheckpointError, match="could run code"):
            read(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()  # the trap does work


def test_mismatches_are_listed_and_leave_the_model_alone(toy, posterior, tmp_path):
    path = tmp_path / "file"
    save(posterior, path)
    other = toy.make_lines(seed=3)
    other.emit = torch.nn.Linear(2, 2, bias=False)
    other.extra = torch.nn.Parameter(torch.zeros(1))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load(path, other)
    message = str(caught.value)
    assert "missing in the file: extra" in message and "only in the file: emit.bias" in message
    assert "emit.weight: float32 (2, 1) in the file, float32 (2, 2) here" in message
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())

    class Renamed(toy.Lines):
        pass

    with pytest.raises(CheckpointError, match="class: Lines in the file"):
        load(path, Renamed())
    with pytest.raises(CheckpointError, match=r"float32.*float64"):
        load(path, toy.make_lines().double())


def test_a_refused_file_leaves_the_model_alone(toy, tmp_path):
    """Its weights fit and the rest is unknown: nothing is replaced before all is known to be right."""
    content = {"class": "Lines", "model": dict(toy.make_lines().state_dict())}
    content["options"] = options_of(toy.make_lines())
    chains = {"kind": "chains", "sampler": {"kind": "Newer"}}
    stored = {
        "kind": "stored",
        "data": {"values": torch.full((2, 3, 2), float("nan")), "mask": torch.ones(2, 3).bool()},
    }
    for kind in (chains, stored, {"kind": "guide"}):
        write(content | kind, tmp_path / "file")
        model = toy.make_lines(seed=5)
        with pytest.raises(CheckpointError, match="cannot make"):
            load(tmp_path / "file", model)
        assert torch.equal(model.emit.weight, toy.make_lines(seed=5).emit.weight)


@pytest.mark.parametrize("name", ["emit.weight", "encoder.0.running_mean"])
def test_what_is_not_finite_is_neither_saved_nor_loaded(name, tmp_path):
    posterior = GuidePosterior(make_normalised())
    save(posterior, tmp_path / "file")
    content = read(tmp_path / "file")
    content["model"][name][0] = float("nan")
    write(content, tmp_path / "file")
    with pytest.raises(CheckpointError, match=f"not finite: {name}"):
        load(tmp_path / "file", posterior.model)
    posterior.model.state_dict()[name][0] = float("nan")
    with pytest.raises(NumericalError, match=f"not finite: {name}"):
        save(posterior, tmp_path / "other")


def test_a_run_is_not_a_posterior(toy, tmp_path):
    write({"kind": "run"}, tmp_path / "file")
    with pytest.raises(CheckpointError, match="resume=True"):
        load(tmp_path / "file", toy.make_lines())


def test_full_disk_keeps_the_old_file(posterior, tmp_path, monkeypatch):
    path = tmp_path / "file"
    save(posterior, path)
    before = path.read_bytes()

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match="No space left"):
        save(posterior, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_made(posterior, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be written"):
        save(posterior, tmp_path / "file" / "inside")


def test_only_plain_data_is_written(toy, tmp_path):
    with pytest.raises(UnsupportedError, match=r"Path in checkpoint\['a'\]\[0\]"):
        write({"a": [Path()]}, tmp_path / "file")
    with pytest.raises(UnsupportedError, match="Odd"):
        save(type("Odd", (), {"model": toy.make_lines(), "draws": None})(), tmp_path / "file")


@pytest.mark.parametrize("path", [None, "", 3, "/", b"file"])
def test_paths_and_posteriors_of_other_types_are_refused(posterior, path, tmp_path):
    for call in (lambda: save(posterior, path), lambda: load(path)):
        with pytest.raises(DataError, match="`path` must be the path of a file"):
            call()
    with pytest.raises(DataError, match="`posterior` must be what `fit` returned"):
        save(posterior.model, tmp_path / "file")
    with pytest.raises(DataError, match="`model` must be a `SequenceModel`"):
        load(tmp_path / "file", posterior)


def test_descriptions_do_not_depend_on_the_process():
    import functools

    from pyro_seq.training.schedules import WarmUp

    assert describe(functools.partial(torch.optim.AdamW, lr=1)) == "AdamW[]{lr: 1}"
    assert describe({"b": WarmUp(3), "a": 1}) == "{a: 1, b: WarmUp{start: 0.0, steps: 3, value: 1.0}}"
    assert "0x" not in describe(object())
