"""``Mode``: the mode of the posterior, or the maximum of the likelihood, over all latents."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Transform, biject_to

from pyro_seq._arguments import keep_whole, require
from pyro_seq._nonfinite import is_about_numbers
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import NumericalError, UnsupportedError
from pyro_seq.infer.chains import global_names, latent_sites, require_whole
from pyro_seq.model import SequenceModel, is_random, over_samples
from pyro_seq.posterior import PointPosterior, reading
from pyro_seq.training.trainer import Trainer

_DRAWS = 101  # draws of the prior, whose median is the first start
_FLAT = 1e-3  # slope, relative to the objective, above which a search has not converged


@dataclass(frozen=True, kw_only=True)
class Mode:
    r"""Set the latents to the mode of the posterior (maximum a posteriori) or of the likelihood (maximum likelihood).

    .. math::
        \hat\theta = \arg\max_\theta \left[\log p(x \mid \theta) + \log p(\theta)\right]

    Meant for models with few latents, such as `StructuralSeries`; network parameters stay fixed. Per-series latents are
    found for the fitted series, all in one search. If latents scale other latents, such as a learned spread, the joint
    density has no meaningful mode, and the model is refused. The search is L-BFGS on unconstrained coordinates, first
    from the median of the prior and then from draws of the prior; the best result is kept. Predictions from a point
    ignore uncertainty about the latents: for short series prefer ``MCMC(NUTS(), ...)``.

    The history has the log density, ``log_density``, at each step of the best search; without a prior it is the log
    likelihood.

    Args:
        has_prior: Whether the prior counts; without it, the result is the maximum likelihood estimate. The density is
            that of each latent as written in the model, not of unconstrained coordinates.
        num_starts: Number of searches.
        num_steps: Maximum number of steps per search.

    Raises:
        DataError: When an argument is out of range.
        UnsupportedError: From `fit`, when latents scale other latents.

    Warns:
        UserWarning: When the best search ended at `num_steps`, or did not converge.

    Example:
        >>> posterior = fit(model, data, Mode(has_prior=False))  # doctest: +SKIP
    """

    has_prior: bool = True
    num_starts: int = 3
    num_steps: int = 500

    def __post_init__(self) -> None:
        require(isinstance(self.has_prior, bool), "has_prior", "True or False", self.has_prior)
        keep_whole(self, 1, "num_starts", "num_steps")

    def run(
        self, model: SequenceModel, data: Sequences, *, validation: Sequences | None, seed: int, trainer: Trainer
    ) -> PointPosterior:
        """Search; called by `fit`."""
        require_whole(data, "Mode")
        if validation is not None:
            raise UnsupportedError("`Mode` has no use for `validation`. Leave it out.")
        model.take_units(data)
        with reading(model):
            landscape = _Landscape(model, data, self.has_prior)
            ends = [self._search(landscape, start) for start in landscape.starts(self.num_starts, seed)]
            best = max(ends, key=lambda end: end.height)
            if not best.history:
                raise NumericalError(
                    f"None of {len(ends)} starts has a finite density and slope. Check the scale of data and noise. "
                    f"{landscape.trouble}"
                )
            _warn_of_slope(best, self.num_steps)
            sites = {name: value.detach() for name, value in landscape.sites(torch.as_tensor(best.place)).items()}
        history = {"step": [float(step) for step in range(len(best.history))], "log_density": best.history}
        return PointPosterior(model, sites, history, data if landscape.own else None, landscape.own)

    def _search(self, landscape: _Landscape, start: np.ndarray) -> _End:
        """Search from one start."""
        from scipy.optimize import minimize  # slow to import, and only needed here

        landscape.highest = -np.inf
        first, _ = landscape(start)
        if not np.isfinite(first):
            return _End(-np.inf, start, [], 0.0)
        history = [-first]
        # until differences are within rounding error
        options = {"maxiter": self.num_steps, "ftol": landscape.precision, "gtol": 1e-9}
        found = minimize(
            landscape,
            start,
            jac=True,
            method="L-BFGS-B",
            options=options,
            callback=lambda intermediate_result: history.append(-float(intermediate_result.fun)),
        )
        return _End(-float(found.fun), found.x, history, float(np.abs(found.jac).max()))


class _End(NamedTuple):
    """The end of a search; the history is empty if it could not start."""

    height: float
    place: np.ndarray
    history: list[float]
    slope: float


class _Landscape:
    """Minus the log density of a model as a function of flat unconstrained coordinates, with its gradient.

    Where the model fails, the function is flat and higher than all values so far: a line search then steps back by a
    fraction of its step. At an infinite value it would step back all the way and end.
    """

    def __init__(self, model: SequenceModel, data: Sequences, has_prior: bool) -> None:
        self.model, self.data, self.has_prior = model, data, has_prior
        self.precision = torch.finfo(data.dtype).eps
        self.highest = -np.inf  # highest finite value of the present search
        self.trouble = ""  # the model's error message
        sites = latent_sites(model, data)
        if scales := sorted(sites.keys() & set(model.sites_without_mode)):
            raise UnsupportedError(
                f"`Mode` needs a joint density of all latents with a highest point that means something. Got {scales} "
                f"in {type(model).__name__}, which scale other latents: it is highest where those vanish. Give them a "
                "known scale, `Hierarchical(spread=0.3)`, or fit by `SVI` or `MCMC`."
            )
        self.own = frozenset(sites) - global_names(sites)
        self.transforms: dict[str, Transform] = {name: biject_to(site["fn"].support) for name, site in sites.items()}
        self.shapes = {name: transform.inv(sites[name]["value"]).shape for name, transform in self.transforms.items()}

    def __call__(self, place: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient."""
        flat = torch.tensor(place, dtype=self.data.dtype, device=self.data.device, requires_grad=True)
        try:
            loss = -self._log_density(self.sites(flat))
            (slope,) = torch.autograd.grad(loss, flat)
        except (NumericalError, ValueError, torch.linalg.LinAlgError) as error:
            if not is_about_numbers(error):
                raise
            self.trouble = str(error).partition("\n")[0]
            return self._wall(place)
        if not (bool(loss.isfinite()) and bool(slope.isfinite().all())):
            return self._wall(place)
        height = float(loss.detach())
        self.highest = max(self.highest, height)
        return height, slope.double().cpu().numpy()

    def _wall(self, place: np.ndarray) -> tuple[float, np.ndarray]:
        return self.highest + abs(self.highest) + 1.0, np.zeros_like(place)

    def sites(self, flat: Tensor) -> dict[str, Tensor]:
        """Latents at flat coordinates."""
        flat = flat.to(self.data.values)
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: self.transforms[name](part.reshape(shape))
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def starts(self, count: int, seed: int) -> Iterator[np.ndarray]:
        """The median of the prior, then draws of the prior."""
        with isolated_rng(seed):
            drawn = poutine.trace(over_samples(self.model.model, _DRAWS + count)).get_trace(self.data).nodes
        parts = [transform.inv(drawn[name]["value"]) for name, transform in self.transforms.items()]
        draws = torch.cat([part.reshape(len(part), -1) for part in parts], -1).double().cpu().numpy()
        yield np.median(draws[:_DRAWS], 0)
        yield from draws[_DRAWS + 1 :]

    def _log_density(self, sites: dict[str, Tensor]) -> Tensor:
        trace = poutine.trace(poutine.condition(self.model.model, data=sites)).get_trace(self.data)
        counted = [
            name for name, site in trace.nodes.items() if is_random(site) and (self.has_prior or name not in sites)
        ]
        trace.compute_log_prob(lambda name, site: name in counted)
        return torch.stack([trace.nodes[name]["log_prob_sum"] for name in counted]).sum()


def _warn_of_slope(end: _End, num_steps: int) -> None:
    steps = len(end.history) - 1
    if steps < num_steps and end.slope <= _FLAT * max(1.0, abs(end.height)):
        return
    warnings.warn(
        f"The search has not arrived after {steps} of {num_steps} steps: the steepest slope is {end.slope:.3g}, at a "
        f"log density of {end.height:.6g}. Give it more `num_steps`, more starts, or numbers of double precision.",
        stacklevel=5,
    )
