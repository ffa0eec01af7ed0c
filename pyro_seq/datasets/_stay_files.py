"""Files of the PhysioNet challenge of 2012: one text file per stay in intensive care, and one of outcomes."""

from __future__ import annotations

import csv
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from pyro_seq.errors import DataError

_DESCRIPTORS = ("Age", "Gender", "Height", "ICUType", "Weight")
#: Names of the 41 variables of `physionet_2012`, in the order of its last axis; the first five describe the patient.
PHYSIONET_2012_VARIABLES = (
    *_DESCRIPTORS,
    *("Albumin", "ALP", "ALT", "AST", "Bilirubin", "BUN", "Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS"),
    *("Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "Mg", "MAP", "MechVent", "Na", "NIDiasABP", "NIMAP", "NISysABP"),
    *("PaCO2", "PaO2", "pH", "Platelets", "RespRate", "SaO2", "SysABP", "Temp", "TroponinI", "TroponinT", "Urine"),
    "WBC",
)
_COLUMN = {name: column for column, name in enumerate(PHYSIONET_2012_VARIABLES)}
_HEADER = "Time,Parameter,Value"
_UNKNOWN = -1.0  # in a descriptor
_DEATH = "In-hospital_death"
_MAX_BYTES = 2**20  # of a stay; the largest has about 20 kB


@dataclass(frozen=True)
class Measurements:
    """All measurements of all stays, one entry each; `records` are the stay numbers, in order."""

    records: np.ndarray
    stay: np.ndarray
    minute: np.ndarray
    variable: np.ndarray
    value: np.ndarray


def read_stays(path: Path, num_series: int | None) -> Measurements:
    """Read a folder or an archive of text files, the first `num_series` in the order of their numbers.

    Raises:
        DataError: When there are no such files, or a file cannot be read or has the wrong format.
    """
    try:
        texts = dict(_from_folder(path) if path.is_dir() else _from_archive(path))
    except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as error:
        raise DataError(f"{path} could not be read: {error}. Fetch it anew.") from error
    records = sorted(texts)[:num_series]
    if not records:
        raise DataError(f"{path} must hold files such as `132539.txt`, one a stay. It holds none.")
    stay, entries = [], []
    for position, record in enumerate(records):
        found = list(_parse(texts[record], f"{record}.txt in {path}", record))
        stay += [position] * len(found)
        entries += found
    minute, variable, value = np.array(entries, dtype=float).reshape(-1, 3).T
    return Measurements(np.array(records), np.array(stay, int), minute.astype(int), variable.astype(int), value)


def _from_folder(path: Path) -> Iterator[tuple[int, str]]:
    for file in path.glob("*.txt"):
        if file.stem.isdecimal():
            yield int(file.stem), file.read_text(encoding="ascii")


def _from_archive(path: Path) -> Iterator[tuple[int, str]]:
    with tarfile.open(path) as archive:
        for member in archive:  # read in place; nothing is unpacked
            name = re.search(r"(?:^|/)(\d+)\.txt$", member.name)
            if name is None or not member.isfile():
                continue
            if member.size > _MAX_BYTES:
                raise DataError(f"{member.name} in {path} must have at most {_MAX_BYTES} bytes. Got {member.size}.")
            content = archive.extractfile(member)
            assert content is not None
            yield int(name[1]), content.read().decode("ascii")
        # tarfile takes any invalid header as the end, which should be a block of zeros
        assert archive.fileobj is not None
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise DataError(f"{path} is cut or damaged {archive.offset} bytes from its start. Fetch it anew.")


def _parse(text: str, where: str, record: int) -> Iterator[tuple[int, int, float]]:
    """Minute, number of the variable and value of each measurement."""
    header, *lines = text.splitlines() or [""]
    if header.strip() != _HEADER:
        raise DataError(f"{where} must begin with {_HEADER!r}. Got {header[:80]!r}.")
    for number, line in enumerate(lines, start=2):
        try:
            time, name, text_value = line.split(",")
            hours, minutes = time.split(":")
            minute, value = 60 * int(hours) + int(minutes), float(text_value)
            is_right = minute >= 0 and isfinite(value) and (name in _COLUMN or name == "RecordID")
        except ValueError:
            is_right = False
        if not is_right:
            raise DataError(
                f"{where}, line {number}, must be `hh:mm`, a known variable and a number. Got {line[:80]!r}."
            )
        if name == "RecordID":
            if value != record:
                raise DataError(f"{where} must hold the stay that it is named after. Got {text_value}.")
        elif not (name in _DESCRIPTORS and value == _UNKNOWN):
            yield minute, _COLUMN[name], value


def read_outcomes(path: Path, records: np.ndarray) -> np.ndarray:
    """Whether each stay ended in death in hospital, (stay,).

    Raises:
        DataError: When the file cannot be read, has the wrong format, or lacks a stay.
    """
    try:
        with path.open(newline="", encoding="ascii") as file:
            outcomes = {int(row["RecordID"]): int(row[_DEATH]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} must be a table with `RecordID` and `{_DEATH}`: {error!r}. Fetch it anew.") from error
    if missing := [int(record) for record in records if record not in outcomes]:
        raise DataError(f"{path} must have a row for every stay. It lacks {len(missing)}, {missing[0]} first.")
    return np.array([outcomes[record] for record in records])
