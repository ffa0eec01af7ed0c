"""The linear Gaussian law of a model's observations, and that of a single step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.errors import UnsupportedError
from pyro_seq.model import SequenceModel
from pyro_seq.ops.kalman import LinearGaussianParameters

_COMPARED = 3  # last transitions of a series, whose law must not depend on the number of earlier steps


_ONLINE = (
    "On-line filtering needs observations with a linear Gaussian law, as those of `DynamicFactors`.",
    "Predict from all that was seen so far, by `forecast`, and in gaps by `impute(is_causal=True)`.",
)


def law_of(
    model: SequenceModel, data: Sequences, latents: Mapping[str, Tensor], refusal: tuple[str, str] = _ONLINE
) -> LinearGaussian:
    """The law of the observations at the steps of `data`; `refusal` says what needs it, and the way out.

    Raises:
        UnsupportedError: When the law is not linear Gaussian.
    """
    law = model.marginal(data, latents)
    if not isinstance(law, LinearGaussian):
        need, way_out = refusal
        raise UnsupportedError(f"{need} Those of {type(model).__name__} have {type(law).__name__}. {way_out}")
    return law


def require_local_moves(
    model: SequenceModel, data: Sequences, latents: Mapping[str, Tensor], law: LinearGaussian
) -> None:
    """Refuse a law whose last transitions change on a short grid with only the first step before them.

    Raises:
        UnsupportedError: With the parameter that differs.
    """
    for last in range(max(data.num_steps - _COMPARED, 2), data.num_steps):
        short = data.take_steps(torch.tensor([0, last - 1, last]))
        here, there = at_step(law.parameters, last), at_step(law_of(model, short, latents).parameters, 2)
        for name, own in here._asdict().items():
            if own is None or name in ("initial_mean", "initial_cov", "diffuse"):
                continue
            other = getattr(there, name)
            if not torch.allclose(own, other, rtol=1e-4, atol=1e-6 * float(own.abs().max())):
                raise UnsupportedError(
                    f"On-line filtering needs a law whose `{name}` at a step depends on its time, its inputs and the "
                    f"time of the step before. That of {type(model).__name__} depends on how many steps came before. "
                    "Write it as a function of `data.times`, or predict by `forecast`."
                )


def at_step(parameters: LinearGaussianParameters, number: int) -> LinearGaussianParameters:
    """The parameters of one step, without a time axis."""

    def one(matrix: Tensor) -> Tensor:
        return matrix if matrix.ndim < 3 else matrix[..., number if matrix.shape[-3] > 1 else 0, :, :]

    inputs, input_matrix = parameters.inputs, parameters.input_matrix
    return parameters._replace(
        transition=one(parameters.transition),
        transition_cov=one(parameters.transition_cov),
        observation=one(parameters.observation),
        observation_cov=one(parameters.observation_cov),
        input_matrix=None if input_matrix is None else one(input_matrix),
        inputs=None if inputs is None else one(inputs[..., None]).squeeze(-1),
    )
