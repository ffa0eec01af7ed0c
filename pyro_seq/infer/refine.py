"""``refine``: a posterior by chains that start from a guide."""

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
    """Refine a guide's posterior: each call of a verb runs chains on its data, from draws of the guide.

    A guide is fast but may be inaccurate: it was trained on the training series, and its family of distributions need
    not contain the posterior. Chains continue from its draws under the model's density. The model is unchanged; latents
    that all series share are still drawn by the guide, once per chain.

    Cost: ``num_steps`` gradients of the batch per call of a verb, and `spacing` more for each further draw of a chain.

    Args:
        posterior: The result of `fit` for a model with a guide, or an earlier refinement.
        kernel: How chains start and step. ``Langevin(start="guide", num_candidates=64)`` picks each start among 64
            draws of the guide by importance weight, which helps with multimodal posteriors.
        num_steps: Steps before the first draw; step sizes adapt in them.
        num_chains: Independent chains per series; draws are divided among them.
        spacing: Steps between two draws of a chain.

    Returns:
        A posterior for all verbs, `evaluate` and `save`.

    Raises:
        DataError: When an argument is out of range or of another type.
        UnsupportedError: When `posterior` has no guide, because its draws already come from chains.

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
