"""A linear Gaussian state-space model, checked, with missing entries turned into entries without information."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._nonfinite import is_chanced
from pyro_seq.errors import DataError, ShapeError, shape_text
from pyro_seq.ops.kalman._algebra import common_shape
from pyro_seq.ops.kalman._choice import FEW_OBS, is_compression_faster

MOSTLY = 0.8  # from this share of observed entries on, leaving out hidden ones is not worthwhile


class LinearGaussianParameters(NamedTuple):
    r"""Parameters of a linear Gaussian state-space model.

    .. math::
        z_1 \sim N(\mu, \Sigma), \qquad
        z_t = A_t z_{t-1} + B_t u_t + N(0, Q_t), \qquad
        a_t = C_t z_t + N(0, R_t)

    This is (F1) of docs/derivations.md. Index :math:`t` of :math:`A, B, Q, u` belongs to the move *into* step
    :math:`t`; there is no move before the first observation, so their first entry along time is never read.

    A matrix of two axes holds for all steps. With more axes the third from the right is time, with the length of the
    observations, or 1 for a matrix that differs between series but not over time. Leading axes broadcast.

    Attributes:
        transition: A, ``(state, state)`` or ``(*batch, time, state, state)``.
        transition_cov: Q, of the same kind; may be singular.
        observation: C, ``(obs, state)`` or ``(*batch, time, obs, state)``.
        observation_cov: R, ``(obs, obs)`` or ``(*batch, time, obs, obs)``.
        initial_mean: Mean of the state at the first observation, ``(*batch, state)``.
        initial_cov: Its covariance, ``(*batch, state, state)``.
        input_matrix: B, ``(state, input)`` or ``(*batch, time, state, input)``; None without inputs.
        inputs: u, ``(*batch, time, input)``; None without inputs.
        diffuse: True for each state with an unknown start, ``(state,)``; None if every start is known. Initial mean and
            covariance of these states then have no effect beyond rounding; a covariance of about that of the
            observations is best, and it must not be zero if the observation is noiseless.
    """

    transition: Tensor
    transition_cov: Tensor
    observation: Tensor
    observation_cov: Tensor
    initial_mean: Tensor
    initial_cov: Tensor
    input_matrix: Tensor | None = None
    inputs: Tensor | None = None
    diffuse: Tensor | None = None

    @property
    def num_steps(self) -> int | None:
        """Length of the time axes, None if nothing changes over time."""
        matrices = [*self[:4], self.input_matrix, None if self.inputs is None else self.inputs[..., None]]
        lengths = [matrix.shape[-3] for matrix in matrices if matrix is not None and matrix.ndim > 2]
        return max((length for length in lengths if length > 1), default=None)

    def between(self, start: int, stop: int) -> LinearGaussianParameters:
        """The parameters of steps `start` to `stop` - 1; the initial state is unchanged."""

        def cut(matrix: Tensor) -> Tensor:
            return matrix if matrix.ndim < 3 or matrix.shape[-3] == 1 else matrix[..., start:stop, :, :]

        return self._replace(
            transition=cut(self.transition),
            transition_cov=cut(self.transition_cov),
            observation=cut(self.observation),
            observation_cov=cut(self.observation_cov),
            input_matrix=None if self.input_matrix is None else cut(self.input_matrix),
            inputs=None if self.inputs is None else cut(self.inputs[..., None]).squeeze(-1),
        )


class System(NamedTuple):
    """Checked parameters and observations: vectors are columns, time is the third axis from the right.

    Attributes:
        transition, transition_cov, observation, observation_cov: As in the parameters, always with a time axis, of
            length ``time`` or 1.
        offset: B u, ``(*batch, time, state, 1)``, or None.
        initial_mean: ``(*batch, state, 1)``.
        initial_cov: ``(*batch, state, state)``.
        values: ``(*batch, time, obs, 1)``, 0 where hidden.
        num_seen: Number of observed entries of a step, ``(*batch, time)``.
        batch_shape: Broadcast shape of all leading axes.
        diffuse: As in the parameters.
        is_compressed: Whether the filter compresses the observations; C and R are then those of all entries.
        weight: 1 at observed entries, ``(*batch, time, obs, 1)``, if `is_compressed` and some are hidden, else None.
        counts: Number of leading rows of an observation with information at each step, if hidden ones were put last,
            else None.
    """

    transition: Tensor
    transition_cov: Tensor
    observation: Tensor
    observation_cov: Tensor
    offset: Tensor | None
    initial_mean: Tensor
    initial_cov: Tensor
    values: Tensor
    num_seen: Tensor
    batch_shape: torch.Size
    diffuse: Tensor | None
    is_compressed: bool
    weight: Tensor | None
    counts: tuple[int, ...] | None

    @property
    def num_steps(self) -> int:
        """Number of observations."""
        return self.values.shape[-3]

    @property
    def num_covs(self) -> int:
        """Number of series whose covariances are computed: 1 if all series share them."""
        matrices = (self.transition, self.transition_cov, self.observation, self.observation_cov, self.weight)
        batches = [matrix.shape[:-3] for matrix in matrices if matrix is not None]
        return common_shape(*batches, self.initial_cov.shape[:-2]).numel()

    def log_constant(self, num_entries: Tensor) -> Tensor:
        r"""The constant of the Gaussian log density of some entries, :math:`n \log(2 \pi) / 2`."""
        return num_entries * (0.5 * torch.log(self.values.new_tensor(2 * torch.pi)))

    def after_first(self, name: str) -> Tensor:
        """A quantity that belongs to the moves, without its entry at the first step, which has no move."""
        quantity = getattr(self, name)
        return quantity if quantity.shape[-3] == 1 and self.num_steps > 1 else quantity[..., 1:, :, :]


def prepare(
    values: Tensor, parameters: LinearGaussianParameters, mask: Tensor | None, *, may_rearrange: bool = False
) -> System:
    """Check all arguments and take missing entries out of the observation equation, or leave them for compression.

    Row and column of a missing entry leave C and R, and R gets a 1 on the diagonal: the innovation of that entry is 0,
    independent of all else and of unit variance, so it changes no mean or covariance, and adds only a constant to the
    likelihood, which is left out. This is exact for every pattern, even with correlated noise.
    """
    seen = _check_values(values, mask)
    _check_parameters(values, parameters)
    transition, transition_cov, observation, observation_cov = (
        matrix if matrix.ndim > 2 else matrix[None] for matrix in parameters[:4]
    )
    offset = None
    if parameters.input_matrix is not None and parameters.inputs is not None:
        offset = parameters.input_matrix @ parameters.inputs[..., None]
    is_compressed = may_rearrange and is_compression_faster(*observation.shape[-2:])
    is_compressed = is_compressed and _is_independent(observation_cov)
    weight = counts = None
    if mask is not None:
        values = torch.where(seen, values, 0.0)
        weight = seen.to(values.dtype)[..., None]
    if weight is not None and not is_compressed:
        observation = weight * observation
        observation_cov = weight * observation_cov * weight.mT + torch.diag_embed(1 - weight.squeeze(-1))
        weight = None
        counts = most_seen(seen) if may_rearrange else None
        if counts is not None:
            values, observation, observation_cov = _seen_first(seen, values, observation, observation_cov)
    batches = [tensor.shape[:-3] for tensor in (transition, transition_cov, observation, observation_cov)]
    batches += [values.shape[:-2], parameters.initial_mean.shape[:-1], parameters.initial_cov.shape[:-2]]
    batches += [] if offset is None else [offset.shape[:-3]]
    return System(
        transition,
        transition_cov,
        observation,
        observation_cov,
        offset,
        parameters.initial_mean[..., None],
        parameters.initial_cov,
        values[..., None],
        seen.sum(-1),
        _broadcast(batches),
        parameters.diffuse,
        is_compressed,
        weight,
        counts,
    )


def most_seen(seen: Tensor) -> tuple[int, ...] | None:
    """Largest number of observed entries of each step over the series; None if leaving out the rest saves little.

    A step of the filter costs the cube of the entries; sorting them costs a pass over all observation matrices.
    """
    num_obs = seen.shape[-1]
    if num_obs < FEW_OBS or seen.device.type != "cpu":
        return None
    most = seen.sum(-1).reshape(-1, seen.shape[-2]).amax(0)
    counts = tuple(most.tolist())
    return counts if sum(counts) < MOSTLY * num_obs * len(counts) else None


def _seen_first(seen: Tensor, values: Tensor, observation: Tensor, observation_cov: Tensor) -> tuple[Tensor, ...]:
    """Entries of each step in another order, the hidden ones last; matrices have the axes of `seen` or more."""
    order = seen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    rows_moved = _in_order(observation_cov, order)
    return (
        values.take_along_dim(order, -1),
        _in_order(observation, order),
        _in_order(rows_moved.mT, order).mT,
    )


def _in_order(matrices: Tensor, order: Tensor) -> Tensor:
    """Rows of each matrix in its given order; whole rows are copied, which is ten times as fast as single entries."""
    order = order.expand(*matrices.shape[:-1])
    start = torch.arange(0, order.numel(), order.shape[-1], device=order.device)
    index = (order.reshape(-1, order.shape[-1]) + start[:, None]).flatten()
    return matrices.reshape(-1, matrices.shape[-1]).index_select(0, index).reshape(matrices.shape)


def _is_independent(cov: Tensor) -> bool:
    """True where all covariances are diagonal, with positive variances."""
    variances = cov.detach().diagonal(dim1=-2, dim2=-1)
    return bool((variances > 0).all()) and int(cov.detach().count_nonzero()) == variances.numel()


def _check_values(values: Tensor, mask: Tensor | None) -> Tensor:
    """True where an entry is observed, in the shape of `values`."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise DataError(f"`values` must be a floating-point tensor. Got {kind}. Convert it with `.to(torch.float64)`.")
    if values.ndim < 2 or not values.shape[-1] or not values.shape[-2]:
        raise ShapeError(
            "`values` must be (*batch, time, obs) with at least one step and one entry. "
            f"Got the shape {tuple(values.shape)}. Add an axis to scalar observations with `values[..., None]`."
        )
    if mask is None:
        seen = torch.ones_like(values, dtype=torch.bool)
    elif mask.dtype != torch.bool:
        raise DataError(f"`mask` must be boolean, True where observed. Got {mask.dtype}. Convert it with `.bool()`.")
    elif mask.shape == values.shape:
        seen = mask
    elif mask.shape == values.shape[:-1]:
        seen = mask[..., None].expand_as(values)
    elif mask.shape[-2:] == values.shape[-2:] and _broadcasts(mask.shape[:-2], values.shape[:-2]):
        seen = mask  # not expanded, so that values that share the mask share covariances
    else:
        raise ShapeError(
            "`mask` must have the shape of `values`, or that without the last axis. "
            f"Got {tuple(mask.shape)} for values {tuple(values.shape)}. Expand it over the leading axes."
        )
    wrong = seen & ~values.detach().isfinite()
    if not is_chanced() and wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise DataError(
            f"`values` must be finite where observed. Got values{place} = {values[tuple(place)].item()}, "
            f"one of {int(wrong.sum())} such entries. Pass a `mask` that is False there."
        )
    return seen


