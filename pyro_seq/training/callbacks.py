"""Actions between steps: validation, history, checkpoints, progress, and stopping."""

from __future__ import annotations

import csv
import io
import pickle
import signal
import threading
import time
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from tqdm.auto import tqdm

from pyro_seq._files import write_bytes
from pyro_seq.errors import CheckpointError, UnsupportedError
from pyro_seq.training.engine import Engine, no_early_end
from pyro_seq.training.files import write
from pyro_seq.training.trainer import METRICS, Trainer


class Part:
    """An action between steps."""

    def start(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Before the first step."""

    def after_step(self, driver: lightning.Trainer, engine: Engine) -> None:
        """After each step."""

    def end(self) -> None:
        """After the last step, or an exception."""


class BetweenSteps(lightning.Callback):
    """Calls the parts in their order."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start every part, after Lightning's own setup."""
        for part in self.parts:
            part.start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Run every part."""
        with no_early_end(pl_module.steps_done - 1):
            for part in self.parts:
                part.after_step(trainer, pl_module)


class Validation(Part):
    """Evaluate the validation set at intervals; keep the best weights, stop when patience runs out."""

    def __init__(self, options: Trainer) -> None:
        self.options = options

    def after_step(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Validate if due."""
        every = self.options.validate_every
        if engine.validation is None or every is None or engine.steps_done % every:
            return
        loss = engine.validate()
        engine.judge(loss, self.options.keep_best)
        engine.row = {"step": float(engine.steps_done)} | engine.row | {"validation_loss": loss}
        if self.options.patience is not None and engine.best.since >= self.options.patience:
            engine.stop_reason = "stopped early"


class History(Part):
    """Collect rows of figures, and pass them on to ``metrics.csv`` and to loggers."""

    def __init__(self, options: Trainer) -> None:
        self.path = None if options.directory is None else Path(options.directory) / METRICS
        self.has_listeners = bool(options.callbacks)
        self.columns: list[str] = []

    def after_step(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Pass on the row of this step, if there is one."""
        row = engine.row
        if not row:
            return
        engine.rows.append(row)
        if self.has_listeners:
            figures = {name: value for name, value in row.items() if name != "step"}
            engine.log_dict(figures, logger=False, batch_size=1)
        if not driver.is_global_zero:
            return
        for logger in driver.loggers:
            logger.log_metrics(row, step=engine.steps_done)
        if self.path is not None:
            try:
                self._write(self.path, engine.rows)
            except OSError as error:
                warnings.warn(f"{str(self.path)!r} could not be written ({error}); training goes on.", stacklevel=2)

    def _write(self, path: Path, rows: list[dict[str, float]]) -> None:
        fits = self.columns and rows[-1].keys() <= set(self.columns)
        if not fits:
            self.columns = list(dict.fromkeys(name for row in rows for name in row))
        with open(path, "a" if fits else "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            if not fits:
                writer.writeheader()
            writer.writerows(rows[-1:] if fits else rows)


class Checkpoints(Part):
    """Write the state of the run at intervals."""

    def __init__(self, trainer: Trainer, facts: Mapping[str, str], options: Mapping[str, Any]) -> None:
        self.path, self.every = trainer.checkpoint, trainer.checkpoint_every
        self.facts, self.options = dict(facts), dict(options)

    def after_step(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Write if due."""
        if self.every is not None and engine.steps_done % self.every == 0 and driver.is_global_zero:
            self.write(engine)

    def write(self, engine: Engine) -> None:
        """Write now. If the disk is full, the earlier file is kept with a warning, and the run continues."""
        if self.path is None:
            return
        try:
            write({"kind": "run", "facts": self.facts, "options": self.options, **engine.state()}, self.path)
        except OSError as error:
            warnings.warn(
                f"The checkpoint of step {engine.steps_done} could not be written to {str(self.path)!r} ({error}). The "
                "earlier one is untouched and training goes on. Free some space.",
                stacklevel=2,
            )


class Progress(Part):
    """A bar with the loss."""

    bar: tqdm | None = None

    def start(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Open the bar."""
        hidden = not driver.is_global_zero
        self.bar = tqdm(total=engine.plan.num_steps, initial=engine.steps_done, unit="step", disable=hidden)

    def after_step(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Advance the bar."""
        assert self.bar is not None
        self.bar.update()
        if "loss" in engine.row:
            self.bar.set_postfix(loss=f"{engine.row['loss']:.4g}", refresh=False)

    def end(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class Stopping(Part):
    """End the run after the current step on Ctrl-C, SIGTERM, timeout or exhausted patience.

    A second Ctrl-C stops at once. Several devices all end after the same step.
    """

    def __init__(self, options: Trainer) -> None:
        self.deadline = None if options.max_seconds is None else time.monotonic() + options.max_seconds

    def start(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Replace the signal handlers installed by Lightning, which raise or exit."""
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread only

        def stop(number: int, frame: Any) -> None:
            if engine.stop_reason is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            engine.stop_reason = "interrupted"

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    def after_step(self, driver: lightning.Trainer, engine: Engine) -> None:
        """Ask the driver to stop if requested."""
        if self.deadline is not None and time.monotonic() > self.deadline and engine.stop_reason is None:
            engine.stop_reason = "interrupted"
        if driver.strategy.reduce_boolean_decision(engine.stop_reason is not None, all=False):
            engine.stop_reason = engine.stop_reason or "interrupted"
            driver.should_stop = True


class AtomicCheckpointIO(CheckpointIO):
    """Lets Lightning's own checkpoint callbacks write files atomically and read them without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write under another name, then rename."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(buffer.getvalue(), path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read tensors and plain data only, from a file with correct checksums."""
        try:
            with zipfile.ZipFile(path) as archive:
                # torch writes checksums but never verifies them, and reads nothing of an entry marked as a folder
                is_whole = archive.testzip() is None and not any(part.external_attr for part in archive.infolist())
            if is_whole:
                return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UnsupportedError(f"{str(path)!r} holds more than tensors and plain data and is refused.") from error
        except Exception as error:  # a damaged archive can raise almost any exception
            raise CheckpointError(f"{str(path)!r} is not complete, or altered ({error}). Copy it again.") from error
        raise CheckpointError(
            f"{str(path)!r} was altered: the sum of a part, or a mark of it, is wrong. Copy it again."
        )

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a file that is no longer needed."""
        Path(path).unlink(missing_ok=True)
