"""Checks on densities and objectives: masks, cutting, independence, minibatches, draws, continuation."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import UnsupportedError
from pyro_seq.infer.objective import Objective
from pyro_seq.predict.verbs import sample
from pyro_seq.testing.case import (
    NUM_DRAWS,
    Case,
    NotApplicable,
    latent_sites,
    objective_terms,
    require,
    require_equal,
    require_finite,
    series_densities,
    traced,
)

_NUM_SIMULATED = 400
_STEP = 1e-5  # of central differences, in double precision
_SCORE_ERRORS = 6.0  # largest distance of a mean score from zero, in standard errors


def hidden_steps_are_ignored(case: Case) -> None:
    """Values at hidden steps change neither the objective nor, if set after construction, the likelihood."""
    _hidden_are_ignored(case, case.hidden_steps())


def hidden_entries_are_ignored(case: Case) -> None:
    """The same for single entries of an observation, if the emission scores entries separately."""
    if case.data.values[0, 0].numel() == 1:
        raise NotApplicable("an observation has one entry only")
    shape = case.data.values.shape
    hidden = case.hidden_steps().reshape(shape[:2] + (1,) * (len(shape) - 2))
    entries = (torch.rand(shape, generator=case.generator()) < 0.5).to(hidden.device)
    entries[0, -1], entries[0, -1].reshape(-1)[0] = False, True
    try:
        _hidden_are_ignored(case, hidden & entries)
    except UnsupportedError as error:
        raise NotApplicable(f"the emission scores whole observations ({error})") from error


def _hidden_are_ignored(case: Case, hidden: Tensor) -> None:
    data = case.data.hide(hidden)
    garbage = torch.where(data.entry_mask, data.values, torch.full_like(data.values, float("nan")))
    overwritten = dataclasses.replace(data, values=garbage, mask=data.mask)
    expected = objective_terms(case, data)
    require_equal(objective_terms(case, overwritten), expected, "The objective changes with hidden values.", rtol=0.0)
    _require_finite_gradients(case, data, "with hidden entries")
    if case.model.is_conditional or not bool(case.data.values.any()):
        return
    values = case.draw(data).values
    leaked = copy.copy(data)  # bypasses the constructor, which would fill in zeros again
    other = case.data.values[case.data.values != 0][:1]  # an observed value, so that it lies in the emission's support
    object.__setattr__(leaked, "values", torch.where(data.entry_mask, data.values, other))
    require_equal(
        series_densities(case.model.model, leaked, values),
        series_densities(case.model.model, data, values),
        "The density of the model at given latents changes with hidden values. Use `self.observe`, which masks them, "
        "and read `data.values` nowhere else in `model`.",
        rtol=0.0,
    )


def unseen_series_is_finite(case: Case) -> None:
    """A series without a single observation has a finite objective and finite gradients."""
    if case.model.is_conditional:
        raise NotApplicable("the model needs seen frames")
    hidden = torch.zeros(case.data.values.shape[:2], dtype=torch.bool)
    hidden[0] = True
    _require_finite_gradients(case, case.data.hide(hidden), "when a series has no observations")


def _require_finite_gradients(case: Case, data: Sequences, when: str) -> None:
    model = copy.deepcopy(case.model)
    with isolated_rng(case.seed):
        loss = Objective(model)(data).total
        require_finite(loss, f"The objective {when}", "Do not divide by a count of observations that can be zero.")
        loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            require_finite(
                parameter.grad,
                f"The gradient of {name!r} {when}",
                "Replace bad values with `torch.where` before the operation that spoils them, not after it.",
            )


def hiding_equals_cutting(case: Case) -> None:
    """Hiding the steps from k on gives the same objective, term by term, and the same guide as cutting the series at k.

    At one draw of the guide: a path site is compared over its first k steps, and the terms of guide and model at hidden
    steps must cancel in the bound.
    """
    case = case.double()
    steps, cut = case.cut()
    beyond = (torch.arange(case.data.num_steps) >= steps).expand(case.data.num_series, -1)
    hidden = case.data.hide(beyond)
    values = case.draw(hidden).values
    prefix = {name: value[..., :steps, :] if name in case.paths else value for name, value in values.items()}
    reason = (
        f"Hiding the steps from {steps} on is not the same as cutting there. The guide, or a path distribution without "
        "`valid`, lets padding count: give encoders the mask, and end recursions at the last observed step."
    )
    guides = [series_densities(case.model.guide, data, draw) for data, draw in ((hidden, values), (cut, prefix))]
    comparable = [{name: value for name, value in guide.items() if name not in case.paths} for guide in guides]
    require_equal(comparable[0], comparable[1], reason)
    require_equal(objective_terms(case, hidden, values), objective_terms(case, cut, prefix), reason)


def series_are_independent(case: Case) -> None:
    """Dropping and reordering other series does not change the guide and the densities of a series."""
    case = case.double()
    latents = case.draw()
    backwards = torch.arange(case.data.num_series - 1, 0, -1)
    for index in (backwards, torch.tensor([case.data.num_series // 2])):
        for name in ("model", "guide"):
            method = getattr(case.model, name)
            full = series_densities(method, case.data, latents.values)
            require_equal(
                series_densities(method, case.data[index], latents.select(index)),
                {site: value[index] for site, value in full.items()},
                f"The {name} of a series depends on which other series are in the batch. No statistics over the batch "
                "(BatchNorm, means over axis 0), no step sizes shared between series.",
            )


def minibatches_partition(case: Case) -> None:
    """At given latents the terms of a partition into minibatches average to those of all data, regularisers too."""
    case = case.double()
    latents, data = case.draw(), case.data
    full = objective_terms(case, data, latents.values)
    noisy = _noisy_terms(case, latents.values, full)
    average = {name: torch.zeros_like(term) for name, term in full.items()}
    order = torch.randperm(data.num_series, generator=case.generator())
    for index in order.tensor_split(2):
        batch = data.minibatch(index)
        for name, term in objective_terms(case, batch, latents.select(index)).items():
            average[name] = average[name] + term * len(batch) / data.total
    require_equal(
        {name: term for name, term in average.items() if name not in noisy},
        {name: term for name, term in full.items() if name not in noisy},
        "Terms of minibatches do not add up to those of all data. Open the plate with `self.series(data)`, and return "
        "regularisers per series and unscaled.",
    )


def _noisy_terms(case: Case, values: dict[str, Tensor], terms: dict[str, Tensor]) -> set[str]:
    """Names of regularisers that are noisy estimates and cannot be compared exactly."""
    again = objective_terms(dataclasses.replace(case, seed=case.seed + 1), case.data, values)
    sites = set(case.draw().values) | {"x"}
    return {name for name, term in terms.items() if name not in sites and not torch.equal(term, again[name])}


def draws_vectorise(case: Case) -> None:
    """Densities and objective with a leading axis of draws equal those of the single draws.

    Catches layers that mix draws, global values (sample, 1, event) with their 1, and weights drawn in the plate.
    """
    case = case.double()
    values = case.posterior.draws(case.data, NUM_DRAWS, seed=case.seed)
    local = case.draw().local
    singles = [
        {name: value[i] if name in local else value[i].squeeze(0) for name, value in values.items()}
        for i in range(NUM_DRAWS)
    ]
    reason = (
        "A batch of draws gives other numbers than the draws one by one. Write every operation for any axes in front "
        "of (series, time, dim), and squeeze the axis of size 1 that global values have before their event."
    )
    for method in (case.model.model, case.model.guide):
        loop = [series_densities(method, case.data, single) for single in singles]
        together = series_densities(method, case.data, values)
        wanted = {name: torch.stack([one[name] for one in loop]) for name in loop[0]}
        require_equal({name: value.expand_as(wanted[name]) for name, value in together.items()}, wanted, reason)
    loop = [objective_terms(case, case.data, single) for single in singles]
    noisy = _noisy_terms(case, singles[0], loop[0])
    together = objective_terms(case, case.data, values, num_particles=NUM_DRAWS)
    wanted = {name: torch.stack([one[name] for one in loop]).mean() for name in loop[0] if name not in noisy}
    require_equal({name: value for name, value in together.items() if name not in noisy}, wanted, reason)


def shared_times_equal_repeated(case: Case) -> None:
    """Times given once for all series, or repeated for each, give the same objective."""
    case = case.double()
    data = case.data
    if data.times.ndim == 2:
        raise NotApplicable("the data have times for each series")
    values = case.draw().values
    repeated = dataclasses.replace(data, times=data.times.expand(data.num_series, -1))
    expected = objective_terms(case, data, values)
    noisy = _noisy_terms(case, values, expected)
    got = objective_terms(case, repeated, values)
    require_equal(
        {name: term for name, term in got.items() if name not in noisy},
        {name: term for name, term in expected.items() if name not in noisy},
        "The objective changes when the shared `times` (time,) are repeated for each series (series, time). Use "
        "`model_times` and broadcast from the right.",
    )


def horizon_continues_the_series(case: Case) -> None:
    """The density of all steps is the density of the first k steps times that of the rest as their horizon.

    Path sites need ``<name>_future`` with the density given the first k steps; ``x_future`` needs the emission of
    ``x``, except in a conditional model, whose emission depends on which frames were seen.
    """
    case = case.double()
    data = dataclasses.replace(case.data, mask=torch.ones_like(case.data.step_mask))
    steps, shorter = dataclasses.replace(case, data=data).cut()
    inputs = None if data.inputs is None else data.inputs[:, steps:]
    ahead = shorter.extend(times=data.times[..., steps:], inputs=inputs)
    values = case.draw(data).values
    split = {name: value for name, value in values.items() if name not in case.paths}
    for name in case.paths & values.keys():
        split |= {name: values[name][..., :steps, :], f"{name}_future": values[name][..., steps:, :]}
    split["x_future"] = data.values[:, steps:]
    whole = series_densities(case.model.model, data, values)
    parts = series_densities(case.model.model, ahead, split)
    if case.model.is_conditional:
        whole.pop("x", None)
    joined = {name: parts[name] + parts.get(f"{name}_future", 0.0) for name in whole.keys() & parts.keys()}
    absent = [f"{name}_future" for name in ("x", *sorted(case.paths & values.keys())) if f"{name}_future" not in parts]
    require(not absent, f"With a horizon the model lacks {absent}. Use `sample_path` and `observe`.")
    require_equal(
        joined,
        whole,
        f"The density of {data.num_steps} steps is not that of {steps} seen steps times that of the horizon after "
        "them. `future` must be the distribution of the next steps given the path, and the emission the same in both.",
        rtol=1e-6,
    )


def density_matches_sampler(case: Case) -> None:
    r"""The model's own draws have mean score zero, :math:`E_p[\nabla \log p] = 0`: its density is that of its sampler.

    Data are simulated from the prior, and the derivative of the log density of each series is averaged along one random
    direction for each parameter, by central differences.
    """
    if case.model.is_conditional:
        raise NotApplicable("the model has no prior without seen frames")
    case = case.double()
    prior = dict(latent_sites(traced(case.model.model, case.data, seed=case.seed)))
    for name, site in prior.items():
        if not getattr(site["fn"], "is_normalised", True):
            raise NotApplicable(f"the density of site {name!r} is not normalised")
    repeats = -(-_NUM_SIMULATED // case.data.num_series)
    grid = case.data.seen()[torch.arange(case.data.num_series).repeat(repeats)]
    drawn = sample(case.posterior, grid, num_samples=1, seed=case.seed)
    simulated = dataclasses.replace(grid, values=drawn.samples[0], mask=torch.ones_like(grid.step_mask))
    values = {name: value[0] for name, value in drawn.latents.items() if name in prior}
    for name, parameter in case.model.named_parameters():
        score = _directional_score(case, simulated, values, parameter)
        error = float(score.std() / score.numel() ** 0.5)
        require(
            abs(float(score.mean())) <= _SCORE_ERRORS * error + 1e-6,
            f"The mean score of {name!r} under the model's own draws is {float(score.mean()):.3g} with standard error "
            f"{error:.2g}, and must be zero. Some distribution draws by one law and scores by another.",
        )


def _directional_score(case: Case, data: Sequences, values: dict[str, Tensor], parameter: Tensor) -> Tensor:
    direction = torch.randn(parameter.shape, generator=case.generator(), dtype=torch.float64).to(parameter)
    densities, start = [], parameter.detach().clone()
    for sign in (1, -1):
        parameter.data.copy_(start + sign * _STEP * direction)
        terms = series_densities(case.model.model, data, values)
        densities.append(torch.stack(list(terms.values())).sum(0))
    parameter.data.copy_(start)
    return (densities[0] - densities[1]) / (2 * _STEP)
