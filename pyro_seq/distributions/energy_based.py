"""A base density tilted by an energy, sampled by Langevin chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq._random import isolated_rng
from pyro_seq.distributions.energy_drift import EnergyDrift, energy_drift
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.annealing import LogPartition, annealed_log_partition
from pyro_seq.ops.langevin import MALA, LangevinResult, Sampler, run

_IS_OMITTED: ContextVar[bool] = ContextVar("normaliser_is_omitted", default=False)


@contextmanager
def unnormalised() -> Iterator[None]:
    """Context manager: energy-based densities leave out the surrogate of their normaliser.

    Meant for chains over latents, for which the normaliser is constant and its prior chains would only cost time.
    """
    token = _IS_OMITTED.set(True)
    try:
        yield
    finally:
        _IS_OMITTED.reset(token)


class ChainPool(Protocol):
    """Chains that are kept between calls, such as `pyro_seq.nn.energy.PersistentChains`."""

    def take(self, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Chains to continue, shaped like `fresh`, and their indices."""
        ...

    def put(self, index: Tensor, values: Tensor) -> None:
        """Store the chains' new values."""
        ...


class EnergyBased(TorchDistribution):
    r"""A base density tilted by an energy.

    .. math::
        p(z) = \frac{1}{Z}\, e^{-E(z)}\, p_0(z), \qquad Z = \int e^{-E(z)}\, p_0(z)\, dz

    **Sampling.** `sample` runs a chain of `num_steps` Langevin steps from a draw of the base. The run is short, so
    draws follow p only as closely as the chain gets. Draws carry no gradient.

    **Density.** Z is unknown, but its gradient is an average over p. `log_prob` is therefore

    .. math::
        \log p_0(z) - E(z) - \big(S - \lfloor S \rfloor\big), \qquad
        S = \overline{\log p_0(z^-) - E(z^-)}

    with chains :math:`z^-` and :math:`\lfloor\cdot\rfloor` detached from gradients. The bracket has the value 0 and the
    gradient of log Z, so both SVI and maximum likelihood can train the energy. The *value* lacks log Z, a constant in
    z: bounds under different energies cannot be compared without `log_partition`. The bracket costs `num_steps`
    gradients of the energy per batch element; it is left out if no parameter needs it, under ``torch.no_grad``, and
    inside `unnormalised`.

    Args:
        base: The base density, over real vectors.
        energy: E, one number (...) for vectors (..., dim). Minus the f of the literature on latent energy-based models.
        sampler: Sampler of the chains: ``MALA(0.4)``, which does not diverge, or ``ULA(0.4)`` as in that literature.
        num_steps: Steps of a chain.
        num_negatives: Chains per batch element, averaged in the bracket.
        chains: Persistent chains that the bracket continues, such as a `PersistentChains` held by the model.

    Raises:
        ShapeError: When `base` has no vector event, or `energy` does not return one number per vector.

    Example:
        >>> base = torch.distributions.Normal(torch.zeros(2), 1.0)
        >>> tilted = EnergyBased(torch.distributions.Independent(base, 1), lambda z: z.square().sum(-1))
        >>> with torch.random.fork_rng():
        ...     tilted.sample((3, 5)).shape
        torch.Size([3, 5, 2])

    References:
        Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model.
        Nijkamp, Hill, Zhu, Wu (2019), Learning non-convergent non-persistent short-run MCMC toward energy-based model.
    """

    has_rsample = False
    is_normalised = False
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        base: TorchDistribution,
        energy: Callable[[Tensor], Tensor],
        *,
        sampler: Sampler = MALA(0.4),
        num_steps: int = 60,
        num_negatives: int = 1,
        chains: ChainPool | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if len(base.event_shape) != 1:
            raise ShapeError(
                f"`base` must have the event shape (dim,). Got {tuple(base.event_shape)}. Use `.to_event(1)`."
            )
        self.base = base
        self.energy = energy
        self.sampler = sampler
        self.num_steps = whole_number(num_steps, "num_steps", 1)
        self.num_negatives = whole_number(num_negatives, "num_negatives", 1)
        self.chains = chains
        self._negatives: Tensor | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    @property
    def support(self) -> torch.distributions.constraints.Constraint:
        """Support of the base."""
        return self.base.support

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> EnergyBased:
        """The same distribution over a larger batch, with separate chains per element."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return EnergyBased(
            self.base.expand(batch_shape),
            self.energy,
            sampler=self.sampler,
            num_steps=self.num_steps,
            num_negatives=self.num_negatives,
            chains=self.chains,
            validate_args=False,
        )

    # ------------------------------------------------------------------ drawing

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Run chains from draws of the base, ``(*sample, *batch, dim)``."""
        with torch.no_grad():
            start = self.base.sample(torch.Size(sample_shape))
        return self.run(start).state.value.reshape(start.shape)

    def run(self, start: Tensor, num_steps: int | None = None, *, generator: torch.Generator | None = None) -> Any:
        """Run chains from `start` (..., dim), and return their result with statistics.

        Args:
            start: Start of the chains; the leading axes are independent chains.
            num_steps: Number of steps; the distribution's `num_steps` by default.
            generator: Source of noise; by default seeded from torch's global one.

        Returns:
            A `LangevinResult`.
        """
        if generator is None:
            generator = torch.Generator(start.device).manual_seed(int(torch.randint(2**62, ())))
        start = start if start.ndim > 1 else start[None]
        steps = self.num_steps if num_steps is None else num_steps
        result: LangevinResult = run(self._potential, start, self.sampler, steps, generator)
        return result

    # ------------------------------------------------------------------ scoring

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density up to log Z, with the gradient of log Z if needed, (..., batch)."""
        density = self.tilted(value)
        if _IS_OMITTED.get() or not torch.is_grad_enabled() or not self.tilted(value.detach()).requires_grad:
            return density
        return density - self._normaliser()

    def tilted(self, value: Tensor) -> Tensor:
        """Log density of the base minus the energy, (..., batch): the part that depends on the value."""
        energy = self.energy(value)
        if energy.shape != value.shape[:-1]:
            raise ShapeError(
                f"`energy` must return one number a vector, {tuple(value.shape[:-1])}. Got {tuple(energy.shape)}. "
                "Drop its last axis: `energy(z)[..., 0]`."
            )
        return self.base.log_prob(value) - energy

    def _normaliser(self) -> Tensor:
        with torch.no_grad():
            start = self.base.sample(torch.Size((self.num_negatives,)))
            start, index = (start, None) if self.chains is None else self.chains.take(start)
            negatives = self.run(start).state.value.reshape(start.shape)
            if self.chains is not None and index is not None:
                self.chains.put(index, negatives)
        self._negatives = negatives
        density = self.tilted(negatives).mean(0)
        return density - density.detach()

    def _potential(self, value: Tensor) -> Tensor:
        # with validation, the base would raise for all chains if one became non-finite
        is_finite = value.isfinite().all(-1)
        density = self.tilted(torch.where(is_finite[..., None], value, 0))
        return torch.where(is_finite, -density, torch.inf)

    # ------------------------------------------------------------------ stable training

    @property
    def has_negatives(self) -> bool:
        """Whether a `log_prob` has run prior chains; it does not if the energy is not trained."""
        return self._negatives is not None

    @property
    def negatives(self) -> Tensor:
        """Final values of the prior chains in the last `log_prob` with a gradient, ``(negative, *batch, dim)``."""
        if self._negatives is None:
            raise DataError(
                "There are no prior chains yet: they belong to a `log_prob` that needs the gradient of the normaliser."
            )
        return self._negatives

    def penalty(self, value: Tensor) -> Tensor:
        r"""Penalty for training: squared energies at posterior draws and at prior chains, (..., batch).

        .. math::
            E(z)^2 + \overline{E(z^-)^2}

        A model adds it in its `regulariser`, for the energy of the site in the model's trace.
        """
        return self.energy(value).square() + self.energy(self.negatives).square().mean(0)

    def drift(self, value: Tensor) -> EnergyDrift:
        """Compare posterior draws (..., dim) with the prior chains; the result's `alarm` says if they have diverged."""
        return energy_drift(self.energy, value, self.negatives, loc=self.base.mean, scale=self.base.variance.sqrt())

    def log_partition(self, num_temperatures: int = 200, num_particles: int = 1000, *, seed: int = 0) -> LogPartition:
        """Estimate log Z for each batch element, to compare models or to complete `log_prob`.

        Args:
            num_temperatures: Steps from the base to the tilted density; use more if `value` and `upper` disagree.
            num_particles: Particles per batch element.
            seed: Seed of the particles and their noise.

        Returns:
            Value, upper value, standard error and effective sample size, ``(*batch)`` each.
        """
        with torch.no_grad(), isolated_rng(seed):
            start = self.base.sample(torch.Size((num_particles,)))
        generator = torch.Generator(start.device).manual_seed(seed)
        sampler = self.sampler if isinstance(self.sampler, MALA) else MALA(self.sampler.step_size)
        return annealed_log_partition(
            self.base.log_prob, self.energy, start, num_temperatures, generator, sampler=sampler
        )


def energy_based(distribution: torch.distributions.Distribution) -> EnergyBased | None:
    """The energy-based density inside a site's distribution, if any."""
    while not isinstance(distribution, EnergyBased):
        if not hasattr(distribution, "base_dist"):
            return None
        distribution = distribution.base_dist
    return distribution
