"""Vector fields: a Bayesian multilayer perceptron, and any deterministic module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.nn.weight_posterior import MeanField, WeightPosterior
from pyro_seq.ops.divergence import exact_divergence, mlp_divergence
from pyro_seq.ops.mlp import (
    ACTIVATIONS,
    Activation,
    Layers,
    LayerSweep,
    apply_layers,
    has_layer_sweep,
    record_layers,
)


class FieldFunction(Protocol):
    """One function drawn from a random field, the same along a whole path."""

    def __call__(self, state: Tensor) -> Tensor:
        """Right-hand side at `state` (..., series, state)."""
        ...

    def divergence(self, state: Tensor, inputs: slice) -> Tensor:
        """Trace of the Jacobian with respect to the entries `inputs` of `state`, (..., series)."""
        ...


class VectorField(Protocol):
    """A random function: its Pyro prior, used in a `model`, and its variational posterior, used in a `guide`."""

    def prior(self) -> FieldFunction:
        """Sample a function (outside of any plate)."""
        ...

    def posterior(self) -> None:
        """Sample the same sites from the variational posterior."""
        ...


class MLPFunction:
    r"""A multilayer perceptron with given weights: one function, or a batch of them along leading sample axes.

    Args:
        layers: Weight (\*sample, out, in) and bias (\*sample, out) of each layer.
        activation: Between layers, with its derivative.
    """

    def __init__(self, layers: Layers, activation: Activation) -> None:
        self.layers = layers
        self.activation = activation

    def __call__(self, state: Tensor) -> Tensor:
        r"""Evaluate at `state` (..., \*sample, series, state)."""
        return apply_layers(self.layers, self.activation, state)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Weights and biases, by layer."""
        return tuple(tensor for layer in self.layers for tensor in layer if tensor is not None)

    def has_sweep(self, state: Tensor) -> bool:
        """Whether `record` accepts states with these axes."""
        return has_layer_sweep(self.layers, state)

    def record(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The value, and the records that a sweep needs; see `pyro_seq.ops.mlp.LayerSweep`."""
        return record_layers(self.layers, self.activation, state)

    def sweep(self, tensors: tuple[Tensor, ...], records: Sequence[Tensor]) -> LayerSweep:
        """The transposed Jacobians at stacked records."""
        given = iter(tensors)
        layers = [(next(given), None if bias is None else next(given)) for _, bias in self.layers]
        return LayerSweep(layers, self.activation, records)

    def divergence(self, state: Tensor, inputs: slice) -> Tensor:
        r"""Closed-form trace of the Jacobian with respect to `inputs`, (..., \*sample, series)."""
        return mlp_divergence(self.layers, self.activation, state, inputs=inputs)


@rebuildable
class BayesianMLP(nn.Module):
    r"""A multilayer perceptron whose weights are random.

    .. math::
        p(w) = \mathcal N(0, \sigma_0^2 I), \qquad q(w) = \mathcal N(\mu, \Sigma)

    The divergence of q from p has a closed form for each `guide`. All weights and biases form one flat site, sampled
    outside the series plate, so that one function is drawn per joint sample and used along every path. Several
    functions are evaluated at once, with one batched matrix product per layer.

    Args:
        in_dim: Size of the state.
        out_dim: Size of the right-hand side.
        hidden_dims: Widths of the hidden layers.
        activation: Between layers, one of `pyro_seq.ops.mlp.ACTIVATIONS`.
        is_bayesian: False uses point estimates of the weights: an ordinary network, without a sample site.
        prior_scale: Standard deviation :math:`\sigma_0` of the prior of every weight and bias.
        initial_scale: Initial standard deviation of the posterior, short for ``guide=MeanField(initial_scale)``.
            Default: 0.01.
        has_tied_scale: One standard deviation for all weights (as in the authors' code) instead of one each, short for
            ``guide=MeanField(is_tied=True)``.
        site: Name of the sample site.
        guide: Family of the posterior: `MeanField` (default), `LowRank` or `FullCovariance`.

    Raises:
        DataError: When a scale is not positive, a guide does not fit the number of weights, or an argument would have
            no effect.

    Example:
        >>> from pyro_seq.nn.weight_posterior import LowRank
        >>> field = BayesianMLP(4, 2, (8,), guide=LowRank(rank=3, initial_scale=0.03))
        >>> field.weight_distribution().event_shape
        torch.Size([58])

    References:
        Yildiz, Heinonen, Lahdesmaki, "ODE2VAE", NeurIPS 2019, section 3.1.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dims: Sequence[int] = (50, 50),
        *,
        activation: Activation = ACTIVATIONS["tanh"],
        is_bayesian: bool = True,
        prior_scale: float = 1.0,
        initial_scale: float | None = None,
        has_tied_scale: bool = False,
        site: str = "weights",
        guide: WeightPosterior | None = None,
    ) -> None:
        super().__init__()
        if not (prior_scale > 0 and (initial_scale is None or initial_scale > 0)):
            raise DataError(f"`prior_scale` and `initial_scale` must be positive. Got {prior_scale}, {initial_scale}.")
        self.sizes = (in_dim, *hidden_dims, out_dim)
        self.activation = activation
        self.is_bayesian = is_bayesian
        self.prior_scale = prior_scale
        self.site = site
        self.loc = nn.Parameter(self._initial_weights())
        self._guide = _guide(guide, initial_scale, has_tied_scale, is_bayesian)
        spread = self._guide.initial(self.num_weights) if is_bayesian else {}
        for name, value in spread.items():
            self.register_parameter(name, nn.Parameter(value))
        self._spread = tuple(spread)

    @property
    def num_weights(self) -> int:
        """Number of weights and biases."""
        return self.loc.numel()

    def prior(self) -> MLPFunction:
        """Sample a function from the prior (or return the only one, when not Bayesian)."""
        if not self.is_bayesian:
            return self.mean_function()
        zeros = torch.zeros_like(self.loc)
        return self.function(pyro.sample(self.site, dist.Normal(zeros, self.prior_scale).to_event(1)))

    def posterior(self) -> None:
        """Sample the weights from the variational posterior."""
        if self.is_bayesian:
            pyro.sample(self.site, self.weight_distribution())

    def weight_distribution(self) -> dist.TorchDistribution:
        """The variational posterior of the weights: batch (), event (weight,).

        Raises:
            UnsupportedError: When the field is not Bayesian.
        """
        if not self.is_bayesian:
            raise UnsupportedError(
                "The weights of a `BayesianMLP` with `is_bayesian=False` are no random variables. They are `field.loc`."
            )
        return self._guide.distribution(self.loc, {name: getattr(self, name) for name in self._spread})

    def mean_function(self) -> MLPFunction:
        """The function at the posterior mean of the weights."""
        return self.function(self.loc)

    def function(self, weights: Tensor) -> MLPFunction:
        r"""The function with flat weights (\*sample, weight); the plate's axis, (\*sample, 1, weight), is dropped."""
        if weights.ndim > 1 and weights.shape[-2] == 1:
            weights = weights.squeeze(-2)
        sample_shape, layers, start = weights.shape[:-1], [], 0
        for size_in, size_out in zip(self.sizes, self.sizes[1:], strict=False):
            weight = weights[..., start : start + size_in * size_out].reshape(*sample_shape, size_out, size_in)
            start += size_in * size_out
            layers.append((weight, weights[..., start : start + size_out]))
            start += size_out
        return MLPFunction(layers, self.activation)

    def _initial_weights(self) -> Tensor:
        """Glorot-uniform weights and zero biases, flat."""
        parts = []
        for size_in, size_out in zip(self.sizes, self.sizes[1:], strict=False):
            parts += [nn.init.xavier_uniform_(torch.empty(size_out, size_in)).flatten(), torch.zeros(size_out)]
        return torch.cat(parts)


def _guide(
    guide: WeightPosterior | None, initial_scale: float | None, has_tied_scale: bool, is_bayesian: bool
) -> WeightPosterior:
    """The posterior family that the arguments select."""
    if guide is None:
        return MeanField(0.01 if initial_scale is None else initial_scale, is_tied=has_tied_scale)
    if not isinstance(guide, WeightPosterior) or isinstance(guide, type):
        raise DataError(f"`guide` must be an object such as `MeanField()` or `LowRank(rank=8)`. Got {guide!r}.")
    if not is_bayesian:
        raise DataError("`guide` has no effect with `is_bayesian=False`. Leave one of the two out.")
    if initial_scale is not None or has_tied_scale:
        raise DataError(
            "`initial_scale` and `has_tied_scale` are those of a mean field, and have no effect beside `guide`. Pass "
            f"them to it, as in `{type(guide).__name__}(initial_scale=...)`."
        )
    return guide


@rebuildable
class DeterministicField(nn.Module):
    """Any module (..., state) -> (..., rate) as a vector field without random weights; divergence by forward mode.

    Args:
        module: Function of the state; must not mix series (no batch normalisation).
    """

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module

    def prior(self) -> DeterministicField:
        """The module itself; there is nothing to sample."""
        return self

    def posterior(self) -> None:
        """Sample nothing."""

    def forward(self, state: Tensor) -> Tensor:
        """Apply the module."""
        return self.module(state)

    def divergence(self, state: Tensor, inputs: slice) -> Tensor:
        """Exact trace of the Jacobian with respect to `inputs`, (..., series)."""
        return exact_divergence(self.module, state, inputs=inputs)
