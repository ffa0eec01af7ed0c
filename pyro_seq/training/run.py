"""``train``: one run of the engine from the first check to the weights, quiet and without traces in the process."""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import nn

from pyro_seq._options import options_of
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.saved_state import expected_weights
from pyro_seq.training.callbacks import (
    AtomicCheckpointIO,
    BetweenSteps,
    Checkpoints,
    History,
    Part,
    Progress,
    Stopping,
    Validation,
)
from pyro_seq.training.directory import held
from pyro_seq.training.engine import Engine
from pyro_seq.training.files import (
    class_name,
    differences,
    option_differences,
    read,
    refuse,
    renamed,
)
from pyro_seq.training.plan import Outcome, Plan
from pyro_seq.training.trainer import Trainer


def train(
    objective: nn.Module,
    data: Sequences | SequenceSource,
    plan: Plan,
    *,
    validation: Sequences | SequenceSource | None,
    seed: int,
    trainer: Trainer,
) -> Outcome:
    """Train the parameters of `objective` that require gradients, in place.

    Args:
        objective: Called as ``objective(data, step)``, gives a `Loss`; its attribute ``model`` is the model.
        data: Training set, or a source.
        plan: The settings of the method.
        validation: Validation set, for ``trainer.validate_every``.
        seed: Seed of the run.
        trainer: The user's options.

    Raises:
        DataError: When there is nothing to train, or validation is asked for without data.
        CheckpointError: When the directory cannot be used, or is in use, or its checkpoint belongs to another run.
        NumericalError: When numbers stay non-finite.
        UnsupportedError: When a parameter never gets a gradient.
    """
    model: SequenceModel = objective.model  # type: ignore[assignment]
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise DataError(f"{class_name(model)} has no parameters to train. Pass trainable parts, or use `MCMC`.")
    if trainer.validate_every is not None and validation is None:
        raise DataError("`validate_every` needs data to validate on. Pass `fit(..., validation=...)`.")
    if trainer.validate_every is None and validation is not None:
        raise DataError(
            "`validation` has no effect without `Trainer(validate_every=...)`. Set it, in steps, or leave it out."
        )
    trainer.prepare()
    with held(trainer.directory):
        return _trained(objective, data, plan, validation, seed, trainer)


def _trained(
    objective: nn.Module,
    data: Sequences | SequenceSource,
    plan: Plan,
    validation: Sequences | SequenceSource | None,
    seed: int,
    trainer: Trainer,
) -> Outcome:
    model: SequenceModel = objective.model  # type: ignore[assignment]
    home, was_training = next(model.parameters()).device, model.training
    shown = data if isinstance(data, Sequences) else data.preview()
    facts = _facts(model, shown, repr(data), plan, seed) if trainer.directory is not None else {}
    options = options_of(model) if trainer.directory is not None else {}
    saved = _saved(objective, model, facts, trainer)
    if saved is None:
        model.take_units(shown)  # before the engine reads parameters, whose shape may depend on the data
    engine = Engine(objective, data, validation, plan, seed)
    engine.log_every, engine.num_workers = trainer.log_every, trainer.num_workers
    if saved is not None:
        engine.restore(saved)
    checkpoints = Checkpoints(trainer, facts, options)
    if engine.steps_done < plan.num_steps:
        try:
            with _quiet(), _signals_restored():
                _run(engine, trainer, checkpoints)
        finally:
            model.to(home).train(was_training)
        engine.finish()
        model.to(home)
    else:
        engine.finish()
    names = dict.fromkeys(name for row in engine.rows for name in row)
    history = {name: [row.get(name, float("nan")) for row in engine.rows] for name in names}
    return Outcome(history, engine.stop_reason or "completed")


def _driver(options: Trainer, parts: list[Part]) -> lightning.Trainer:
    """Lightning's trainer for these options.

    Raises:
        DataError: When Lightning rejects the requested hardware.
    """
    try:
        return lightning.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            strategy=options.strategy,
            precision=options.precision,  # type: ignore[arg-type]
            max_epochs=1,
            callbacks=[*options.callbacks, BetweenSteps(parts)],
            logger=_loggers(options) or False,
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in options.callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=options.log_every,
            default_root_dir=None if options.directory is None else str(options.directory),
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise DataError(
            f"`accelerator`, `devices` and `strategy` must name what this machine has. Got {options.accelerator!r}, "
            f"{options.devices!r} and {options.strategy!r}: {error} Leave them out for what Lightning finds."
        ) from error


def _run(engine: Engine, options: Trainer, checkpoints: Checkpoints) -> None:
    parts: list[Part] = [Validation(options), History(options), checkpoints, Stopping(options)]
    parts += [Progress()] if options.progress else []
    driver = _driver(options, parts)
    if isinstance(driver.strategy.launcher, _MultiProcessingLauncher):
        raise UnsupportedError(
            "Several devices need one process each that runs the whole script: `strategy='ddp'`. Spawned and forked "
            "strategies lose the history. Run a script, not a notebook."
        )
    try:
        driver.fit(engine)
    except SystemExit as error:
        # raised by Lightning for a KeyboardInterrupt that did not come from the signal handler
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        engine.stop_reason = "interrupted"
    finally:
        engine.close()
        for part in parts:
            part.end()
    if engine.is_between_steps and driver.is_global_zero:
        checkpoints.write(engine)


def _loggers(options: Trainer) -> list[Any]:
    loggers = list(options.loggers)
    if options.tensorboard:
        try:
            from lightning.pytorch.loggers import TensorBoardLogger

            loggers.append(TensorBoardLogger(str(options.directory), name="", version="tensorboard"))
        except ImportError as error:
            raise UnsupportedError("`tensorboard=True` needs a package: pip install tensorboard") from error
    return loggers


def _saved(
    objective: nn.Module, model: SequenceModel, facts: dict[str, str], options: Trainer
) -> dict[str, Any] | None:
    """The checkpoint to continue from, if there is one."""
    path = options.checkpoint
    if not options.resume or path is None or not path.exists():
        return None
    saved = read(path)
    refuse([] if saved.get("kind") == "run" else ["it is a posterior, not a run"], path, "Choose another directory.")
    problems = differences(saved["facts"], facts) + option_differences(saved, model, path)
    saved["weights"] = renamed(saved["weights"], model.renamed_parts, "model.")
    problems += differences(saved["weights"], expected_weights(objective, saved["weights"]))
    refuse(problems, path, "Resume with the model, data, method and seed of that run, or choose another directory.")
    return saved


def _facts(model: nn.Module, data: Sequences, name: str, plan: Plan, seed: int) -> dict[str, str]:
    digest = hashlib.sha256()
    for field in (data.values, data.mask, data.times, data.inputs):
        if field is not None:
            digest.update(field.detach().cpu().contiguous().numpy().tobytes())
    return {
        "class": class_name(model),
        "data": f"{name} {data.dtype} {digest.hexdigest()[:16]}",
        "seed": str(seed),
        **(plan.facts or {}),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice on hardware and loaders, because it concerns choices that the user does not make."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", message="Encountered ", category=UserWarning)  # Pyro's; the guard judges
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _signals_restored() -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
