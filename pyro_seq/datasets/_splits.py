"""What every data set function returns."""

from __future__ import annotations

from typing import NamedTuple

from pyro_seq.data import Sequences, SequenceSource


class Splits(NamedTuple):
    """A data set in its parts; `validation` is None where none was asked for or none is published."""

    train: Sequences
    validation: Sequences | None
    test: Sequences


class SourceSplits(NamedTuple):
    """A data set that is not held in memory, in its parts; `validation` is None where there is none."""

    train: SequenceSource
    validation: SequenceSource | None
    test: SequenceSource
