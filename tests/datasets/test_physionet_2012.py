"""PhysioNet 2012: reading files of that form, refusing others, and the real files' sizes."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_seq.datasets import PHYSIONET_2012_VARIABLES, physionet_2012
from pyro_seq.errors import DataError

HR, WEIGHT, HEIGHT, TEMP = (PHYSIONET_2012_VARIABLES.index(name) for name in ("HR", "Weight", "Height", "Temp"))
HEADER = "Time,Parameter,Value\n"
NUM_STAYS = 10


def stay(record: int) -> str:
    """A stay whose heart rate is its place in the set, plus the hour, and grows for two hours or more."""
    place = record - 100
    lines = [f"00:00,RecordID,{record}", "00:00,Height,-1", f"00:00,Weight,{60 + place}", f"00:00,HR,{place}"]
    lines += [f"{hour:02}:00,HR,{place + hour}" for hour in range(1, 3 + place % 3)]
    return HEADER + "\n".join([*lines, "01:00,Temp,-1", ""])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "physionet2012" / "set-a"
    path.mkdir(parents=True)
    for record in range(100, 100 + NUM_STAYS):
        (path / f"{record}.txt").write_text(stay(record))
    rows = "\n".join(f"{record},5,4,9,-1,{int(record % 2)}" for record in range(100, 100 + NUM_STAYS))
    (path.parent / "Outcomes-a.txt").write_text(
        f"RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n{rows}\n"
    )
    return path


def archived(folder: Path, extra: dict[str, bytes] | None = None) -> Path:
    path = folder.parent / "set-a_10.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(folder, "set-a")
        for name, content in (extra or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_values_masks_times_and_context(folder: Path) -> None:
    train, validation, test = physionet_2012(path=folder, normalise=False)
    assert validation is None
    assert (train.num_series, test.num_series) == (8, 2)
    assert train.obs_shape == (41,)
    assert train.dtype == torch.float32
    for part in (train, test):
        place = part.context["record"] - 100
        assert torch.equal(part.context["has_died"], place % 2 == 1)
        assert torch.equal(part.lengths, 3 + place % 3)
        for series in range(part.num_series):
            length = int(part.lengths[series])
            hours = torch.arange(length, dtype=torch.float64)
            torch.testing.assert_close(part.times[series, :length], hours)
            assert torch.equal(part.values[series, :length, HR], place[series] + hours.float())
            assert part.values[series, 0, WEIGHT] == 60 + place[series]
            assert part.values[series, 1, TEMP] == -1  # a value like any other; only descriptors are unknown at -1
            expected = torch.zeros(part.num_steps, 41, dtype=torch.bool)
            expected[:length, HR] = expected[0, WEIGHT] = expected[1, TEMP] = True
            assert torch.equal(part.mask[series], expected)
    # Padding goes on at the resolution of the times, not at the spacing of the measurements.
    short = train.lengths.argmin()
    torch.testing.assert_close(train.times[short, 2:].diff(), torch.full((2,), 0.1, dtype=torch.float64))


def test_normalisation_uses_training_entries_only(folder: Path) -> None:
    raw, scaled = (physionet_2012(path=folder, normalise=normalise) for normalise in (False, True))
    by_maximum = physionet_2012(path=folder, divide_by_maximum=True)
    for column in (HR, WEIGHT):
        seen = raw.train.mask[..., column]
        low, high = (getattr(raw.train.values[..., column][seen], name)() for name in ("min", "max"))
        for plain, other, third in zip(raw[::2], scaled[::2], by_maximum[::2], strict=True):
            seen = plain.mask[..., column]
            assert torch.equal(plain.mask, other.mask)
            values = plain.values[..., column][seen]
            torch.testing.assert_close(other.values[..., column][seen], (values - low) / (high - low))
            torch.testing.assert_close(third.values[..., column][seen], (values - low) / high)
    constant = scaled.train.values[..., TEMP][scaled.train.mask[..., TEMP]]
    assert (constant == 0).all()
    assert (scaled.train.values[~scaled.train.mask] == 0).all()


def test_resolution_of_the_times(tmp_path: Path) -> None:
    for record in (1, 2):
        lines = ["00:00,HR,50", "00:02,HR,60", "00:07,HR,80", "00:08,Temp,37", "00:29,HR,90", "47:59,HR,100"]
        (tmp_path / f"{record}.txt").write_text(HEADER + "\n".join(lines))
    shared = {"path": tmp_path, "test_share": 0.5, "normalise": False}
    train = physionet_2012(**shared).train
    torch.testing.assert_close(train.times[0], torch.tensor([0.0, 0.1, 0.5, 48.0], dtype=torch.float64))
    assert train.values[0, :, HR].tolist() == [55, 80, 90, 100]  # those within three minutes are averaged
    assert train.values[0, 1, TEMP] == 37
    assert train.mask[0].sum(1).tolist() == [1, 2, 1, 1]
    exact = physionet_2012(minutes_per_step=1, **shared).train
    minutes = torch.tensor([0, 2, 7, 8, 29, 47 * 60 + 59], dtype=torch.float64)
    torch.testing.assert_close(exact.times[0], minutes / 60)
    assert exact.mask[0].sum(1).tolist() == [1] * 6
    coarse = physionet_2012(minutes_per_step=60, **shared).train
    assert coarse.times[0].tolist() == [0, 48]
    assert coarse.values[0, :, HR].tolist() == [70, 100]


def test_stay_without_measurements(tmp_path: Path) -> None:
    for record in (1, 2, 3):
        (tmp_path / f"{record}.txt").write_text(HEADER + f"00:00,RecordID,{record}\n")
    train, _, test = physionet_2012(path=tmp_path, test_share=0.3)
    assert train.lengths.tolist() == [0, 0]
    assert not test.mask.any()


def test_split(folder: Path, assert_rng_untouched) -> None:
    with assert_rng_untouched():
        parts = physionet_2012(path=folder, validation_share=0.2, test_share=0.3)
    assert [part.num_series for part in parts] == [5, 2, 3]
    records = torch.cat([part.context["record"] for part in parts])
    assert sorted(records.tolist()) == list(range(100, 110))
    again, other = (physionet_2012(path=folder, validation_share=0.2, test_share=0.3, seed=seed) for seed in (0, 1))
    assert torch.equal(again.train.values, parts.train.values)
    assert not torch.equal(other.train.context["record"], parts.train.context["record"])
    few = physionet_2012(path=folder, num_series=3, test_share=0.4)
    assert sorted(torch.cat([few.train.context["record"], few.test.context["record"]]).tolist()) == [100, 101, 102]


def test_archive_and_data_folder_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = physionet_2012(path=folder)
    archive = archived(folder, {"set-a/notes.txt": b"read me", "set-a/Outcomes-a.txt": b"other"})
    monkeypatch.setenv("PYRO_SEQ_DATA", str(folder.parents[1]))
    found = physionet_2012()
    (folder.parent / "Outcomes-a.txt").unlink()
    folder.rename(folder.parent / "elsewhere")
    for other in (physionet_2012(path=archive), physionet_2012()):
        assert torch.equal(other.train.values, expected.train.values)
        assert torch.equal(other.test.times, expected.test.times)
        assert set(other.train.context) == {"record"}
    assert torch.equal(found.train.context["has_died"], expected.train.context["has_died"])
    archive.unlink()
    with pytest.raises(DataError, match="PYRO_SEQ_DATA"):
        physionet_2012()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "Time,Value\n",
        HEADER + "00:00,HR\n",
        HEADER + "00:00,HR,80,90\n",
        HEADER + "0,HR,80\n",
        HEADER + "-01:00,HR,80\n",
        HEADER + "00:00,HR,many\n",
        HEADER + "00:00,HR,nan\n",
        HEADER + "00:00,Pulse,80\n",
        HEADER + "00:00,RecordID,99\n",
    ],
    ids=["empty", "header", "short", "long", "time", "before", "text", "nan", "unknown", "record"],
)
def test_refuses_other_files(folder: Path, content: str) -> None:
    (folder / "105.txt").write_text(content)
    with pytest.raises(DataError, match=r"105\.txt in .*set-a"):
        physionet_2012(path=folder)


def test_refuses_other_bytes(folder: Path) -> None:
    (folder / "105.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="could not be read"):
        physionet_2012(path=folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_refuses_truncated_archives(folder: Path, share: float) -> None:
    archive = archived(folder)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"tar\.gz"):
        physionet_2012(path=archive)


@pytest.mark.parametrize("damage", ["cut between stays", "cut in a header", "flipped bit in a header", "no end"])
def test_an_archive_never_gives_fewer_stays(folder: Path, damage: str) -> None:
    """Python's reader takes whatever is no header for the end, without a word."""
    path = archived(folder)
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = content.index(b"set-a/105.txt")
    if damage == "flipped bit in a header":
        content[header] ^= 1
    elif damage == "no end":
        content = content.rstrip(b"\0")
        content += bytes(-len(content) % tarfile.BLOCKSIZE)
    else:
        del content[header + (100 if damage == "cut in a header" else 0) :]
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="cut or damaged"):
        physionet_2012(path=path)


