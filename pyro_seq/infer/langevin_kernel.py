"""``LangevinKernel``: one Langevin chain of all latents of any Pyro model, for ``pyro.infer.MCMC``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_uniform
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq.distributions.energy_based import unnormalised
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.ops._langevin_adaptation import Adaptation
from pyro_seq.ops.langevin import MALA, LangevinState, Sampler, initial_state, step

Params = dict[str, Tensor]


class LangevinKernel(MCMCKernel):
    """Langevin steps of all latents of a Pyro model jointly, with one step size.

    It works for any model that HMC supports: global latents, discrete latents that are summed out, constrained
    supports. For thousands of independent series use `Langevin` instead, because here all series share acceptance and
    step size: the usable step size shrinks with the cube root of the total dimension.

    Cost: one gradient of the potential per step. The warm-up adapts the step size to the acceptance and, with
    `has_scale`, the scale of each entry. A proposal with a non-finite or much higher energy is rejected and counted as
    a divergence; under ULA it stops the chain.

    Args:
        model: Pyro model; alternatively give `potential_fn`.
        potential_fn: Minus the log density, a scalar, of a dictionary of unconstrained latents; ``pyro.infer.MCMC``
            then needs `initial_params`.
        sampler: ``MALA()`` or ``ULA(step_size)``.
        has_scale: Measure the scale of each entry in the warm-up.
        transforms: Transforms from supports to real numbers by site, as in HMC; derived from the supports by default.
        max_plate_nesting: As in HMC; guessed by default.
        init_strategy: How a chain starts, as in HMC.

    Example:
        >>> import pyro
        >>> def model():
        ...     return pyro.sample("z", pyro.distributions.Normal(torch.zeros(2), 1.0).to_event(1))
        >>> run = pyro.infer.MCMC(LangevinKernel(model), num_samples=5, warmup_steps=5, disable_progbar=True)
        >>> with torch.random.fork_rng():
        ...     run.run()
        >>> run.get_samples()["z"].shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        potential_fn: Callable[[Params], Tensor] | None = None,
        *,
        sampler: Sampler = MALA(),
        has_scale: bool = True,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        init_strategy: Callable[..., Any] = init_to_uniform,
    ) -> None:
        if (model is None) == (potential_fn is None):
            raise DataError("Give either `model` or `potential_fn`. Got both or none.")
        self.model = model
        self.potential_fn = potential_fn
        self.sampler = sampler
        self.has_scale = has_scale
        self.max_plate_nesting = max_plate_nesting
        self.init_strategy = init_strategy
        self._given_transforms = None if transforms is None else dict(transforms)
        # `pyro.infer.MCMC` reads this and uses `model` if it is None
        self.transforms = {} if model is None and transforms is None else self._given_transforms
        self._reset()

    def _reset(self) -> None:
        self._initial_params: Params | None = None
        self._state: LangevinState | None = None
        self._warm_up: Adaptation | None = None
        self._warmup_steps = 0
        self._steps_done = 0
        self._mean_acceptance = 0.0
        self._divergences: list[int] = []

    # ------------------------------------------------------------------ called by `pyro.infer.MCMC`

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Build the potential for these arguments, and find a start unless one was given."""
        self._warmup_steps = warmup_steps
        if self.model is not None:
            with passing_nonfinite(), unnormalised():
                found, self.potential_fn, self.transforms, _ = initialize_model(
                    self.model,
                    args,
                    kwargs,
                    transforms=self._given_transforms,
                    max_plate_nesting=self.max_plate_nesting,
                    init_strategy=self.init_strategy,
                    initial_params=self._initial_params,
                )
            self._initial_params = found
        if self._initial_params is not None and not self._initial_params:
            raise UnsupportedError("The model has no latent sites, so there is nothing to sample.")

    @property
    def initial_params(self) -> Params | None:
        """Start of the chain: unconstrained latents by name."""
        return self._initial_params

    @initial_params.setter
    def initial_params(self, params: Params) -> None:
        self._initial_params = params

    def sample(self, params: Params) -> Params:
        """Take one step from `params`."""
        names = sorted(params)
        shapes = {name: params[name].shape for name in names}

        def potential(vector: Tensor) -> Tensor:
            return self._energy(_unflatten(vector[0], shapes))[None]

        state = self._at(params, names, potential)
        noise, uniform = torch.randn_like(state.value), torch.rand_like(state.energy)
        before = int(state.num_divergent)
        state = step(potential, state, self.sampler, noise, uniform)
        self._count(state, int(state.num_divergent) > before)
        if self._warm_up is not None and not self._warm_up.is_over:
            state = self._warm_up.update(state)
        self._state = state
        return _unflatten(state.value[0].clone(), shapes)

    def logging(self) -> OrderedDict[str, str]:
        """Statistics for the progress bar."""
        size = float("nan") if self._state is None else float(self._state.step_size)
        return OrderedDict([("step size", f"{size:.2e}"), ("acc. prob", f"{self._mean_acceptance:.3f}")])

    def diagnostics(self) -> dict[str, Any]:
        """Divergent draws, mean acceptance, step size, and whether the chain stopped."""
        return {
            "divergences": self._divergences,
            "acceptance rate": self._mean_acceptance,
            "step size": float("nan") if self._state is None else float(self._state.step_size),
            "frozen": self._state is not None and bool(self._state.is_frozen),
        }

    def cleanup(self) -> None:
        """Reset, so that the next chain starts and adapts anew."""
        self._reset()

    # ------------------------------------------------------------------ inside

    def _energy(self, params: Params) -> Tensor:
        assert self.potential_fn is not None
        try:
            with passing_nonfinite(), unnormalised():
                return self.potential_fn(params)
        except (NumericalError, torch.linalg.LinAlgError):
            # no energy: rejected as a divergence; with a graph, because its gradient is requested
            return torch.cat([value.reshape(-1) for value in params.values()]).sum() * torch.nan

    def _at(self, params: Params, names: list[str], potential: Callable[[Tensor], Tensor]) -> LangevinState:
        """The state at `params`: the current state, with its energy and gradient, if `params` belong to it."""
        vector = torch.cat([params[name].detach().reshape(-1) for name in names])[None]
        if self._state is not None and torch.equal(self._state.value, vector):
            return self._state
        old = self._state
        state = initial_state(potential, vector, self.sampler.step_size if old is None else old.step_size)
        if bool(state.is_frozen):
            raise NumericalError(
                f"The chain must start where energy and gradient are finite. Got the energy {float(state.energy):g}. "
                "Give other `initial_params`, on the scale of real numbers, or another `init_strategy`."
            )
        if old is not None:
            return state._replace(scale=old.scale, num_divergent=old.num_divergent)
        self._warm_up = Adaptation(state, self.sampler, self._warmup_steps, has_scale=self.has_scale)
        return state

    def _count(self, state: LangevinState, is_divergent: bool) -> None:
        self._steps_done += 1
        done = self._steps_done - self._warmup_steps
        if done == 1:
            self._mean_acceptance = 0.0
        if done >= 1 and is_divergent:
            self._divergences.append(done - 1)
        count = done if done >= 1 else self._steps_done
        self._mean_acceptance += (float(state.acceptance) - self._mean_acceptance) / count


def _unflatten(vector: Tensor, shapes: Mapping[str, torch.Size]) -> Params:
    parts = vector.split([shape.numel() for shape in shapes.values()])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
