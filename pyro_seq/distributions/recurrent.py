"""Paths in which every step is Gaussian given all earlier steps."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import Normal, constraints
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import ShapeError

Memory = tuple[Tensor, ...]


class StepPredictor(Protocol):
    """Module that predicts the next steps of a path, such as `pyro_seq.nn.recurrent.LSTMTransition`."""

    def __call__(self, previous: Tensor, memory: Memory, *inputs: Tensor) -> tuple[Normal, Memory]:
        """Distributions (..., time, code) of the steps after `previous` (..., time, code), and the new memory.

        The memory was returned by an earlier call: tensors (..., hidden) that may lack leading axes of `previous`; it
        is empty before the first call. If a path has inputs, the inputs of the predicted steps come last,
        (..., time, input).
        """
        ...


class RecurrentPath(PathDistribution):
    r"""Distribution of whole paths :math:`a_{1:T}` that a recurrent network predicts step by step; event (time, code).

    .. math::
        a_1 \sim N(m_1, s_1^2), \qquad
        a_t \mid a_{<t} \sim N\left(m(a_{<t}),\ s(a_{<t})^2\right)

    With `encoded`, the `seen` steps independently follow that Gaussian instead, and only the other steps are predicted
    from the path before them:

    .. math::
        q(a) = \prod_{t\ \mathrm{seen}} N(a_t \mid \mu_t, \sigma_t^2) \prod_{t\ \mathrm{hidden}} p(a_t \mid a_{<t})

    A hidden step then has the same density with and without `encoded`, so it cancels in a bound. It does not depend on
    later steps: this is filtering, not smoothing.

    Cost: a density needs one call of the transition over all steps; a draw needs one call per step, or none if all
    steps are seen.

    Args:
        initial: Distribution of the first step, batch shape (..., code).
        transition: Gives each later step from all before it.
        num_steps: Length of a path.
        valid: True where a step exists, (series, time); others do not count in `log_prob`.
        memory: Memory of the transition from steps before the first one.
        encoded: Distribution of the seen steps, batch shape (..., time, code).
        seen: True where `encoded` applies, (..., time); by default everywhere.
        inputs: Inputs of each step, (..., time, input), at least `num_steps` of them, the rest for `future`; those of
            the first step are not used.

    Raises:
        ShapeError: When `initial` is scalar, `encoded`, `seen` or `valid` has another length, or inputs are too few.

    Example:
        >>> def halve(previous, memory):
        ...     return Normal(previous / 2, 1.0), memory
        >>> walk = RecurrentPath(Normal(torch.zeros(1), 1.0), halve, 3)
        >>> walk.follow(torch.tensor([[4.0], [0.0], [1.0]])).squeeze(-1)
        tensor([4., 2., 2.])

    References:
        Fraccaro, Kamronn, Paquet, Winther, "A disentangled recognition and nonlinear dynamics model for unsupervised
        learning", NeurIPS 2017, section 5.1 (the recurrent baselines).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        initial: Normal,
        transition: StepPredictor,
        num_steps: int,
        *,
        valid: Tensor | None = None,
        memory: Memory = (),
        encoded: Normal | None = None,
        seen: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> None:
        if not initial.batch_shape:
            raise ShapeError("`initial` must have the batch shape (..., code). Got a single number. Add an axis.")
        steps = {
            "valid": num_steps if valid is None else valid.shape[-1],
            "encoded": num_steps if encoded is None else encoded.batch_shape[-2],
            "seen": num_steps if seen is None else seen.shape[-1],
            "inputs": num_steps if inputs is None else min(num_steps, inputs.shape[-2]),
        }
        wrong = {name: length for name, length in steps.items() if length != num_steps}
        if wrong:
            raise ShapeError(f"`num_steps` = {num_steps} must be the time axis of all parts. Got {wrong}. Cut them.")
        self.initial = initial
        self.transition = transition
        self.memory = memory
        self.encoded = encoded
        self.inputs = inputs
        self.seen = None if seen is None or encoded is None or bool(on_host(seen).all()) else seen
        event_shape = torch.Size((num_steps, initial.batch_shape[-1]))
        super().__init__(initial.batch_shape[:-1], event_shape, valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> RecurrentPath:
        """The same distribution over a larger batch."""
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape:
            return self
        return RecurrentPath(
            self.initial.expand(batch_shape + self.event_shape[-1:]),
            self.transition,
            self.event_shape[0],
            valid=self.valid,
            memory=self.memory,
            encoded=self.encoded,
            seen=self.seen,
            inputs=self.inputs,
        )

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths, with gradients."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        return self.follow(torch.randn(shape, dtype=self.initial.loc.dtype, device=self.initial.loc.device))

    def follow(self, noise: Tensor) -> Tensor:
        """The path given `noise` (..., time, code) in units of each step's standard deviation.

        With zeros every predicted step is its mean given the earlier steps and is fed back as such.
        """
        if self.encoded is not None and self.seen is None:
            return self.encoded.loc + self.encoded.scale * noise
        now, memory = self.initial.expand(noise.shape[:-2] + noise.shape[-1:]), self.memory
        path: list[Tensor] = []
        for time in range(noise.shape[-2]):
            if time:
                after, memory = self.transition(path[-1][..., None, :], memory, *self._driving(time, time + 1))
                now = _step(after, 0)
            code = now.loc + now.scale * noise[..., time, :]
            if self.encoded is not None and self.seen is not None:
                given = _step(self.encoded, time)
                code = torch.where(self.seen[..., time, None], given.loc + given.scale * noise[..., time, :], code)
            path.append(code)
        return torch.stack(path, -2) if path else noise

    def path_of_means(self) -> Tensor:
        """The path with every step at its mean given the earlier steps at their means; no draws."""
        return self.follow(self.initial.loc.new_zeros(self.batch_shape + self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of paths (..., time, code)."""
        terms = self.conditionals(value).log_prob(value).sum(-1)
        return (terms if self.valid is None else torch.where(self.valid, terms, 0.0)).sum(-1)

    def conditionals(self, value: Tensor) -> Normal:
        """Distribution of each step of paths `value` (..., time, code) given those before it, of the same shape."""
        batch_shape = torch.broadcast_shapes(value.shape[:-2], self.batch_shape)
        shape = batch_shape + self.event_shape
        if self.encoded is not None and self.seen is None:
            return self.encoded.expand(shape)
        loc, scale = (part[..., None, :] for part in (self.initial.loc, self.initial.scale))
        if self.event_shape[0] > 1:
            driving = self._driving(1, self.event_shape[0])
            after, _ = self.transition(value[..., :-1, :].expand((*batch_shape, -1, -1)), self.memory, *driving)
            loc = torch.cat([loc.expand((*batch_shape, 1, -1)), after.loc], -2)
            scale = torch.cat([scale.expand((*batch_shape, 1, -1)), after.scale], -2)
        if self.encoded is not None and self.seen is not None:
            loc = torch.where(self.seen[..., None], self.encoded.loc, loc)
            scale = torch.where(self.seen[..., None], self.encoded.scale, scale)
        steps = slice(self.event_shape[0])  # an empty path has no first step either
        return Normal(loc[..., steps, :], scale[..., steps, :], validate_args=False).expand(shape)

    def future(self, value: Tensor, horizon: int) -> RecurrentPath:
        """Distribution of the next `horizon` steps of the paths `value` (..., time, code)."""
        if not value.shape[-2]:
            initial, memory = self.initial.expand(value.shape[:-2] + value.shape[-1:]), self.memory
        else:
            driving = self._driving(1, value.shape[-2] + 1, has_more=horizon > 0)
            after, memory = self.transition(value, self.memory, *driving)
            initial = _step(after, -1)
        ahead = None if self.inputs is None else self.inputs[..., value.shape[-2] :, :]
        return RecurrentPath(initial, self.transition, horizon, memory=memory, inputs=ahead)

    def _driving(self, start: int, stop: int, has_more: bool = True) -> tuple[Tensor, ...]:
        """Inputs of some steps, as the transition takes them; nothing without inputs.

        If none are left, the last inputs are repeated, for a step that is not used.
        """
        if self.inputs is None:
            return ()
        inputs = self.inputs[..., start:stop, :]
        if not has_more and inputs.shape[-2] < stop - start:
            inputs = torch.cat([inputs, self.inputs[..., -1:, :]], -2)
        return (inputs,)


def _step(steps: Normal, time: int) -> Normal:
    """Distribution of one step, (..., code)."""
    return Normal(steps.loc[..., time, :], steps.scale[..., time, :], validate_args=False)
