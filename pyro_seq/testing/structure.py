"""Checks on the sites, plates and parameters that a model declares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pyro import poutine
from torch import Tensor

from pyro_seq.model import is_local
from pyro_seq.testing.case import (
    HORIZON,
    Case,
    NotApplicable,
    density_sites,
    latent_sites,
    require,
    require_equal,
    traced,
)


def _traces(case: Case) -> tuple[poutine.Trace, poutine.Trace]:
    guide = traced(case.model.guide, case.data, seed=case.seed)
    model = traced(poutine.replay(case.model.model, trace=guide), case.data, seed=case.seed)
    return model, guide


def _require_own_guide(case: Case) -> None:
    if not case.model.has_guide:
        raise NotApplicable("the model has no guide")


def sites_match(case: Case) -> None:
    """Model and guide sample the same latent sites, with equal shapes and event axes and the same plate."""
    _require_own_guide(case)
    methods = (case.model.model, case.model.guide)
    model, guide = (dict(latent_sites(traced(method, case.data, seed=case.seed))) for method in methods)
    missing_sites = ((model.keys() - guide.keys(), "guide", "model"), (guide.keys() - model.keys(), "model", "guide"))
    for missing, where, other in missing_sites:
        require(not missing, f"The {where} lacks the sites {sorted(missing)} of the {other}. Sample them there too.")
    for name, site in model.items():
        twin = guide[name]
        for what, got, expected in (
            ("event axes", twin["fn"].event_dim, site["fn"].event_dim),
            ("shape", tuple(twin["value"].shape), tuple(site["value"].shape)),
            ("place inside the plate `series`", is_local(twin), is_local(site)),
        ):
            require(
                got == expected,
                f"Site {name!r} has {what} {expected} in the model but {got} in the guide. Make them equal; a global "
                "site is sampled above the plate in both, and vectors need `.to_event(1)`.",
            )


def x_is_observed(case: Case) -> None:
    """The observations are the site ``x``, observed, inside the plate, with time and the observation as its event."""
    model, guide = _traces(case)
    names = [name for name, _ in density_sites(model)]
    require("x" in names, f"The model has no site 'x', only {names}. Use `observe`.")
    require("x" not in guide, "The guide samples 'x', which is observed. Remove it from the guide.")
    site = model.nodes["x"]
    require(site["is_observed"], "Site 'x' is sampled, not observed. Use `self.observe`, or pass `obs=data.values`.")
    require(is_local(site), "Site 'x' lies outside the plate. Call `observe` inside `with self.series(data):`.")
    event, expected = tuple(site["fn"].event_shape), tuple(case.data.values.shape[1:])
    require(
        event == expected and tuple(site["fn"].batch_shape) == (case.data.num_series,),
        f"Site 'x' must have batch (series {case.data.num_series}) and event (time, *obs) = {expected}. Got batch "
        f"{tuple(site['fn'].batch_shape)}, event {event}. Use `self.observe`, which moves the axes.",
    )


def series_is_the_only_plate(case: Case) -> None:
    """All plates are ``series``, at dim -1: the axes before it belong to draws and chains."""
    data = case.extended(HORIZON)
    for method in ("model", "guide"):
        for name, site in density_sites(traced(getattr(case.model, method), data, seed=case.seed)):
            for frame in site["cond_indep_stack"]:
                require(
                    frame.name == "series" and frame.dim == -1,
                    f"Site {name!r} of the {method} lies in the plate {frame.name!r} at dim {frame.dim}. Use only "
                    "`self.series(data)` and move other axes into the event with `.to_event`.",
                )


def dims_name_every_latent(case: Case) -> None:
    """`dims` has, for each latent site, one name for each of its event axes."""
    dims = case.model.dims
    for name, site in latent_sites(traced(case.model.model, case.data, seed=case.seed)):
        require(name in dims, f"`dims` does not name the axes of site {name!r}. Add {name!r}: ('<axis>', ...).")
        axes, event = tuple(dims[name]), tuple(site["fn"].event_shape)
        require(
            len(axes) == len(event),
            f"`dims[{name!r}]` = {axes} must name {len(event)} event axes, of sizes {event}.",
        )


def terms_are_unweighted(case: Case) -> None:
    """Sites have only the weight total / batch of the plate, global sites none.

    Weights of terms belong to the method: a scale inside the model would also affect chains and evaluation.
    """
    batch = case.data.minibatch(torch.arange(case.data.num_series - 1))
    for method in ("model", "guide"):
        for name, site in density_sites(traced(getattr(case.model, method), batch, seed=case.seed)):
            expected, got = batch.weight if is_local(site) else 1.0, float(site["scale"])
            require(
                abs(got - expected) < 1e-6 * expected,
                f"Site {name!r} of the {method} counts {got:g} times in a minibatch of {batch.num_series} out of "
                f"{batch.total} series, not {expected:g} times. Open the plate with `self.series(data)`, and give "
                "weights to the method, not to the model.",
            )
            require(
                site["mask"] is None,
                f"Site {name!r} of the {method} is under a `poutine.mask`, which energies per series do not see. "
                "Mask the distribution, as `observe` does, or pass `valid` to a path distribution.",
            )


def guide_ignores_the_horizon(case: Case) -> None:
    """The guide gives the same draws with a horizon and without: it runs on ``data.seen()``."""
    _require_own_guide(case)
    case = case.double()
    seen, ahead = case.draw().values, case.draw(case.extended(HORIZON)).values
    require_equal(ahead, seen, "The guide's draws change when a horizon is added. Begin with `data = data.seen()`.")


def randomness_lives_in_sites(case: Case) -> None:
    """Once all latent sites are given, the densities of model and guide do not depend on the seed."""
    case = case.double()
    values = case.draw().values
    for method in (case.model.model, case.model.guide):
        first, second = (_densities(method, case, values, seed) for seed in (case.seed, case.seed + 1))
        require_equal(
            second,
            first,
            f"Densities of the {method.__name__} change with the seed although all latents are given. Draw random "
            "numbers at sample sites only; random views of the data belong in `training_view`.",
            rtol=0.0,
        )


def _densities(method: Callable, case: Case, values: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    trace = traced(poutine.condition(method, data=values), case.data, seed=seed)
    return {name: site["fn"].log_prob(site["value"]).detach() for name, site in density_sites(trace)}
