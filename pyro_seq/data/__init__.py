"""Data: ``Sequences`` in memory, and ``SequenceSource`` for data that do not fit in memory."""

from pyro_seq.data.fill_inputs import fill_inputs
from pyro_seq.data.labels import Labels
from pyro_seq.data.one_hot import one_hot
from pyro_seq.data.sequences import Sequences
from pyro_seq.data.source import SequenceSource

__all__ = ["Labels", "SequenceSource", "Sequences", "fill_inputs", "one_hot"]
