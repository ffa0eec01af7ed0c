"""``to_arviz``: a posterior and its predictions as labelled arrays for ArviZ. The only module that uses ArviZ.

Written against the part that ArviZ 0.23 (`InferenceData`) and 1.x (`DataTree`) share: groups are read by
``idata["posterior"]``, variables by ``idata["posterior"]["initial"]``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pyro_seq.data import Sequences
from pyro_seq.diagnostics._draws import Draws, take_draws
from pyro_seq.diagnostics._labels import Labelled, Labels, as_array
from pyro_seq.diagnostics.field import field_at
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.posterior import PointPosterior, Posterior, StoredPosterior

if TYPE_CHECKING:
    import xarray as xr

GROUPS = (
    "posterior",
    "posterior_predictive",
    "predictions",
    "log_likelihood",
    "sample_stats",
    "observed_data",
    "constant_data",
)


def to_arviz(
    posterior: Posterior,
    data: Sequences,
    *,
    num_samples: int | None = None,
    chunk_size: int | None = None,
    seed: int = 0,
    sites: Collection[str] | None = None,
    groups: Collection[str] = GROUPS,
    probes: Any | None = None,
    extra: Mapping[str, tuple[Any, Sequence[str]]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    r"""Draws of a posterior and of its predictions for `data`, labelled, for ArviZ and xarray.

    ====================  ==========================================================================================
    group                 content
    ====================  ==========================================================================================
    posterior             every latent site over the seen steps, (chain, draw, series, \*dims)
    posterior_predictive  ``x``, the seen steps drawn anew
    predictions           when `data` have a horizon: ``x_future`` and the part of each path over the horizon
    log_likelihood        ``x``, one number per series: the log density of its observations, given each draw
    sample_stats          MCMC only: divergences, acceptance, log density; of Langevin chains for every series
    observed_data         ``x``, NaN where hidden
    constant_data         inputs over all times, and `probes`
    ====================  ==========================================================================================

    All groups come from the same draws of the latents. Variables, inputs and series have the labels of the data; times
    are dates, in UTC, if the data have dates. Arrays are stored in single precision, time stamps in double; if time
    stamps differ between series, axis `time` counts steps and the coordinate ``time_stamp`` (series, time) holds them.

    **What the draws allow.** A guide gives independent draws: one chain, for which R-hat and effective sample sizes say
    nothing about the quality of the fit. Check it with `calibration_curve` on held-out steps, `guide_ranks`, and the
    Pareto k of ``az.loo``. MCMC gives its chains, to which `summary` and the usual diagnostics apply. ``az.loo`` leaves
    out one *series* at a time; because the latents of a series were drawn given that series, k is often above 0.7; then
    compare models on held-out series (`evaluate`).

    Size: ``x`` takes 4 bytes for each draw, series, step and entry; select ``data[:10]``, `groups` or `sites` if that
    is too much. Cost: two passes of the model per draw, three with a horizon.

    Args:
        posterior: The posterior returned by `fit`.
        data: Series to explain; a horizon in ``data.times`` is forecast.
        num_samples: Total number of draws over all chains; by default 100 from a guide, or all stored by MCMC.
        chunk_size: Draws computed at a time; as for the verbs by default.
        seed: Seed of the draws, as for the predictive verbs: `reconstruct` with the same seed gives the same draws.
        sites: Latent sites to keep, such as ``["initial"]``; all by default.
        groups: Groups to keep.
        probes: States (probe, state) at which the model's vector field is evaluated; adds ``field`` to the posterior.
        extra: Derived quantities for the posterior, by name: an array (sample, ...), draws in the order of
            `reconstruct`, and the names of its axes after the first.
        dims: Names of axes by site, which extend or replace ``model.dims``; use ``x`` for those of an observation.
        coords: Labels by axis name, which extend or replace ``model.coords(data)``, such as names of measured
            quantities.

    Returns:
        An `InferenceData` (ArviZ 0.23) or a `DataTree` (ArviZ 1).

    Raises:
        DataError: When a name is unknown, labels do not fit, or more draws are requested than MCMC stored.
        ShapeError: When `data` do not fit the model, or `extra` and `dims` do not fit their arrays.

    Example:
        >>> idata = to_arviz(posterior, test, num_samples=200)  # doctest: +SKIP
        >>> idata["posterior"]["path"].sel(state="velocity_0").mean(("chain", "draw"))  # doctest: +SKIP
    """
    _require_known("groups", groups, GROUPS)
    draws = take_draws(posterior, data, num_samples, chunk_size, seed, has_likelihood="log_likelihood" in groups)
    latents = draws.seen.latents
    kept = list(latents) if sites is None else list(sites)
    _require_known("sites", kept, latents)
    labels = Labels(posterior.model, data, dims or {}, coords or {}, latents)
    seen = {name: labels.site(name, latents[name], draws.is_global[name]) for name in kept}
    content: dict[str, dict[str, Labelled]] = {
        "posterior": {**seen, **_derived(posterior, draws, probes, extra or {})},
        "posterior_predictive": {"x": labels.site("x", draws.seen.samples, False)},
        "predictions": _predictions(draws, kept, labels),
        "log_likelihood": {},
        "sample_stats": {
            name: Labelled(("chain", "draw", "series")[: figures.ndim], figures.cpu().numpy())
            for name, figures in draws.sample_stats.items()
        },
        "observed_data": _observed(data, labels),
        "constant_data": _constants(data, probes),
    }
    if draws.log_likelihood is not None:
        content["log_likelihood"]["x"] = Labelled(("sample", "series"), draws.log_likelihood.cpu().numpy())
    inference = {StoredPosterior: "MCMC", PointPosterior: "point"}.get(type(posterior), "guide")
    attrs = {"model": type(posterior.model).__name__, "inference": inference, "inference_library": "pyro_seq"}
    return container(
        {
            name: _dataset(content[name], labels, draws.num_chains, is_future=name == "predictions", attrs=attrs)
            for name in GROUPS
            if name in groups and content[name]
        }
    )


def chain_diagnostics(draws: xr.Dataset) -> dict[str, xr.Dataset]:
    """R-hat, bulk and tail effective sample sizes of every entry, as ArviZ computes them."""
    import arviz as az  # slow to import, so imported only here

    figures = {"ess_bulk": az.ess(draws, method="bulk"), "ess_tail": az.ess(draws, method="tail")}
    return figures if draws.sizes["chain"] == 1 else {"rhat": az.rhat(draws), **figures}


def container(groups: Mapping[str, xr.Dataset]) -> Any:
    """The container for groups in the installed version of ArviZ."""
    import arviz as az
    import xarray as xr

    if int(az.__version__.split(".")[0]) >= 1:
        return xr.DataTree.from_dict(dict(groups))
    return az.InferenceData(**groups)  # type: ignore[arg-type]  # its annotation forgets the groups


def _predictions(draws: Draws, kept: Collection[str], labels: Labels) -> dict[str, Labelled]:
    """Observations over the horizon, continuations of paths, and the horizon of paths that cover all times."""
    if draws.future is None:
        return {}
    found = {"x_future": labels.site("x_future", draws.future.samples, False)}
    for name, value in draws.future.latents.items():
        if name not in draws.is_global and name.removesuffix("_future") in kept:
            found[name] = labels.site(name, value, False)
        elif name in kept and value.shape != draws.seen.latents[name].shape:
            whole = labels.site(name, value, draws.is_global[name])
            sizes = zip(draws.seen.latents[name].shape, value.shape, strict=True)
            horizon = tuple(slice(seen if seen < size else 0, None) for seen, size in sizes)
            found[name] = Labelled(whole.axes, whole.values[horizon])
    return found


def _derived(
    posterior: Posterior, draws: Draws, probes: Any | None, extra: Mapping[str, tuple[Any, Sequence[str]]]
) -> dict[str, Labelled]:
    """The field at the probes, and the caller's derived quantities."""
    count = len(draws.seen.samples)
    derived = {}
    if probes is not None:
        field = field_at(posterior.model, draws.seen, probes)
        derived["field"] = Labelled(("sample", "probe", "output"), as_array(field.expand(count, -1, -1)))
    for name, (values, axes) in extra.items():
        array = as_array(values)
        if array.ndim != 1 + len(axes) or array.shape[0] != count:
            raise ShapeError(
                f"`extra[{name!r}]` must have {count} draws first, then the axes {tuple(axes)}. Got {array.shape}."
            )
        derived[name] = Labelled(("sample", *axes), array)
    return derived


