"""Paths of frame codes: from the encoder at seen frames, from the dynamics at hidden ones."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.ops.precision import full_precision


class FilledPath(PathDistribution):
    r"""Posterior of a path of codes: independent Gaussians at seen steps, the smoother's joint Gaussian in gaps.

    .. math::
        q(a \mid x) = \prod_{t\ \text{seen}} N(a_t; \mu_t, \sigma_t^2)\;
            p\left(a_\text{gaps} \mid a_\text{seen};\ \hat\gamma\right)

    The parameters of the dynamics depend on the path, including its hidden part, where they are estimated,
    :math:`\hat\gamma`, from the filter's predicted means. The estimate is a function of the seen codes, so q has a
    density, and with one mode q is the exact conditional. Estimating the parameters from the smoothed path is worse:
    before a bounce they would then depend on codes that already contain it. Steps after the last seen one are drawn
    from the prior given all earlier steps and do not count in `log_prob`.

    Args:
        loc: Means (..., time, code); only used at seen steps.
        scale: Standard deviations of the same shape.
        seen: True at seen steps, (..., time).
        prior: Distribution of the path, with `valid` False after the last seen step.

    References:
        Fraccaro, Kamronn, Paquet, Winther, "A disentangled recognition and nonlinear dynamics model for unsupervised
        learning", NeurIPS 2017, section 4, which draws hidden codes where this takes means.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, loc: Tensor, scale: Tensor, seen: Tensor, prior: MixedLinearGaussian) -> None:
        self.loc, self.scale, self.seen, self.prior = loc, scale, seen, prior
        self.exists = torch.ones_like(seen) if prior.valid is None else prior.valid
        exists = on_host(seen).new_ones(()) if prior.valid is None else on_host(prior.valid)
        self.has_gaps = bool((exists & ~on_host(seen)).any())
        self.has_tail = not bool(exists.all())
        self._last: tuple[Tensor, LinearGaussian] | None = None  # a draw, and the linear model of its seen codes
        batch = torch.broadcast_shapes(loc.shape[:-2], prior.batch_shape)
        super().__init__(batch, prior.event_shape, prior.valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> FilledPath:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return FilledPath(self.loc, self.scale, self.seen, self.prior.expand(torch.Size(batch_shape)))

    @full_precision
    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths without holes; gradients reach the means, the scales and the dynamics."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        path = self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        if self.has_gaps:
            linear = self._estimated(path)
            states = linear.sample_states(path, 1)[0]
            parameters = linear.parameters
            factor = torch.linalg.cholesky(parameters.observation_cov)
            drawn = parameters.observation @ states[..., None] + factor @ torch.randn_like(path)[..., None]
            path = torch.where(self.seen[..., None], path, drawn.squeeze(-1))
        if self.has_tail:
            path = self.prior.complete(path, self.exists.expand(path.shape[:-1]))
        self._last = (path, linear) if self.has_gaps else None
        return path

    @full_precision
    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the steps up to the last seen one, ``(*batch,)``."""
        each = torch.distributions.Normal(self.loc, self.scale, validate_args=False).log_prob(value).sum(-1)
        total = torch.where(self.seen, each, 0.0).sum(-1)
        if self.has_gaps:
            # usually the value is the last draw, whose parameters are cached
            last, linear = self._last or (None, None)
            linear = linear if linear is not None and last is value else self._estimated(value)
            both = LinearGaussian(linear.parameters, self.prior.num_steps, mask=self.exists[..., None])
            total = total + both.log_prob(value) - linear.log_prob(value)
        return total

    @full_precision
    def path_of_means(self) -> Tensor:
        """Seen steps at their means, hidden ones at the smoother's means, with the estimated parameters; no draws.

        In gaps this is the mean given the means of the seen steps. After the last seen step the means are propagated,
        which differs from the mean of propagated draws.
        """
        path = self.loc.expand(self.batch_shape + self.event_shape)
        if not (self.has_gaps or self.has_tail):
            return path
        linear = self._estimated(path)
        states = linear.smooth(path).smoothed_means
        hidden = (linear.parameters.observation @ states[..., None]).squeeze(-1)
        return torch.where(self.seen[..., None], path, hidden)

    def _estimated(self, path: Tensor) -> LinearGaussian:
        """The linear model of the seen codes, with parameters from their filtered path."""
        seen = self.seen.expand(path.shape[:-1])
        return self.prior.given(self.prior.complete(path, seen, is_mean=True), seen[..., None])
