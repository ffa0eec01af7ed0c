"""``refine``: a posterior by chains on top of a guide."""

from __future__ import annotations

from pyro_seq._arguments import require, whole_number
from pyro_seq.door import require_posterior
from pyro_seq.errors import UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.langevin import Langevin
from pyro_seq.posterior import GuidePosterior, Posterior


def refine(
    posterior: Posterior,
    kernel: Langevin = Langevin(start="guide"),
    *,
    num_steps: int = 200,
    num_chains: int = 4,
    spacing: int = 5,
) -> ChainPosterior:
    """Infer the latents of every series anew, by chains that start where the guide says, for whatever a verb is shown.

    A guide answers at once, and may be off: it learned from the series of training, in a family of distributions that
    need not hold the posterior. Chains follow the model's own density from there. The model stays as it is; what all
    series share is still drawn by the guide, once for each chain.

    Cost: ``num_steps`` gradients of the batch for every call of a verb, and `spacing` more for each draw beyond the
    first of a chain.

    Args:
        posterior: What `fit` returned for a model with a guide, or an earlier refinement.
        kernel: How chains start and step. ``Langevin(start="guide", num_candidates=64)`` picks each start among 64
            draws of the guide by its weight, which helps where several modes fit.
        num_steps: Steps before the first draw, in which step sizes are adapted.
        num_chains: Independent chains of each series, among which draws are shared out.
        spacing: Steps between two draws of a chain.

    Returns:
        A posterior for all verbs, `evaluate` and `save`.

    Raises:
        DataError: When an argument is out of range or of another type.
        UnsupportedError: When `posterior` has no guide, because its draws are those of chains already.

    Example:
        >>> posterior = fit(model, train, SVI(num_steps=5_000))  # doctest: +SKIP
        >>> forecast(refine(posterior), data, horizon=10)  # doctest: +SKIP
    """
    require_posterior(posterior)
    if not isinstance(posterior, GuidePosterior | ChainPosterior):
        raise UnsupportedError(
            f"`refine` starts chains where a guide says. Got {type(posterior).__name__}, which draws without one. Pass "
            "what `fit` returns for `SVI`; where draws are those of chains, run these for longer."
        )
    require(isinstance(kernel, Langevin), "kernel", "a `Langevin(...)`, which moves each series by itself", kernel)
    return ChainPosterior(
        posterior.model,
        kernel,
        num_steps=whole_number(num_steps, "num_steps"),
        num_chains=whole_number(num_chains, "num_chains", 1),
        spacing=whole_number(spacing, "spacing", 1),
        history=posterior.history,
        status=posterior.status,
    )