def _broadcasts(shape: torch.Size, larger: torch.Size) -> bool:
    """Whether leading axes are those of the larger shape, or 1, or absent."""
    return len(shape) <= len(larger) and all(
        one in (1, other) for one, other in zip(reversed(shape), reversed(larger), strict=False)
    )


def _check_parameters(values: Tensor, parameters: LinearGaussianParameters) -> None:
    for name, tensor in parameters._replace(diffuse=None)._asdict().items():
        if tensor is not None and (tensor.dtype, tensor.device) != (values.dtype, values.device):
            raise DataError(
                f"`{name}` must have the dtype and device of `values`, {values.dtype} on {values.device}. "
                f"Got {tensor.dtype} on {tensor.device}. Convert it with `.to(values)`."
            )
    if (parameters.input_matrix is None) != (parameters.inputs is None):
        raise DataError("`input_matrix` and `inputs` must be given together. Got only one of them. Pass both or none.")
    time, obs = values.shape[-2:]
    state = parameters.initial_mean.shape[-1] if parameters.initial_mean.ndim else 0
    if not state:
        raise ShapeError(f"`initial_mean` must be (*batch, state). Got {tuple(parameters.initial_mean.shape)}.")
    _check_matrix("transition", parameters.transition, ("state", state), ("state", state), time)
    _check_matrix("transition_cov", parameters.transition_cov, ("state", state), ("state", state), time)
    _check_matrix("observation", parameters.observation, ("obs", obs), ("state", state), time)
    _check_matrix("observation_cov", parameters.observation_cov, ("obs", obs), ("obs", obs), time)
    if parameters.initial_cov.ndim < 2 or parameters.initial_cov.shape[-2:] != (state, state):
        raise ShapeError(
            f"`initial_cov` must be (*batch, state {state}, state {state}), as `initial_mean` has {state} entries. "
            f"Got {tuple(parameters.initial_cov.shape)}."
        )
    diffuse = parameters.diffuse
    if diffuse is not None and (diffuse.dtype != torch.bool or diffuse.shape != (state,)):
        raise ShapeError(
            f"`diffuse` must be boolean with an entry for each state, (state {state},). "
            f"Got {diffuse.dtype} {tuple(diffuse.shape)}."
        )
    if parameters.input_matrix is not None and parameters.inputs is not None:
        inputs = parameters.inputs
        if inputs.ndim < 2 or inputs.shape[-2] not in (1, time):
            raise ShapeError(f"`inputs` must be (*batch, time {time}, input). Got {tuple(inputs.shape)}.")
        _check_matrix("input_matrix", parameters.input_matrix, ("state", state), ("input", inputs.shape[-1]), time)


def _check_matrix(name: str, matrix: Tensor, rows: tuple[str, int], columns: tuple[str, int], time: int) -> None:
    shape = (rows[1], columns[1])
    if matrix.ndim < 2 or matrix.shape[-2:] != shape or (matrix.ndim > 2 and matrix.shape[-3] not in (1, time)):
        expected = shape_text(shape, (rows[0], columns[0]))
        raise ShapeError(
            f"`{name}` must be {expected} or (*batch, time {time} or 1, {expected[1:]}. "
            f"Got {tuple(matrix.shape)}. A matrix for each series that is constant over time needs a time axis of 1."
        )


def _broadcast(batches: list[torch.Size]) -> torch.Size:
    try:
        return common_shape(*batches)
    except RuntimeError:
        found = ", ".join(str(tuple(batch)) for batch in dict.fromkeys(batches) if batch)
        raise ShapeError(
            f"The leading axes of `values` and of the parameters must broadcast. Got {found}. "
            "Time is the third axis from the right of a matrix; everything in front of it is batch."
        ) from None
