"""One step of the Kalman filter at a time; equations are those of docs/derivations.md."""

from __future__ import annotations

from torch import Tensor

from pyro_seq.errors import ShapeError, UnsupportedError
from pyro_seq.ops.kalman._algebra import require_positive
from pyro_seq.ops.kalman._filter_gradient import INNOVATION_REMEDY
from pyro_seq.ops.kalman._recursion import condition, log_density, predict
from pyro_seq.ops.kalman.routines import FilterResult
from pyro_seq.ops.kalman.system import LinearGaussianParameters, prepare
from pyro_seq.ops.precision import full_precision

__all__ = ["step"]


@full_precision
def step(
    value: Tensor,
    parameters: LinearGaussianParameters,
    previous: FilterResult | None = None,
    mask: Tensor | None = None,
) -> FilterResult:
    """Filter one observation: for data that arrive one by one, or parameters that depend on the prediction.

    With `mask` False throughout it only predicts; the parameters of the observation can then be chosen from the
    prediction, and a second call with the same `previous` includes the observation.

    Args:
        value: One observation, ``(*batch, obs)``.
        parameters: Parameters of this step: matrices without a time axis, such as ``(*batch, state, state)``, and
            inputs ``(*batch, input)``.
        previous: Result of the step before; None at the first observation, where the initial state is used.
        mask: True where observed, ``(*batch,)`` or ``(*batch, obs)``; None if all are.

    Returns:
        Moments ``(*batch, state)`` and ``(*batch, state, state)``, and the log density of this observation given the
        ones before; the sum over steps is the log-likelihood.

    Raises:
        ShapeError: If shapes do not fit.
        DataError: If an observed value is not finite, or dtypes or devices differ.
        NumericalError: If the covariance of the innovation is not positive definite.
        UnsupportedError: If the first step has a state with an unknown (diffuse) start.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> first = step(torch.tensor([2.0]), walk)
        >>> step(torch.tensor([3.0]), walk, first).filtered_means
        tensor([2.2000])
    """
    if not value.ndim:
        raise ShapeError("`value` must be (*batch, obs). Got a scalar. Add an axis with `value[None]`.")
    if previous is not None:
        parameters = parameters._replace(
            initial_mean=previous.filtered_means, initial_cov=previous.filtered_covs, diffuse=None
        )
    if parameters.diffuse is not None:
        raise UnsupportedError(
            "The first step needs a known start. Got `diffuse` in the parameters. Filter the first observations with "
            "`kalman_filter`, until they determine the state, and go on from its last moments as `previous`."
        )
    system = prepare(
        value.unsqueeze(-2), _with_time(parameters), None if mask is None else _mask_with_time(mask, value)
    )
    mean, cov = system.initial_mean, system.initial_cov
    if previous is not None:
        offset = None if system.offset is None else system.offset[..., 0, :, :]
        mean, cov = predict(mean, cov, system.transition[..., 0, :, :], system.transition_cov[..., 0, :, :], offset)
    observation = system.observation[..., 0, :, :]
    seen = condition(cov, observation, system.observation_cov[..., 0, :, :])
    require_positive((seen.failed == 0)[None], "innovation", INNOVATION_REMEDY)
    innovation = system.values[..., 0, :, :] - observation @ mean  # (F3)
    observed_mean = mean + seen.gain @ innovation  # (F5)
    # a hidden entry has innovation 0 and unit variance, so only the constant must exclude it
    likelihood = log_density(innovation, seen.factor) - system.log_constant(system.num_seen.sum(-1))  # (F7)
    batch, shape = system.batch_shape, cov.shape[-2:]
    return FilterResult(
        observed_mean.squeeze(-1).expand(*batch, -1),
        seen.cov.expand(*batch, *shape),
        mean.squeeze(-1).expand(*batch, -1),
        cov.expand(*batch, *shape),
        likelihood.expand(batch),
    )


def _with_time(parameters: LinearGaussianParameters) -> LinearGaussianParameters:
    inputs, input_matrix = parameters.inputs, parameters.input_matrix
    return parameters._replace(
        transition=parameters.transition.unsqueeze(-3),
        transition_cov=parameters.transition_cov.unsqueeze(-3),
        observation=parameters.observation.unsqueeze(-3),
        observation_cov=parameters.observation_cov.unsqueeze(-3),
        input_matrix=None if input_matrix is None else input_matrix.unsqueeze(-3),
        inputs=None if inputs is None else inputs.unsqueeze(-2),
    )


def _mask_with_time(mask: Tensor, value: Tensor) -> Tensor:
    return mask.unsqueeze(-2) if mask.ndim == value.ndim else mask.unsqueeze(-1)
