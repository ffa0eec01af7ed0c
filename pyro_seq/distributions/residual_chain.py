"""Noise that drives a chain of states, drawn once per frame and held over the steps of an Euler scheme.

Equation numbers are those of docs/derivations.md, (C1) to (C3).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import Normal, constraints
from torch import Tensor
from torch.distributions.kl import kl_divergence, register_kl

from pyro_seq._host import on_host
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import ShapeError
from pyro_seq.ops.precision import full_precision


class Move(Protocol):
    """Module that moves a state, such as `pyro_seq.nn.transition.ResidualTransition`."""

    noise_dim: int

    def __call__(self, state: Tensor, noise: Tensor, dt: float, *inputs: Tensor) -> Tensor:
        """State (..., state) after `dt` frames under noise (..., noise) and inputs, if any, of the frame."""
        ...


@dataclasses.dataclass(eq=False)
class _Run:
    """A path of noise (..., time, noise), and the state before the first and after every Euler step."""

    value: Tensor
    fine: Tensor
    conditionals: Normal | None = None


class ResidualChain(PathDistribution):
    r"""Distribution of the noise :math:`z_{1:T}` that drives states :math:`y_{1:T}`; event (time, noise).

    .. math::
        z_t \mid y_{t-1} \sim N\left(\mu(y_{t-1}),\ \sigma(y_{t-1})^2\right), \qquad
        y_{s + \Delta} = y_s + \Delta\, f(y_s, z_t) \quad \text{for } t - 1 \le s < t,\ \Delta = 1/n

    The states are a deterministic function of the noise, :meth:`states`; only the noise is random. It is drawn once per
    frame, given the state at which the frame begins, and held over the n Euler steps of the frame. Time is counted in
    Euler steps: `ticks` gives their number at the start and at each row of the path, so rows may lie within a frame. A
    row in which no frame begins has no effect and is standard normal; so is the first row of a chain that starts with
    `initial`.

    With `encoded`, the noise of the `seen` rows follows that Gaussian instead, and only the noise of the other rows
    depends on the state before them:

    .. math::
        q(z) = \prod_{t\ \mathrm{seen}} N(z_t \mid m_t, s_t^2) \prod_{t\ \mathrm{hidden}} p(z_t \mid y_{t-1})

    The divergence of such a chain from one without `encoded` is a sum of closed-form Gaussian divergences, given the
    drawn path,

    .. math::
        \sum_{t\ \mathrm{seen}} \mathrm{KL}\left[N(m_t, s_t^2) \,\|\, N(\mu(y_{t-1}), \sigma(y_{t-1})^2)\right],

    whose mean over draws is the exact divergence, with less variance than log q - log p. `kl_divergence` returns it for
    two chains that were last evaluated at the same path (the same tensor object), as in a trace.

    Cost: a density or the states need one call of `move` per Euler step and one of `noise_prior` for all rows; the run
    for the last path is cached. A draw calls `noise_prior` once per frame, or never if all rows are seen.

    Args:
        initial: State at the start, (..., state).
        move: Moves a state by one step of the Euler scheme.
        noise_prior: Distribution (..., noise) of the noise given the state before it; None without noise.
        num_steps: Length T of a path.
        num_substeps: Number n of Euler steps per frame.
        ticks: Number of Euler steps at the start and at each row, at least 1 + T values, the rest for :meth:`future`;
            by default the first row is the start and each later row is one frame further.
        valid: True where a row exists, (series, time); others do not count in `log_prob`.
        held: Noise of the frame in progress at the start, (..., noise), if any.
        encoded: Distribution of the seen rows, batch shape (..., time, noise).
        seen: True where `encoded` applies, (..., time).
        inputs: Inputs of the moves into each row, (..., time, input), at least `num_steps` of them, the rest for
            :meth:`future`.

    Raises:
        ShapeError: When the parts have different lengths, or a row is more than a frame away from the one before it.

    Example:
        >>> def drift(state, noise, dt):
        ...     return state + dt * noise
        >>> drift.noise_dim = 1
        >>> chain = ResidualChain(torch.zeros(1), drift, lambda state: Normal(state, 1.0), 3, num_substeps=2)
        >>> chain.states(torch.tensor([[9.0], [1.0], [2.0]])).squeeze(-1)
        tensor([0., 1., 3.])

    References:
        Franceschi, Delasalles, Chen, Lamprier, Gallinari, "Stochastic latent residual video prediction", ICML 2020.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        initial: Tensor,
        move: Move,
        noise_prior: Callable[[Tensor], Normal] | None,
        num_steps: int,
        *,
        num_substeps: int = 1,
        ticks: Sequence[int] | None = None,
        valid: Tensor | None = None,
        held: Tensor | None = None,
        encoded: Normal | None = None,
        seen: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> None:
        self.initial, self.move, self.noise_prior = initial, move, noise_prior
        self.num_substeps = num_substeps
        self.ticks = _whole_frames(num_steps, num_substeps) if ticks is None else tuple(ticks)
        self.held, self.encoded, self.seen, self.inputs = held, encoded, seen, inputs
        _check_lengths(num_steps, valid, encoded, seen)
        _check_ticks(self.ticks, num_steps, num_substeps, held)
        self.frames = _frames(self.ticks[: num_steps + 1], num_substeps)
        self._last: _Run | None = None
        batch = initial.shape[:-1]
        if encoded is not None:
            batch = torch.broadcast_shapes(batch, encoded.batch_shape[:-2])
        super().__init__(batch, torch.Size((num_steps, move.noise_dim)), valid, validate_args=False)

    @property
    def num_steps(self) -> int:
        """Length of a path."""
        return self.event_shape[0]

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> ResidualChain:
        """The same distribution over a larger batch."""
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape:
            return self
        return ResidualChain(
            self.initial.expand(batch_shape + self.initial.shape[-1:]),
            self.move,
            self.noise_prior,
            self.num_steps,
            num_substeps=self.num_substeps,
            ticks=self.ticks,
            valid=self.valid,
            held=self.held,
            encoded=self.encoded,
            seen=self.seen,
            inputs=self.inputs,
        )

    # ------------------------------------------------------------------ draws

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths of noise, with gradients."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        return self.follow(torch.randn(shape, dtype=self.initial.dtype, device=self.initial.device))

    def follow(self, standard: Tensor) -> Tensor:
        """The path given `standard` (..., time, noise), deviations from each row's mean in standard deviations."""
        path = list(standard.unbind(-2))
        if self.encoded is not None:
            given = self.encoded.loc + self.encoded.scale * standard
            for row in self.frames:
                path[row] = given[..., row, :]
            if self.seen is None or bool(on_host(self.seen)[..., list(self.frames)].all()):
                return torch.stack(path, -2) if path else standard

        def draw(row: int, state: Tensor) -> Tensor:
            assert self.noise_prior is not None
            prior = self.noise_prior(state)
            noise = prior.loc + prior.scale * standard[..., row, :]
            path[row] = noise if self.seen is None else torch.where(self.seen[..., row, None], path[row], noise)
            return path[row]

        fine = self._march(draw, standard.shape[:-2])
        value = torch.stack(path, -2) if path else standard
        self._last = _Run(value, fine)
        return value

    # ------------------------------------------------------------------ read-outs

    def states(self, value: Tensor) -> Tensor:
        """States (..., time, state) given the noise `value` (..., time, noise)."""
        start = self.ticks[0]
        return self._run(value).fine[..., [tick - start for tick in self.ticks[1 : self.num_steps + 1]], :]

    def distances(self, value: Tensor) -> Tensor:
        """Sum of the norms of the moves that lead to each row, (..., time)."""
        fine = self._run(value).fine
        norms = torch.linalg.vector_norm(fine.diff(dim=-2), dim=-1)
        rows = [row for row in range(self.num_steps) for _ in range(self.ticks[row], self.ticks[row + 1])]
        index = torch.tensor(rows, dtype=torch.long, device=fine.device)
        return norms.new_zeros((*norms.shape[:-1], self.num_steps)).index_add(-1, index, norms)

    # ------------------------------------------------------------------ density

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of paths (..., time, noise)."""
        terms = self.conditionals(value).log_prob(value).sum(-1)
        return (terms if self.valid is None else torch.where(self.valid, terms, 0.0)).sum(-1)

    def conditionals(self, value: Tensor) -> Normal:
        """Distribution of each row of paths `value` (..., time, noise) given those before it, of the same shape."""
        if self.encoded is not None and self.seen is None:
            return self._with_encoded(self._standard(value))
        run = self._run(value)
        if run.conditionals is None:
            run.conditionals = self._with_encoded(self._given_states(run))
        return run.conditionals

    def future(self, value: Tensor, horizon: int, *, num_substeps: int | None = None) -> ResidualChain:
        """Distribution of the noise of the next `horizon` rows after the paths `value` (..., time, noise).

        With another `num_substeps`, `ticks` after the last row count steps of the new size, from the last row on.

        Raises:
            ShapeError: When `num_substeps` changes within a frame.
        """
        n, last = self.num_substeps, self.ticks[self.num_steps]
        known = self.ticks[self.num_steps : self.num_steps + horizon + 1]
        held = value[..., max(self.frames), :] if self.frames else self.held
        if num_substeps is not None and num_substeps != n:
            if last % n:
                raise ShapeError(
                    f"`num_substeps` can change from {n} to {num_substeps} between frames only. Got a path that ends "
                    f"within one, {last} Euler steps from the start. Begin the future at a whole frame."
                )
            n, known = num_substeps, tuple(tick - last for tick in known)
            last = 0
        return ResidualChain(
            self._run(value).fine[..., -1, :],
            self.move,
            self.noise_prior,
            horizon,
            num_substeps=n,
            ticks=known if len(known) > 1 else tuple(last + n * row for row in range(horizon + 1)),
            held=held if last % n else None,
            inputs=None if self.inputs is None else self.inputs[..., self.num_steps :, :],
        )

    # ------------------------------------------------------------------ the recursion

    def _run(self, value: Tensor) -> _Run:
        """The states given `value`; the last path's are cached."""
        if self._last is None or self._last.value is not value:
            batch = torch.broadcast_shapes(value.shape[:-2], self.batch_shape)
            self._last = _Run(value, self._march(lambda row, _: value[..., row, :].expand(*batch, -1), batch))
        return self._last

    @full_precision
    def _march(self, noise_of: Callable[[int, Tensor], Tensor], batch: torch.Size) -> Tensor:
        """The state before the first and after every Euler step, (..., 1 + steps, state)."""
        state = self.initial.expand(*batch, -1)
        noise = state[..., :0] if self.held is None else self.held.expand(*batch, -1)
        frames, fine, dt = self.frames, [state], 1.0 / self.num_substeps
        for row in range(self.num_steps):
            driving = () if self.inputs is None else (self.inputs[..., row, :].expand(*batch, -1),)
            for tick in range(self.ticks[row], self.ticks[row + 1]):
                if frames.get(row) == tick and self.move.noise_dim:
                    noise = noise_of(row, state)
                state = self.move(state, noise, dt, *driving)
                fine.append(state)
        return torch.stack(fine, -2)

    def _standard(self, value: Tensor) -> Normal:
        """Standard normals for every row."""
        zeros = value.new_zeros(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        return Normal(zeros, torch.ones_like(zeros), validate_args=False)

    @full_precision
    def _given_states(self, run: _Run) -> Normal:
        """The prior of each row given the state in which its frame begins; standard normal where none begins."""
        rows, standard = self.frames, self._standard(run.value)
        if not rows or self.noise_prior is None:
            return standard
        prior = self.noise_prior(run.fine[..., [tick - self.ticks[0] for tick in rows.values()], :])
        index = torch.tensor(list(rows), device=run.value.device)
        loc = standard.loc.index_copy(-2, index, prior.loc)
        return Normal(loc, standard.scale.index_copy(-2, index, prior.scale), validate_args=False)

    def _with_encoded(self, otherwise: Normal) -> Normal:
        """The encoded distribution at seen rows in which a frame begins, `otherwise` elsewhere, (C2)."""
        if self.encoded is None:
            return otherwise
        counts = self._encoded_rows()[..., None]
        loc = torch.where(counts, self.encoded.loc, otherwise.loc)
        return Normal(loc, torch.where(counts, self.encoded.scale, otherwise.scale), validate_args=False)

    def _encoded_rows(self) -> Tensor:
        """True where a frame begins and its noise is encoded, (..., time)."""
        begins = torch.zeros(self.num_steps, dtype=torch.bool, device=self.initial.device)
        begins[list(self.frames)] = True
        return begins if self.seen is None else begins & self.seen


@register_kl(ResidualChain, ResidualChain)
def _divergence(posterior: ResidualChain, prior: ResidualChain) -> Tensor:
    """(C3): sum over rows of the closed-form divergences, given the path at which both were last evaluated."""
    path = None if prior._last is None else prior._last.value
    if path is None or prior.encoded is not None or posterior.encoded is None:
        raise NotImplementedError("The divergence needs a path that was drawn, and encoded rows on one side only.")
    each = kl_divergence(posterior.encoded, prior.conditionals(path)).sum(-1)
    counts = posterior._encoded_rows()
    counts = counts if posterior.valid is None else counts & posterior.valid
    return torch.where(counts, each, 0.0).sum(-1)


def _whole_frames(num_steps: int, num_substeps: int) -> tuple[int, ...]:
    """The first row is the start; each later one is a frame away."""
    return (0, *(num_substeps * row for row in range(num_steps)))


def _frames(ticks: Sequence[int], num_substeps: int) -> dict[int, int]:
    """Rows in which a frame begins, each with the tick at which it does."""
    begins = {row: -(-tick // num_substeps) * num_substeps for row, tick in enumerate(ticks[:-1])}
    return {row: tick for row, tick in begins.items() if tick < ticks[row + 1]}


def _check_lengths(num_steps: int, valid: Tensor | None, encoded: Normal | None, seen: Tensor | None) -> None:
    steps = {
        "valid": num_steps if valid is None else valid.shape[-1],
        "encoded": num_steps if encoded is None else encoded.batch_shape[-2],
        "seen": num_steps if seen is None else seen.shape[-1],
    }
    wrong = {name: length for name, length in steps.items() if length != num_steps}
    if wrong:
        raise ShapeError(f"`num_steps` = {num_steps} must be the time axis of all parts. Got {wrong}. Cut them.")


def _check_ticks(ticks: Sequence[int], num_steps: int, num_substeps: int, held: Tensor | None) -> None:
    gaps = [after - before for before, after in itertools.pairwise(ticks[: num_steps + 1])]
    if num_substeps < 1 or len(ticks) < num_steps + 1 or not all(0 <= gap <= num_substeps for gap in gaps):
        raise ShapeError(
            f"`ticks` must be the Euler steps passed at the start and at each of {num_steps} rows, a frame of "
            f"`num_substeps` = {num_substeps} apart at most. Got {list(ticks)}."
        )
    if ticks[0] % num_substeps and held is None:
        raise ShapeError(f"`held` must be the noise of the frame that tick {ticks[0]} is within. Got None.")
