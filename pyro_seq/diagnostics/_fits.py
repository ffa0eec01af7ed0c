"""Several fits in one call: each with a new model, weights determined by the seed, and a separate folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.door import require_type
from pyro_seq.errors import DataError
from pyro_seq.infer.fit import Method, fit
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior
from pyro_seq.training.trainer import Trainer


def require_factory(model_factory: Any, name: str) -> None:
    """Raise if a model is given in place of a function that makes one."""
    if isinstance(model_factory, SequenceModel) or not callable(model_factory):
        raise DataError(
            f"`{name}` must make a new model at each call. Got {type(model_factory).__name__}. Pass a function, such "
            "as `lambda: DynamicFactors(obs_shape=(3,))`."
        )


def made(model_factory: Callable[[], SequenceModel], seed: int, earlier: SequenceModel | None) -> SequenceModel:
    """A new model, with weights determined by the seed."""
    with isolated_rng(seed, 1):  # separate from the noise of the fit
        model = model_factory()
    require_type(model, SequenceModel, "model_factory()")
    if model is earlier:
        raise DataError(
            "`model_factory` must make a new model at each call. Got the same one twice, which would keep the units "
            "and weights of the fit before. Build the model inside the function, or fit once: `backtest(refit=False)`."
        )
    return model


def fitted(
    model: SequenceModel, data: Sequences | SequenceSource, method: Method, seed: int, trainer: Trainer | None
) -> Posterior:
    """The result of `fit`; an interrupted fit ends the whole call."""
    posterior = fit(model, data, method, seed=seed, trainer=trainer)
    is_cut = getattr(posterior, "status", "") == "interrupted" and (trainer is None or trainer.max_seconds is None)
    if is_cut:
        raise KeyboardInterrupt(
            "One of several fits was interrupted. With `Trainer(directory=..., resume=True)` it goes on."
        )
    return posterior


def trainer_in(trainer: Trainer | None, folder: str) -> Trainer | None:
    """The trainer with a subfolder of its directory."""
    if trainer is None or trainer.directory is None:
        return trainer
    return replace(trainer, directory=Path(trainer.directory) / folder)
