"""Values of a model's learned vector field at given states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.bayesian import FieldFunction
from pyro_seq.nn.flow import Flow, SteeredFunction
from pyro_seq.posterior import Prediction, prediction_context


def field_at(
    model: SequenceModel,
    prediction: Prediction | Mapping[str, Tensor],
    states: Tensor,
    inputs: Tensor | None = None,
) -> Tensor:
    """Evaluate the vector field at `states`, once for each draw of its weights.

    The draws are taken from a prediction, so that the field can be compared with its paths. For ODE2VAE the output is
    the acceleration at a (position, velocity).

    Args:
        model: A model with a part `vector_field`, whose random weights, if any, are one site.
        prediction: Result of a verb, or its `latents`.
        states: Probe states (probe, state).
        inputs: Inputs that drive the field, (input,) or (probe, input), in the unit of the data; their training means
            by default.

    Returns:
        Field outputs (sample, probe, output); one sample when the field has no random weights.

    Raises:
        UnsupportedError: When the model has no vector field.
        ShapeError: When `states` are not rows of states.
        DataError: When the weights are not among the latents.

    Example:
        >>> prediction = reconstruct(posterior, data)  # doctest: +SKIP
        >>> field_at(posterior.model, prediction, states).std(0)  # doctest: +SKIP
    """
    with prediction_context(model):
        function, _, states = _function_and_states(model, prediction, states, inputs)
        return function(states)


def rate_at(
    model: SequenceModel,
    prediction: Prediction | Mapping[str, Tensor],
    states: Tensor,
    inputs: Tensor | None = None,
) -> Tensor:
    """Time derivative of the whole state at `states`, (sample, probe, state): the field and the rates implied by it.

    Args:
        model: A model with parts `vector_field` and `flow`.
        prediction: Result of a verb, or its `latents`.
        states: Probe states (probe, state).
        inputs: Inputs that drive the field, as for `field_at`.
    """
    with prediction_context(model):
        function, flow, states = _function_and_states(model, prediction, states, inputs)
        return flow.rate(function, states)


def _function_and_states(
    model: SequenceModel, prediction: Prediction | Mapping[str, Tensor], states: Tensor, inputs: Tensor | None
) -> tuple[FieldFunction, Flow, Tensor]:
    """The field for all draws at once, its flow, and the states repeated for every draw."""
    field: Any = getattr(model, "vector_field", None)
    flow: Any = getattr(model, "flow", None)
    if field is None or flow is None:
        raise UnsupportedError(
            f"`model` must have a vector field and a flow. {type(model).__name__} lacks one, so there is nothing to "
            "evaluate."
        )
    like = next(iter(model.parameters()))
    states = torch.as_tensor(states, dtype=like.dtype, device=like.device)
    if states.ndim != 2 or states.shape[1] != flow.state_dim:
        raise ShapeError(
            f"`states` must be (probe, state) with {flow.state_dim} entries a state. Got {tuple(states.shape)}."
        )
    site = getattr(field, "site", None)
    if site is None or not getattr(field, "is_bayesian", True):
        return _under(model, field.prior(), states, inputs), flow, states[None]
    latents = prediction.latents if isinstance(prediction, Prediction) else prediction
    if site not in latents:
        raise DataError(
            f"`prediction` must hold draws of the site {site!r}. Got {sorted(latents)}. Pass the result of "
            "`reconstruct` or `forecast` of this model."
        )
    function = _under(model, field.function(latents[site]), states, inputs)
    return function, flow, states.expand(len(latents[site]), *states.shape)


def _under(model: SequenceModel, function: FieldFunction, states: Tensor, inputs: Tensor | None) -> FieldFunction:
    """The function at given inputs, by default their training means."""
    size = getattr(model.flow, "input_dim", 0)
    if inputs is not None and (not size or inputs.shape not in ((size,), (len(states), size))):
        raise ShapeError(f"`inputs` must be (input {size},) or (probe, input {size}). Got {tuple(inputs.shape)}.")
    if not size:
        return function
    known: Any = model.known
    standardised = states.new_zeros(size) if inputs is None else known.units(inputs.to(states))
    return SteeredFunction(function, standardised.expand(len(states), size))
