"""Checks on training: gradients, progress, plain Pyro, saved weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pyro
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import Tensor

from pyro_seq._random import isolated_rng
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.sequence_elbo import SequenceELBO
from pyro_seq.model import SequenceModel, is_local
from pyro_seq.predict.verbs import forecast
from pyro_seq.testing.case import (
    HORIZON,
    NUM_DRAWS,
    Case,
    NotApplicable,
    latent_sites,
    objective_terms,
    require,
    require_equal,
    require_finite,
    traced,
)

_NUM_STEPS = 20
_LEARNING_RATE = 3e-3


def _train(case: Case, num_steps: int, after: Callable[[SequenceModel], None] = lambda model: None) -> None:
    """Train the model of `case` in place, on all data; `after` is called before each update."""
    model = case.model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise NotApplicable("the model has no parameters to train")
    optimizer = torch.optim.Adam(trained, lr=_LEARNING_RATE)
    objective, generator = Objective(model), case.generator()
    with isolated_rng(case.seed):
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss = objective(model.training_view(case.data, generator)).total
            require_finite(loss, "The training objective", "Check scales and step sizes at initialisation.")
            loss.backward()
            after(model)
            optimizer.step()
    model.eval()


def parameters_get_gradients(case: Case) -> None:
    """Every trainable parameter gets finite gradients, and a nonzero one within a few steps."""
    alive: set[str] = set()

    def look(model: SequenceModel) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                require_finite(parameter.grad, f"The gradient of {name!r}", "Look for 0 times infinity on its way.")
                if bool((parameter.grad != 0).any()):
                    alive.add(name)

    _train(case, 3, look)
    wanted = [name for name, parameter in case.model.named_parameters() if parameter.requires_grad]
    dead = [name for name in wanted if name not in alive]
    require(
        not dead,
        f"No gradient reaches {dead}. Use these parameters in `model` or `guide`, or remove them; an unused one aborts "
        "training on several devices.",
    )


def training_lowers_the_objective(case: Case) -> None:
    """A few steps of Adam lower the objective, at fixed random numbers, and move every parameter."""
    before = _mean_objective(case)
    start = {name: parameter.detach().clone() for name, parameter in case.model.named_parameters()}
    _train(case, _NUM_STEPS)
    trained = {name: value for name, value in case.model.named_parameters() if value.requires_grad}
    still = [name for name, value in trained.items() if torch.equal(value, start[name])]
    require(not still, f"{_NUM_STEPS} steps do not move {still}. Use these parameters, or remove them.")
    after = _mean_objective(case)
    require(
        after < before,
        f"{_NUM_STEPS} steps of Adam with rate {_LEARNING_RATE:g} take the objective from {before:.6g} to {after:.6g} "
        "nats a series. Look at the sign of the regularisers and at scales at initialisation.",
    )


def _mean_objective(case: Case) -> float:
    with isolated_rng(case.seed):
        draws = [Objective(case.model)(case.data).total.detach() for _ in range(8)]
    return float(torch.stack(draws).mean())


def plain_pyro_trains(case: Case) -> None:
    """`pyro.infer.SVI(model.model, model.guide, ...)` finds the parameters that the library trains, and moves them."""
    model = case.model.train()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with pyro.get_param_store().scope(), isolated_rng(case.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about terms that `Trace_ELBO` leaves out
        for loss in (Trace_ELBO(max_plate_nesting=1), SequenceELBO(model)):
            SVI(model.model, model.guide, pyro.optim.Adam({"lr": _LEARNING_RATE}), loss).step(case.data)
        known = {value.data_ptr() for _, value in pyro.get_param_store().named_parameters()}
    parameters = dict(model.named_parameters())
    lost = [name for name, value in parameters.items() if value.requires_grad and value.data_ptr() not in known]
    do = "Begin `model` and `guide` with `self.bind()`."
    require(not lost, f"Plain Pyro does not know {lost} and never trains them. {do}")
    moved = [name for name, value in parameters.items() if not torch.equal(value, start[name])]
    require(bool(moved) or not parameters, f"Plain Pyro moves no parameter. {do}")


def plain_pyro_predicts(case: Case) -> None:
    """`pyro.infer.Predictive` forecasts, sequentially and vectorised, and both follow the same draws.

    Vectorised prediction needs draws (sample, 1, event) of shared latents; Pyro returns this shape if the guide has a
    site of single series, otherwise the caller must add the middle axis.
    """
    case = case.double()
    model, data = case.model, case.extended(HORIZON)
    sites = {name: is_local(site) for name, site in latent_sites(traced(model.model, data, seed=case.seed))}
    has_local = any(is_local(site) for _, site in latent_sites(traced(model.guide, data, seed=case.seed)))
    shape = (NUM_DRAWS, data.num_series, HORIZON, *data.obs_shape)
    with pyro.get_param_store().scope(), isolated_rng(case.seed):
        for is_parallel in (False, True) if has_local else (False,):
            drawn = Predictive(model.model, guide=model.guide, num_samples=NUM_DRAWS, parallel=is_parallel)(data)
            require(
                drawn["x_future"].shape == shape,
                f"`Predictive(..., parallel={is_parallel})` gives `x_future` {tuple(drawn['x_future'].shape)}. "
                f"Expected {shape}. A latent that all series share comes as (1, event): drop that axis.",
            )
        draws = {
            name: drawn[name] if is_of_series else drawn[name].reshape(NUM_DRAWS, 1, -1)
            for name, is_of_series in sites.items()
            if name != "x_future"
        }
        found = [Predictive(model.model, draws, parallel=is_parallel)(data) for is_parallel in (False, True)]
    first, second = ({name: run[name] for name in run if name not in ("x", "x_future")} for run in found)
    require_equal(first, second, "`Predictive` follows one draw alone elsewhere than among others.")


def state_dict_is_complete(case: Case) -> None:
    """A trained model's `state_dict`, loaded into a copy with other weights, gives the same predictions."""
    loose = [
        f"{path}.{name}".lstrip(".")
        for path, part in case.model.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, Tensor)
    ]
    require(not loose, f"{loose} are plain tensors, which neither move nor load. Use `register_buffer`.")
    twin = case.copy()
    _train(case, 3)
    state = copy.deepcopy(case.model.state_dict())
    twin.model.load_state_dict({name: _perturbed(value) for name, value in state.items()})
    twin.model.load_state_dict(state)
    results = []
    for one in (twin, case):
        prediction = forecast(one.posterior, one.extended(HORIZON), num_samples=NUM_DRAWS, seed=case.seed)
        results.append({"x_future": prediction.samples, **prediction.latents, **objective_terms(one, one.data)})
    require_equal(
        results[0],
        results[1],
        "A copy that loads the `state_dict` predicts differently. Keep state in parameters and buffers only.",
        rtol=0.0,
    )


def _perturbed(value: Tensor) -> Tensor:
    return value + 0.5 if value.is_floating_point() else value