def test_refuses_huge_files_in_archives(folder: Path) -> None:
    with pytest.raises(DataError, match="at most 1048576 bytes"):
        physionet_2012(path=archived(folder, {"set-a/7.txt": bytes(2**20 + 1)}))


@pytest.mark.parametrize(
    "content", ["RecordID,Survival\n100,1\n", "RecordID,In-hospital_death\n100,1\n", "\n", "a,b\n1"]
)
def test_refuses_other_outcomes(folder: Path, content: str) -> None:
    (folder.parent / "Outcomes-a.txt").write_text(content)
    with pytest.raises(DataError, match=r"Outcomes-a\.txt"):
        physionet_2012(path=folder)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"path": "missing"}, "missing"),
        ({"outcomes": "missing.txt"}, "missing.txt"),
        ({"minutes_per_step": 0}, "minutes_per_step"),
        ({"minutes_per_step": 0.5}, "minutes_per_step"),
        ({"num_series": 1}, "num_series"),
        ({"test_share": 0.0}, "test_share"),
        ({"test_share": 1.0}, "test_share"),
        ({"validation_share": 0.9}, "validation_share"),
        ({"validation_share": -0.1}, "validation_share"),
        ({"seed": "zero"}, "seed"),
    ],
)
def test_wrong_arguments(folder: Path, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        physionet_2012(**({"path": folder} | arguments))


def test_folder_without_stays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"132539\.txt"):
        physionet_2012(path=tmp_path)


@pytest.mark.data
def test_real_files() -> None:
    train, _, test = physionet_2012(num_series=300, normalise=False)
    assert (train.num_series, test.num_series) == (240, 60)
    assert train.context["record"].min() == 132539
    assert len(PHYSIONET_2012_VARIABLES) == len(set(PHYSIONET_2012_VARIABLES)) == 41
    observed = train.mask[train.step_mask].double().mean()
    assert 0.1 < observed < 0.2  # about six of 41 variables at a time
    last = train.times.gather(1, (train.lengths - 1)[:, None])
    assert last.max() <= 48.0
    rate = train.values[..., HR][train.mask[..., HR]]
    assert 70 < rate.median() < 100
    assert 0.05 < train.context["has_died"].double().mean() < 0.25  # 0.14 in the whole set
    assert np.isfinite(train.values.numpy()).all()
