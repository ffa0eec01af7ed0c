"""Return types of the data set functions."""

from __future__ import annotations

from typing import NamedTuple

from pyro_seq.data import Sequences, SequenceSource


class Splits(NamedTuple):
    """The parts of a data set; `validation` is None if none was requested or none is published."""

    train: Sequences
    validation: Sequences | None
    test: Sequences


class SourceSplits(NamedTuple):
    """The parts of a data set that is not held in memory; `validation` is None if there is none."""

    train: SequenceSource
    validation: SequenceSource | None
    test: SequenceSource
