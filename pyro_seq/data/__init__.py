"""Data: ``Sequences`` in memory, and ``SequenceSource`` for what does not fit there."""

from pyro_seq.data.labels import Labels
from pyro_seq.data.sequences import Sequences
from pyro_seq.data.source import SequenceSource

__all__ = ["Labels", "SequenceSource", "Sequences"]