def _observed(data: Sequences, labels: Labels) -> dict[str, Labelled]:
    values = data.values.masked_fill(~data.entry_mask, torch.nan)
    return {"x": Labelled(("series", *labels.event_axes("x", values.ndim - 1)), as_array(values))}


def _constants(data: Sequences, probes: Any | None) -> dict[str, Labelled]:
    constants = {}
    if data.inputs is not None:
        constants["inputs"] = Labelled(("series", "input_time", "input"), as_array(data.inputs))
    if probes is not None:
        constants["probes"] = Labelled(("probe", "state"), as_array(probes))
    return constants


def _dataset(
    variables: Mapping[str, Labelled], labels: Labels, num_chains: int, *, is_future: bool, attrs: Mapping[str, str]
) -> xr.Dataset:
    """Label the axes, with the sample axis split into chains and draws."""
    import xarray as xr

    split = {}
    for name, (axes, values) in variables.items():
        if axes[0] == "sample":
            values = values.reshape(num_chains, -1, *values.shape[1:])
            axes = ("chain", "draw", *axes[1:])
        split[name] = Labelled(axes, values)
    return xr.Dataset(dict(split), coords=labels.coords(split, is_future), attrs=dict(attrs))


def _require_known(argument: str, names: Collection[str], known: Collection[str]) -> None:
    unknown = [name for name in ([names] if isinstance(names, str) else names) if name not in known]
    if unknown or isinstance(names, str):
        raise DataError(f"`{argument}` must be a list of names among {sorted(known)}. Got {names!r}.")
