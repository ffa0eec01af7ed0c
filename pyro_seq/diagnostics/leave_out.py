"""``steps_left_out``: density of each step given all others under a fit, for leave-one-out by ArviZ."""

from __future__ import annotations

from typing import Any

import torch

from pyro_seq._arguments import whole_number
from pyro_seq._process import one_at_a_time
from pyro_seq.data import Sequences
from pyro_seq.diagnostics._draws import thinned
from pyro_seq.diagnostics.arviz import container
from pyro_seq.door import require_posterior
from pyro_seq.ops.kalman import leave_one_out_log_density
from pyro_seq.posterior import Posterior, StoredPosterior, prediction_context
from pyro_seq.predict._law import law_of

_REFUSAL = (
    "Steps can be left out of observations with a linear Gaussian law, as those of `StructuralSeries`.",
    "Leave out whole series, `az.loo(to_arviz(posterior, data))`, or the future, `backtest`.",
)
_GUIDE_DRAWS, _CHUNK = 1000, 100  # draws of a guide by default, and per chunk


@one_at_a_time
def steps_left_out(posterior: Posterior, data: Sequences, *, num_samples: int | None = None, seed: int = 0) -> Any:
    r"""Log density of each observed step given all others of its series and all latents that are drawn.

    If states are integrated out, the steps of a series are not independent given the parameters, and the density of a
    step given earlier steps leaves the step itself in the terms of later steps. The density given all others,
    :math:`p(x_t \mid x_{-t}, \theta)`, is the one whose inverse removes a step from the posterior of the parameters,

    .. math::
        p(x_t \mid x_{-t}) = 1 \Big/\, \mathbb E_{\theta \mid x} \left[ 1 / p(x_t \mid x_{-t}, \theta) \right],

    and ``az.loo`` smooths these weights. It is exact here, by one run of the smoother per draw, and measures
    interpolation: for forecasts use `backtest`. Compare models on the same data with ``az.compare``. The weights do not
    correct a guide: if its draws are not from the posterior, these densities are wrong too.

    Args:
        posterior: Result of `fit` with `MCMC` or `SVI`.
        data: The fitted series. A horizon is ignored.
        num_samples: Total number of draws over all chains; by default 1000 from a guide, or all stored by MCMC.
        seed: Seed of the draws of a guide.

    Returns:
        Groups ``posterior``, with the latents, and ``log_likelihood``, with ``x`` (chain, draw, step), for ArviZ; the
        steps of all series are concatenated, without hidden ones. Coordinates ``series`` and ``time`` number them.

    Raises:
        UnsupportedError: When the observations have no linear Gaussian law given what is drawn.

    Example:
        >>> import arviz as az
        >>> az.loo(steps_left_out(posterior, data), pointwise=True)  # doctest: +SKIP

    References:
        Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and
        WAIC. Buerkner, Gabry, Vehtari (2021), Efficient leave-one-out cross-validation for Bayesian non-factorized
        normal and Student-t models.
    """
    import xarray as xr

    require_posterior(posterior)
    num_chains = 1
    count = _GUIDE_DRAWS if num_samples is None else whole_number(num_samples, "num_samples", 1)
    if isinstance(posterior, StoredPosterior):
        posterior = thinned(posterior, num_samples)
        num_chains, length = next(iter(posterior.sites.values())).shape[:2]
        count = num_chains * length
    model, data = posterior.model, data.seen()
    parts = []
    with prediction_context(model):
        latents = posterior.draws(data, count, seed=seed)
        for start in range(0, count, _CHUNK):
            some = {name: value[start : start + _CHUNK] for name, value in latents.items()}
            law = law_of(model, data, some, _REFUSAL)
            values = data.values.expand(len(next(iter(some.values()))), *data.values.shape)
            parts.append(leave_one_out_log_density(values, law.parameters, law.smooth(values), law.mask_of_entries))
    seen = data.entry_mask.flatten(2).any(-1)
    series, time = seen.nonzero().T.cpu().numpy()
    density = torch.cat(parts)[:, seen].unflatten(0, (num_chains, -1)).cpu().numpy()
    drawn = {
        name: (("chain", "draw", f"{name}_axis"), value.flatten(1).unflatten(0, (num_chains, -1)).cpu().numpy())
        for name, value in latents.items()
    }
    coords = {"series": ("step", series), "time": ("step", time)}
    log_likelihood = xr.Dataset({"x": (("chain", "draw", "step"), density)}, coords=coords)
    return container({"posterior": xr.Dataset(drawn), "log_likelihood": log_likelihood})
