"""``Trainer``: options of a training run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from pyro_seq._arguments import keep_whole, require
from pyro_seq.errors import CheckpointError, DataError, UnsupportedError

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.csv"
_PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Options of a training run that do not change what is learned: devices, logs, checkpoints, when to stop.

    The run depends only on model, data, method and seed: on a CPU, with the same number of threads and devices, a run
    that was stopped and resumed ends with the same bits as an uninterrupted one.

    Args:
        directory: Folder for ``metrics.csv`` and ``checkpoint.pt``; nothing is written by default. The table is for
            other programs: plain text without a checksum, never read by the library. The checkpoint has a checksum and
            also contains the rows.
        progress: Show a progress bar.
        log_every: Steps between two rows of the history. Logged steps also check the arguments of distributions.
        validate_every: Steps between two evaluations of the validation data; never by default.
        patience: Stop after this many consecutive validations without a new best one.
        keep_best: Return the weights of the best validation instead of the last weights.
        checkpoint_every: Steps between two checkpoints. One is always written at the end, or on an interrupt.
        resume: Continue from the checkpoint in `directory`, or start if there is none yet.
        max_seconds: Stop after this many seconds, as if interrupted.
        devices: Number of devices, or any value that Lightning accepts.
        accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``.
        strategy: ``"auto"``, ``"ddp"`` or a Lightning strategy object.
        precision: ``"32-true"`` keeps the type of the model and the data, ``"bf16-mixed"`` lets networks compute in
            bfloat16.
        callbacks: Lightning callbacks. Their own state is not part of a checkpoint.
        loggers: Lightning loggers, which receive every row of the history.
        tensorboard: Also log to TensorBoard files in `directory`.
        num_workers: Threads that read minibatches ahead if the data are a source and not in memory.

    Raises:
        DataError: When an option is out of range or requires another option.
    """

    directory: str | os.PathLike[str] | None = None
    progress: bool = True
    log_every: int = 10
    validate_every: int | None = None
    patience: int | None = None
    keep_best: bool = False
    checkpoint_every: int | None = 1000
    resume: bool = False
    max_seconds: float | None = None
    devices: Any = 1
    accelerator: str = "auto"
    strategy: Any = "auto"
    precision: str = "32-true"
    callbacks: Sequence[Any] = ()
    loggers: Sequence[Any] = ()
    tensorboard: bool = False
    num_workers: int = 1

    def __post_init__(self) -> None:
        keep_whole(self, 0, "num_workers")
        keep_whole(self, 1, "log_every", "validate_every", "patience")
        if self.checkpoint_every is not None:
            keep_whole(self, 1, "checkpoint_every")
        if self.validate_every is None and (self.patience is not None or self.keep_best):
            raise DataError("`patience` and `keep_best` judge by validation. Set `validate_every`, in steps.")
        if self.directory is None and (self.resume or self.tensorboard):
            raise DataError("`resume` and `tensorboard` need a `directory` to read and write. Got None.")
        is_time = self.max_seconds is None or (isinstance(self.max_seconds, Real) and self.max_seconds > 0)
        require(is_time, "max_seconds", "positive", self.max_seconds)
        require(
            isinstance(self.directory, str | os.PathLike | None), "directory", "the path of a folder", self.directory
        )
        for name in ("callbacks", "loggers"):
            value = getattr(self, name)
            require(isinstance(value, Sequence), name, "a sequence of Lightning's objects", value)
        if self.precision not in _PRECISIONS:
            raise UnsupportedError(
                f"`precision` must be one of {_PRECISIONS}. Got {self.precision!r}. For double precision convert the "
                "model and the data: `model.double()`, `data.to(dtype=torch.float64)`."
            )

    @property
    def checkpoint(self) -> Path | None:
        """Path of the checkpoint; None without a directory."""
        return None if self.directory is None else Path(self.directory) / CHECKPOINT

    def prepare(self) -> None:
        """Create `directory` before any work, and refuse one that cannot be written or that holds another run.

        Raises:
            CheckpointError: In either case.
        """
        if self.directory is None:
            return
        folder = Path(self.directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):  # has no name, so nothing is left if the process is killed
                pass
        except OSError as error:
            raise CheckpointError(
                f"`directory` {str(folder)!r} cannot be written ({error}). Choose another."
            ) from error
        earlier = [name for name in (CHECKPOINT, METRICS) if (folder / name).exists()]
        if earlier and not self.resume:
            raise CheckpointError(
                f"`directory` {str(folder)!r} holds {earlier} of an earlier run, which would be lost. Continue it with "
                "`resume=True`, or choose another directory."
            )
