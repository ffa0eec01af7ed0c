"""PhysioNet 2012: vital signs and laboratory values of patients in intensive care."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pyro_seq._arguments import real_number, whole_number
from pyro_seq.data import Labels, Sequences
from pyro_seq.datasets._arguments import streams
from pyro_seq.datasets._cache import data_root
from pyro_seq.datasets._scaling import training_range
from pyro_seq.datasets._splits import Splits
from pyro_seq.datasets._stay_files import PHYSIONET_2012_VARIABLES, Measurements, read_outcomes, read_stays
from pyro_seq.errors import DataError

_FOLDER, _OUTCOMES = "physionet2012", "Outcomes-a.txt"
_HOME = "https://physionet.org/content/challenge-2012/1.0.0/"


def physionet_2012(
    *,
    path: Path | str | None = None,
    outcomes: Path | str | None = None,
    minutes_per_step: int = 6,
    num_series: int | None = None,
    validation_share: float = 0.0,
    test_share: float = 0.2,
    normalise: bool = True,
    divide_by_maximum: bool = False,
    seed: int = 0,
) -> Splits:
    r"""The first 48 hours of 4000 stays in intensive care: 41 variables, irregular times, most entries missing.

    Each series has its measurement times, in hours since admission, and a mask for every entry. Five variables (age,
    gender, height, type of unit, weight) describe the patient at hour 0; some of them are repeated later. A descriptor
    of -1 means unknown and is masked. Nothing else is cleaned: some temperatures are -17.8 degrees. Times are rounded
    to `minutes_per_step`, and measurements at equal times are averaged.

    Nothing is downloaded: the set is at physionet.org/content/challenge-2012 (set A), under the Open Data Commons
    Attribution License. Reading all of it takes about ten seconds and 1 GB of memory.

    Args:
        path: Folder or tar archive with one file per stay, such as ``132539.txt``; by default ``set-a`` or
            ``set-a*.tar.gz`` in ``physionet2012`` inside the folder named by ``PYRO_SEQ_DATA`` or, where that is unset,
            inside the user's cache folder.
        outcomes: The file ``Outcomes-a.txt``; by default the one next to `path`, if it exists.
        minutes_per_step: Resolution of the times; 6 in published comparisons, 1 in the files.
        num_series: Number of stays to take, in the order of their record numbers; all by default.
        validation_share: Share of the stays for validation; 0 makes this part None.
        test_share: Share of the stays for the test part.
        normalise: Scale each variable to [0, 1] by the minimum and maximum of its observed training entries.
        divide_by_maximum: When normalising, divide by the maximum instead of by the range, as published comparisons do.
        seed: Seed of the random split.

    Returns:
        Splits with values (series, time, 41), single precision, in the order of `PHYSIONET_2012_VARIABLES`, padded to
        the longest series of the part with hidden steps at the resolution of the times. The context holds the number of
        the `record`, which is also the label of the series, and, if outcomes are available, `has_died` (in hospital).

    Raises:
        DataError: When files are missing or have the wrong format, or an argument is out of range.

    References:
        Silva, Moody, Scott, Celi and Mark (2012), Predicting in-hospital mortality of ICU patients: the
        PhysioNet/Computing in Cardiology challenge 2012. Goldberger et al. (2000), PhysioBank, PhysioToolkit, and
        PhysioNet. Rubanova, Chen and Duvenaud (2019), Latent ordinary differential equations for irregularly-sampled
        time series.
    """
    minutes_per_step = whole_number(minutes_per_step, "minutes_per_step", 1, 48 * 60)
    num_series = None if num_series is None else whole_number(num_series, "num_series", 2)
    shares = real_number(validation_share, "validation_share", 0, 1), real_number(test_share, "test_share", 0, 1)
    path = _find() if path is None else Path(path)
    if not path.exists():
        raise DataError(f"The stays were looked for at {path} and are not there. Get set A from {_HOME}.")
    measured = read_stays(path, num_series)
    context = {"record": measured.records}
    deaths = path.parent / _OUTCOMES if outcomes is None else Path(outcomes)
    if outcomes is not None or deaths.is_file():
        context["has_died"] = read_outcomes(deaths, measured.records) == 1
    train, validation, test = _split(len(measured.records), shares, streams(seed, 1)[0])
    values, hours = _tables(measured, minutes_per_step)
    if normalise:
        rows = np.concatenate([values[stay] for stay in train])
        low, divisor = training_range(rows, divide_by_maximum=divide_by_maximum)
        values = [(table - low) / divisor for table in values]

    def part(stays: np.ndarray) -> Sequences:
        longest = max(1, *(len(hours[stay]) for stay in stays))
        table = np.full((len(stays), longest, len(PHYSIONET_2012_VARIABLES)), np.nan, dtype=np.float32)
        times = np.empty((len(stays), longest))
        for place, stay in enumerate(stays):
            length = len(hours[stay])
            table[place, :length], times[place, :length] = values[stay], hours[stay]
            last = hours[stay][-1] if length else 0.0
            times[place, length:] = last + minutes_per_step / 60 * np.arange(1, longest - length + 1)
        chosen = {name: torch.from_numpy(extra[stays]) for name, extra in context.items()}
        labels = Labels(variables=PHYSIONET_2012_VARIABLES, series=measured.records[stays])
        return Sequences(torch.from_numpy(table), times=torch.from_numpy(times), context=chosen, labels=labels)

    return Splits(part(train), part(validation) if len(validation) else None, part(test))


def _find() -> Path:
    """The folder or archive in the data folder."""
    home = data_root() / _FOLDER
    for candidate in (home / "set-a", *sorted(home.glob("set-a*.tar.gz"))):
        if candidate.exists():
            return candidate
    raise DataError(
        f"The stays were looked for in {home} and are not there. Get set A from {_HOME}, and pass `path` or set "
        f"PYRO_SEQ_DATA to a folder that holds `{_FOLDER}/set-a`."
    )


def _split(count: int, shares: tuple[float, float], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Numbers of the training, validation and test stays, each in increasing order."""
    num_validation, num_test = (round(share * count) for share in shares)
    num_train = count - num_validation - num_test
    if num_train < 1 or num_test < 1:
        raise DataError(
            f"`validation_share` and `test_share` must leave stays for training and for the test. Got {shares} "
            f"of {count} stays."
        )
    order = rng.permutation(count)
    return tuple(np.sort(part) for part in np.split(order, [num_train, num_train + num_validation]))


def _tables(measured: Measurements, minutes_per_step: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each stay its values (time, variable), NaN where nothing was measured, and its times in hours."""
    num_variables, num_stays = len(PHYSIONET_2012_VARIABLES), len(measured.records)
    step = np.rint(measured.minute / minutes_per_step).astype(int)
    num_steps = step.max(initial=0) + 1
    keys, row = np.unique(measured.stay * num_steps + step, return_inverse=True)
    cell, num_cells = row * num_variables + measured.variable, len(keys) * num_variables
    count = np.bincount(cell, minlength=num_cells)
    total = np.bincount(cell, weights=measured.value, minlength=num_cells)
    mean = np.divide(total, count, out=np.full(num_cells, np.nan), where=count > 0).reshape(-1, num_variables)
    first = np.searchsorted(keys // num_steps, np.arange(1, num_stays))
    return np.split(mean, first), np.split(keys % num_steps * minutes_per_step / 60, first)
