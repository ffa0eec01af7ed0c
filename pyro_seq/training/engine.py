"""The engine: trains an objective with Lightning in one stream of steps; all of its state is in checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from pyro_seq._host import HOST
from pyro_seq._nonfinite import chancing, is_about_numbers
from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.door import require_type
from pyro_seq.errors import DataError, NumericalError, PyroSeqError
from pyro_seq.model import SequenceModel
from pyro_seq.ops.precision import full_precision
from pyro_seq.training.batches import Batches
from pyro_seq.training.buffers import Buffers
from pyro_seq.training.devices import mean_over_devices, share_buffers, warn_of_other_number
from pyro_seq.training.guard import Guard
from pyro_seq.training.plan import Loss, Plan

_NOISE, _VIEWS, _VALIDATION = 2, 3, 4  # streams of random numbers; the shuffle has the first


class Best(NamedTuple):
    """The best validation so far: its loss, its weights (if kept), and the number of validations since."""

    loss: float = float("inf")
    weights: dict[str, Tensor] | None = None
    since: int = 0


class _Judged(NamedTuple):
    """Result of a minibatch: the loss or an error, the norm of the gradient, and whether all is finite."""

    loss: Loss
    cause: Exception | None
    norm: Tensor
    is_good: bool


class Engine(lightning.LightningModule):
    """One training run: takes steps, validates, and saves and restores its state.

    All random numbers of step k come from seeds made of (seed, k, device), so a run can continue without random state.

    Args:
        objective: Called as ``objective(data, step)``, returns a `Loss`; its attribute ``model`` is the model.
        data: The training set, or a source.
        validation: The validation set, or a source.
        plan: Steps, batches, optimisers and other settings of the method.
        seed: Seed of the run.
    """

    def __init__(
        self,
        objective: nn.Module,
        data: Sequences | SequenceSource,
        validation: Sequences | SequenceSource | None,
        plan: Plan,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.objective = objective
        self.plan, self.seed = plan, seed
        self.data, self.validation = data, validation
        self.guard = Guard(objective)
        self.averages = [p.detach().clone() for p in self.guard.trained.values()] if plan.average else []
        self.best = Best()
        self.batches: Batches = None  # type: ignore[assignment]  # set at the start
        self.steps_done = 0
        self.rows: list[dict[str, float]] = []
        self.row: dict[str, float] = {}
        self.log_every, self.num_workers = 1, 0
        self.stop_reason: str | None = None
        self.is_between_steps = True
        self.takes_chances = True
        self.num_devices: int | None = None
        self._optimizer_states: list[dict] = []
        self._torch_optimizers: list[torch.optim.Optimizer] = []

    # ------------------------------------------------------------------ Lightning's hooks

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Make the optimisers and remember their learning rates, which the schedule multiplies."""
        self._torch_optimizers = self.plan.optimizers(self.objective)
        for optimizer in self._torch_optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        return self._torch_optimizers

    def train_dataloader(self) -> range:
        """The remaining steps."""
        return range(self.steps_done, self.plan.num_steps)

    def on_fit_start(self) -> None:
        """Put the data, the averages and the optimisers' state on the device."""
        self.batches = Batches(
            self.data,
            self.plan.batch_size,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            device=self.device,
            num_workers=self.num_workers,
        )
        if isinstance(self.validation, Sequences):
            self.validation = self.validation.to(self.device)
        if self.trainer.is_global_zero:
            warn_of_other_number(self.num_devices, self.trainer.world_size)
        self.num_devices = self.trainer.world_size
        self.averages = [average.to(self.device) for average in self.averages]
        for optimizer, state in zip(self._torch_optimizers, self._optimizer_states, strict=False):
            optimizer.load_state_dict(state)
        self.objective.train()

    def training_step(self, step: int, batch_idx: int) -> None:
        """Take step `step`, or skip it if its numbers are not finite."""
        with no_early_end(step):
            self._step(step)

    # ------------------------------------------------------------------ a step

    def _step(self, step: int) -> None:
        self.is_between_steps = False
        batch = self._batch(step)
        self.guard.buffers.keep()
        is_chanced = self.takes_chances and not self._is_logged(step + 1)
        loss, cause, norm, is_good = self._gradients(batch, step, is_chanced=is_chanced)
        if is_chanced and not is_good:
            # repeat with all checks: they report or fix the problem, and a model that needs a fix keeps them
            self.guard.buffers.restore()
            for optimizer in self._torch_optimizers:
                optimizer.zero_grad()
            loss, cause, norm, is_good = self._gradients(batch, step, is_chanced=False)
            self.takes_chances = not is_good
        if is_good:
            self._update(step, norm)
        else:
            self.guard.reject(step, loss, cause)
        for optimizer in self._torch_optimizers:
            optimizer.zero_grad()
        self.steps_done = step + 1
        self.guard.require_gradients(self.steps_done, self.plan.num_steps, self.trainer.world_size > 1)
        is_logged = self._is_logged(self.steps_done)
        self.row = self._figures(loss, norm, self.batches.share(batch)) if is_logged else {}
        self.is_between_steps = True

    def _gradients(self, batch: Sequences, step: int, *, is_chanced: bool) -> _Judged:
        """Loss and gradients of a minibatch, always with the random numbers of its step."""
        self._seed_noise(_NOISE, step, self.trainer.global_rank)
        with chancing() if is_chanced else nullcontext():
            loss, cause = _evaluated(self.objective, self.guard, batch, step)
            full_precision(self.manual_backward)(loss.total * self.batches.share(batch))  # each gradient as its values
        norm = self.guard.norm()
        is_good = self.trainer.strategy.reduce_boolean_decision(self._is_finite(norm, loss))
        return _Judged(loss, cause, norm, is_good)

    @property
    def model(self) -> SequenceModel:
        """The model inside the objective."""
        return self.objective.model  # type: ignore[return-value]

    def _batch(self, step: int) -> Sequences:
        rank = self.trainer.global_rank
        batch = self.batches[step]
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, _VIEWS, step, rank))
        for number, view in enumerate(self.plan.views):
            batch = view(batch, step, generator)
            require_type(batch, Sequences, f"views[{number}](...)")
        is_checked = batch.device == HOST or self._is_logged(step + 1)  # on other devices each check is a wait
        # the guard handles numbers that are not finite
        if self.plan.views and is_checked and bool(batch.values.isfinite().all()):
            _check_viewed(self.model, batch, step)
        return self.model.training_view(batch, generator)

    def _seed_noise(self, *stream: int) -> None:
        seed = mixed_seed(self.seed, *stream)
        if self.device.type == "cpu":
            # `torch.manual_seed` also queues the seed for absent devices, with a stack trace each: half a millisecond
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _is_finite(self, norm: Tensor, loss: Loss) -> bool:
        return bool((norm + loss.total.detach() + self.guard.buffers.largest()).isfinite())

    def _update(self, step: int, norm: Tensor) -> None:
        self.guard.accept()
        if self.plan.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.guard.trained.values(), self.plan.clip_norm, norm)
        factor = self.plan.schedule(step)
        wrapped = self.optimizers()
        for optimizer in wrapped if isinstance(wrapped, list) else [wrapped]:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
        if self.averages:
            # a plain average at first, so that the initial weights do not dominate a short run
            decay = min(self.plan.average or 0.0, (1 + step) / (10 + step))
            weights = [p.detach() for p in self.guard.trained.values()]
            torch._foreach_lerp_(self.averages, weights, 1.0 - decay)

    def _is_logged(self, done: int) -> bool:
        return done == 1 or done % self.log_every == 0 or done == self.plan.num_steps

    def _figures(self, loss: Loss, norm: Tensor, share: float) -> dict[str, float]:
        own = {"loss": loss.total.item()} | {name: term.item() for name, term in loss.terms.items()}
        rate = self._torch_optimizers[0].param_groups[0]["lr"]
        return {
            "step": float(self.steps_done),
            **mean_over_devices(own, share, self.trainer.world_size),
            "learning_rate": float(rate),
            "gradient_norm": norm.item(),
            "skipped": float(self.guard.skipped),
        }

    # ------------------------------------------------------------------ between steps

    def on_train_end(self) -> None:
        """Synchronise the state of all devices."""
        share_buffers(self.model, self.trainer.world_size)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context manager: replace the weights by their averages, if there are any."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for parameter, average in zip(self.guard.trained.values(), self.averages, strict=False):
            parameter.data, average.data = average.data, parameter.data

    def validate(self) -> float:
        """Loss per series on the validation set, weighted as in the last step, with the same noise each time."""
        assert self.validation is not None
        share_buffers(self.model, self.trainer.world_size)
        total, size = 0.0, self.batches.size
        self.objective.eval()
        with torch.no_grad(), self.averaged(), self.trainer.precision_plugin.val_step_context():
            for start in range(0, self.validation.num_series, size):
                self._seed_noise(_VALIDATION, start)
                chosen = torch.arange(start, min(start + size, self.validation.num_series))
                # treated as part of a set as large as the training set, so that global terms weigh the same
                part = self.validation[chosen].to(self.device)
                batch = part._with(total=max(self.data.total, part.num_series))
                loss, _ = _evaluated(self.objective, self.guard, batch, self.plan.num_steps - 1)
                total += loss.total.item() * batch.num_series / self.validation.num_series
        self.objective.train()
        return total

    def judge(self, loss: float, keep: bool) -> None:
        """Compare a validation loss with the best so far."""
        if loss < self.best.loss:
            with self.averaged():
                weights = {k: v.detach().clone() for k, v in self.objective.state_dict().items()} if keep else None
            self.best = Best(loss, weights)
        else:
            self.best = self.best._replace(since=self.best.since + 1)

    def close(self) -> None:
        """Stop the threads that read data ahead."""
        if self.batches is not None:
            self.batches.close()

    def finish(self) -> None:
        """Set the weights to return: the best, the averaged, or the last ones."""
        if self.best.weights is not None:
            self.objective.load_state_dict(self.best.weights)
        else:
            self._exchange()
        self.guard.require_finite()

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as plain data."""
        self.guard.require_finite()
        return {
            "steps_done": self.steps_done,
            "num_devices": self.num_devices,
            "weights": dict(self.objective.state_dict()),
            "optimizers": [optimizer.state_dict() for optimizer in self._torch_optimizers],
            "averages": list(self.averages),
            "best": {"loss": self.best.loss, "weights": self.best.weights, "since": self.best.since},
            "guard": [self.guard.skipped, self.guard.in_a_row, sorted(self.guard.untouched)],
            "rows": [dict(row) for row in self.rows],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.steps_done, self.rows = state["steps_done"], state["rows"]
        self.num_devices = state.get("num_devices")  # not stored by earlier versions
        self.averages = state["averages"]
        self.best = Best(**state["best"])
        self.guard.skipped, self.guard.in_a_row = state["guard"][:2]
        self.guard.untouched = set(state["guard"][2])
        self._optimizer_states = state["optimizers"]
        self.objective.load_state_dict(state["weights"])  # last, so that an earlier failure leaves the model unchanged
        self.guard.buffers = Buffers(self.model)


def _evaluated(objective: nn.Module, guard: Guard, batch: Sequences, step: int) -> tuple[Loss, Exception | None]:
    """The loss of a minibatch; one that is not finite, and the error, where an error says that numbers are not."""
    try:
        return objective(batch, step), None
    except (NumericalError, torch.linalg.LinAlgError, ValueError) as error:
        if not is_about_numbers(error):
            raise
        # a loss that every device can run backwards, so that none waits for this one
        total = torch.stack([p.sum() for p in guard.trained.values()]).sum() * float("nan")
        return Loss(total, {}), error


@contextmanager
def no_early_end(step: int) -> Iterator[None]:
    """Turn a `StopIteration`, which Lightning would take as the end of training, into an error."""
    try:
        yield
    except StopIteration as error:
        raise DataError(
            f"Step {step} met a StopIteration: an iterator in the source of the data, in a view, in the model or in a "
            "callback has come to its end. Let it begin again, or make it long enough for all steps."
        ) from error


def _check_viewed(model: SequenceModel, batch: Sequences, step: int) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):  # warnings about the data are given once elsewhere
            model.check(batch)
    except PyroSeqError as error:
        raise type(error)(
            f"The `views` of the method make a minibatch at step {step} that is refused: {error}"
        ) from error
