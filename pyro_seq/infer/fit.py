"""``fit``: the verb that turns a model and data into a posterior."""

from __future__ import annotations

from itertools import chain
from typing import Protocol, TypeVar

from pyro_seq._arguments import require, seed_number
from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.data._columns import require_same_names
from pyro_seq.door import require_data, require_type, warn_of_unseen
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.infer.measured import measure, measuring_parts
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior
from pyro_seq.training.gradient_method import GradientMethod
from pyro_seq.training.trainer import Trainer

Result = TypeVar("Result", bound=Posterior)
Result_co = TypeVar("Result_co", bound=Posterior, covariant=True)


class Method(Protocol[Result_co]):
    """An inference method: `SVI`, `MCMC`, `MaximumLikelihood`, or a custom one.

    A method that reads data only in minibatches may set ``takes_sources = True``; it then also receives a
    `SequenceSource` as data or validation.
    """

    def run(
        self, model: SequenceModel, data: Sequences, *, validation: Sequences | None, seed: int, trainer: Trainer
    ) -> Result_co:
        """Run inference; arguments are already checked and the random state is isolated."""
        ...


@one_at_a_time
def fit(
    model: SequenceModel,
    data: Sequences | SequenceSource,
    method: Method[Result],
    *,
    validation: Sequences | SequenceSource | None = None,
    seed: int = 0,
    trainer: Trainer | None = None,
    readapt: bool = False,
) -> Result:
    """Infer the latents and parameters of `model` from `data`.

    The model's weights are trained in place. The result is a function of the arguments: the caller's random state,
    Pyro's parameter store and torch's settings are neither used nor changed. Ctrl-C or SIGTERM ends training after the
    current step and returns the result so far, with ``posterior.status == "interrupted"``; the handlers are restored.
    Threads take turns: while one fits, verbs in other threads wait.

    Args:
        model: The model to fit.
        data: Training set, without a horizon; or a `SequenceSource`, which reads or generates it in minibatches.
        method: Inference method, such as ``SVI(num_steps=5_000)``.
        validation: Held-out series; needs ``Trainer(validate_every=...)``.
        seed: Seed of shuffles, views and noise, a whole number below 2^63.
        trainer: Devices, logs, checkpoints and stopping.
        readapt: Take the model's units of time and values from `data` even if it already has units. By default a model
            takes them at its first fit and keeps them, because its weights are only valid in these units.

    Returns:
        A posterior for `forecast`, `impute`, `reconstruct`, `sample`, `evaluate` and `save`.

    Raises:
        DataError: When an argument has the wrong type, or data and model do not share a floating type.
        ShapeError: When data do not fit the model.
        NumericalError: When values are non-finite for three steps in a row.
        UnsupportedError: When a parameter never gets a gradient, or `method` needs data in memory.
        CheckpointError: When ``trainer.directory`` cannot be written or holds another run.

    Example:
        >>> posterior = fit(model, train, SVI(num_steps=5_000), seed=1)  # doctest: +SKIP
    """
    require_type(model, SequenceModel, "model")
    if not callable(getattr(method, "run", None)) or isinstance(method, type):
        raise DataError(f"`method` must be a method object such as `SVI(num_steps=5_000)`. Got {method!r}.")
    if trainer is not None:
        require_type(trainer, Trainer, "trainer")
    require(isinstance(readapt, bool), "readapt", "True or False", readapt)
    seed = seed_number(seed)
    _check(model, method, data, "data", readapt)
    if isinstance(data, Sequences):
        warn_of_unseen(data)
    if validation is not None:
        _check(model, method, validation, "validation", readapt)
        if validation.obs_shape != data.obs_shape:
            raise ShapeError(
                f"`validation` must have observations like `data`, {data.obs_shape}. Got {validation.obs_shape}."
            )
        if isinstance(data, Sequences) and isinstance(validation, Sequences):
            require_same_names(validation.labels, data.labels, "validation", "data.labels")
    with isolated_rng(seed):
        if readapt:
            model.take_units(data if isinstance(data, Sequences) else data.preview(), again=True)
        posterior = method.run(
            model,
            data,  # type: ignore[arg-type]  # a source only if the method takes sources
            validation=validation,  # type: ignore[arg-type]
            seed=seed,
            trainer=trainer or Trainer(),
        )
    if measuring_parts(model):
        new = data if validation is None else validation
        shown = new if isinstance(new, Sequences) else new.preview()
        measure(posterior, shown.to(next(chain(model.parameters(), model.buffers())).device), seed)
    return posterior


def _shown(data: Sequences | SequenceSource, name: str, method: Method) -> Sequences:
    """The data, or a few series of a source."""
    if not isinstance(data, SequenceSource):
        return data
    if not getattr(method, "takes_sources", False):
        raise UnsupportedError(
            f"`{name}` must be in memory for {type(method).__name__}, which reads all of it. Got {data!r}. Pass a part "
            f"of it, such as `{name}[:1000]`, or fit with `SVI`."
        )
    if name == "validation" and data.is_endless:
        raise DataError(
            f"`validation` must not be endless. Got {data!r}. Pass a part of it, such as `validation[:100]`."
        )
    return data.preview()


def _check(model: SequenceModel, method: Method, given: Sequences | SequenceSource, name: str, readapt: bool) -> None:
    data = _shown(given, name, method)
    require_type(data, Sequences, name)
    if data.horizon:
        raise DataError(
            f"`{name}` must not have a horizon, for there is nothing to learn from. Got {data!r}. Pass `{name}.seen()`."
        )
    if data.num_steps == 0:
        raise DataError(f"`{name}` must have at least one step. Got {data!r}.")
    # data that are trained on in minibatches go to the trainer's device with the model
    require_data(model, data, name, has_device=not isinstance(method, GradientMethod), has_units=not readapt)
