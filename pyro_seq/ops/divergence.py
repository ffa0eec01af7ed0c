r"""Traces of Jacobians, :math:`\sum_j \partial f_j / \partial x_{a+j}`: closed form, exact, and by random probes.

Purpose and derivations: docs/derivations.md, (V1) to (V5).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.mlp import Activation, Layers, fold, linear

Function = Callable[[Tensor], Tensor]


def exact_divergence(field: Function, state: Tensor, *, inputs: slice | None = None) -> Tensor:
    r"""The trace of :math:`\partial f / \partial x_{inputs}` by one forward-mode derivative per input.

    .. math::
        \sum_j e_j^\top \frac{\partial f}{\partial x} e_{a+j}

    This is (V3) of docs/derivations.md. Differentiable.

    Cost: as many Jacobian-vector products as traced inputs, batched, over one evaluation.

    Args:
        field: Any differentiable map of ``(..., n)`` to ``(..., q)`` that treats the leading axes as a batch.
        state: Point of evaluation, ``(..., n)``.
        inputs: The ``q`` inputs that pair with the outputs; None means all.

    Returns:
        The trace, ``(...)``.

    Raises:
        ShapeError: If the slice and the outputs differ in number.

    Example:
        >>> exact_divergence(lambda x: x**2, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([ 6., 14.])
    """
    chosen = _chosen(state.shape[-1], inputs)
    basis = torch.eye(state.shape[-1], dtype=state.dtype, device=state.device)[chosen]
    basis = basis.reshape(len(chosen), *[1] * (state.ndim - 1), -1).expand(-1, *state.shape)
    columns = torch.func.vmap(lambda direction: torch.func.jvp(field, (state,), (direction,))[1])(basis)
    _check_outputs(columns.shape[-1], len(chosen))
    return columns.diagonal(dim1=0, dim2=-1).sum(-1)


def hutchinson_divergence(
    field: Function,
    state: Tensor,
    *,
    generator: torch.Generator,
    inputs: slice | None = None,
    num_probes: int = 1,
) -> Tensor:
    r"""An unbiased estimate of the trace from random signs (Rademacher probes).

    .. math::
        \frac1m \sum_{i=1}^m \epsilon_i^\top \frac{\partial f}{\partial x_{inputs}}\, \epsilon_i,
        \qquad \operatorname{Var} = \frac1m \sum_{j \ne k} \tfrac12 (J_{jk} + J_{kj})^2

    This is (V4) of docs/derivations.md. Each call draws new probes, which fixed-step solvers average over their stages,
    but adaptive ones mistake for stiffness.

    Cost: ``num_probes`` Jacobian-vector products, in any dimension.

    Args:
        field: As in :func:`exact_divergence`.
        state: Point of evaluation, ``(..., n)``.
        generator: Random generator of the signs.
        inputs: The inputs that pair with the outputs; None means all.
        num_probes: Number of probes to average.

    Returns:
        The estimate, ``(...)``.

    Raises:
        ShapeError: If the slice and the outputs differ in number.
        DataError: If there is no probe.

    References:
        Hutchinson (1990); Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud (2019).
    """
    if num_probes < 1:
        raise DataError(f"`num_probes` must be at least 1. Got {num_probes}.")
    chosen = _chosen(state.shape[-1], inputs)
    shape = (num_probes, *state.shape[:-1], len(chosen))
    signs = (2 * torch.randint(2, shape, generator=generator, device=generator.device) - 1).to(state)
    before = chosen.start
    directions = torch.nn.functional.pad(signs, (before, state.shape[-1] - before - len(chosen)))
    columns = torch.func.vmap(lambda direction: torch.func.jvp(field, (state,), (direction,))[1])(directions)
    _check_outputs(columns.shape[-1], len(chosen))
    return (columns * signs).sum(-1).mean(0)


def mlp_divergence(layers: Layers, activation: Activation, state: Tensor, *, inputs: slice | None = None) -> Tensor:
    r"""The trace for a multilayer perceptron in closed form, without its Jacobian.

    With :math:`d_l` the activation's slopes in hidden layer :math:`l` and :math:`V` the chosen columns of
    :math:`W_1`, one and two hidden layers need only the forward pass and one product:

    .. math::
        \operatorname{tr}(W_2 D_1 V) = d_1^\top \operatorname{diag}(V W_2), \qquad
        \operatorname{tr}(W_3 D_2 W_2 D_1 V) = d_2^\top \bigl(W_2 \odot (V W_3)^\top\bigr) d_1

    Deeper ones carry the ``q`` columns of :math:`D_1 V` through the middle layers. Differentiable in weights and state.

    Args:
        layers: Weight ``(*sample, out, in)`` and bias ``(*sample, out)`` or None of each layer, the last one linear.
        activation: The function between them and its derivative, from :data:`pyro_seq.ops.mlp.ACTIVATIONS`.
        state: Input of the first layer, ``(..., *sample, series, n)``.
        inputs: The ``q`` inputs that pair with the outputs; None means all.

    Returns:
        The trace, ``(..., *sample, series)``.

    Raises:
        ShapeError: If the slice and the outputs differ in number.
    """
    chosen = _chosen(state.shape[-1], inputs)
    last = layers[-1][0]
    _check_outputs(last.shape[-2], len(chosen))
    columns = layers[0][0][..., chosen.start : chosen.stop]  # V
    if len(layers) == 1:
        trace = columns.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None]
        return trace.expand(torch.broadcast_shapes(trace.shape, state.shape[:-1]))
    state, unfold = fold(state, last.ndim - 2)
    slopes = []  # the two closed forms below are (V5) of docs/derivations.md
    for weight, bias in layers[:-1]:
        before = linear(state, weight, bias)
        state = activation.function(before)
        slopes.append(activation.derivative(before, state))
    if len(layers) == 2:
        terms = slopes[0] * (columns * last.mT).sum(-1).unsqueeze(-2)
    elif len(layers) == 3:
        terms = slopes[1] * linear(slopes[0], layers[1][0] * (columns @ last).mT)
    else:
        terms = _last_terms(layers, slopes, columns)
    return unfold(terms.sum(-1, keepdim=True)).squeeze(-1)


def _last_terms(layers: Layers, slopes: list[Tensor], columns: Tensor) -> Tensor:
    """Carry the q columns of D1 V as rows ``(*sample, series, q, hidden)`` and close with the last weight."""
    rows = slopes[0].unsqueeze(-2) * columns.mT.unsqueeze(-3)
    for (weight, _), slope in zip(layers[1:-1], slopes[1:], strict=True):
        sizes = rows.shape[-3:-1]
        rows = linear(rows.flatten(-3, -2), weight).unflatten(-2, sizes) * slope.unsqueeze(-2)
    return (rows * layers[-1][0].unsqueeze(-3)).sum(-2)


def _chosen(size: int, inputs: slice | None) -> range:
    chosen = range(*(inputs or slice(None)).indices(size))
    if chosen.step != 1 or not len(chosen):
        raise ShapeError(f"`inputs` must be a non-empty slice of step 1 of the {size} inputs. Got {inputs}.")
    return chosen


def _check_outputs(num_outputs: int, num_inputs: int) -> None:
    if num_outputs != num_inputs:
        raise ShapeError(
            f"A trace pairs outputs with inputs one to one. Got {num_outputs} outputs and {num_inputs} inputs. "
            "Choose the inputs with `inputs=slice(start, stop)`."
        )
