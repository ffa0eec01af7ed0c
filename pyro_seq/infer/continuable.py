"""Checks that the verbs can draw from the observation site of a fitted model; otherwise `fit` raises."""

from __future__ import annotations

from pyro import poutine
from pyro.distributions import GaussianHMM, MaskedDistribution
from torch.distributions import Distribution, Independent

from pyro_seq.errors import UnsupportedError


def require_continuable(model_trace: poutine.Trace) -> None:
    """Raise if steps of site ``x`` are dependent given the latents and its distribution has no ``replicate``.

    A verb draws ``x`` given draws of the latents. If steps are independent given the latents, this is the prediction;
    otherwise the distribution must provide the conditional distribution given the observed steps, by a method
    ``replicate`` like that of `LinearGaussian`.

    Raises:
        UnsupportedError: With the two remedies.
    """
    if "x" not in model_trace.nodes:
        return
    emission: Distribution = model_trace.nodes["x"]["fn"]
    while isinstance(emission, MaskedDistribution):
        emission = emission.base_dist
    if hasattr(emission, "replicate") or (isinstance(emission, Independent) and emission.reinterpreted_batch_ndims):
        return
    conversion = (
        "`LinearGaussian.from_gaussian_hmm(...)` gives the same law to the site `x`"
        if isinstance(emission, GaussianHMM)
        else "Observe a distribution that has `replicate(value)`, as `LinearGaussian` of the same law"
    )
    raise UnsupportedError(
        "The site 'x' must have steps that are independent given the latents, or a distribution that draws some steps "
        f"given the others. Got {type(emission).__name__} {tuple(emission.event_shape)}, from which no verb can draw "
        f"hidden or future steps. {conversion}; or make what moves a latent, `self.sample_path(...)`, and observe what "
        "it emits, `self.observe(...)`."
    )
