"""What methods that follow a gradient share."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math

import numpy as np
import pyro
import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.training.gradient_method import GradientMethod, frozen
from pyro_seq.training.schedules import Constant
from tests.training.runs import same_weights


def test_optimizers(toy, quiet):
    for optimizer in (torch.optim.SGD, functools.partial(torch.optim.AdamW, weight_decay=0.1), torch.optim.RMSprop):
        model = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2, optimizer=optimizer), trainer=quiet).model
        assert not same_weights(model, toy.make_lines())


def test_constant_is_the_default_schedule():
    assert SVI(num_steps=1).schedule == Constant()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Untouched(GradientMethod):
    """The bound, with the decoder left alone."""

    def objective(self, model, data):
        return Objective(model)

    def untrained(self, objective):
        return list(objective.model.emit.parameters())


def test_what_a_method_does_not_train_is_frozen_for_the_run_only(toy, quiet):
    model = toy.make_lines()
    before = copy.deepcopy(model.state_dict())
    fit(model, toy.make_data(), Untouched(num_steps=3), trainer=quiet)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith(("emit", "time_scale", "_seen"))}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_parameters_thaw_after_an_error():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), frozen([layer.weight]):
        assert not layer.weight.requires_grad and layer.bias.requires_grad
        raise ZeroDivisionError
    assert layer.weight.requires_grad


def test_a_longer_run_has_the_same_facts_and_any_other_option_others():
    method = Untouched(num_steps=3, batch_size=4)
    assert method.facts() == dataclasses.replace(method, num_steps=9).facts()
    assert method.facts()["method"] == "Untouched" and "num_steps" not in method.facts()
    for change in ({"learning_rate": 0.5}, {"schedule": Constant(2.0)}, {"average": 0.9}, {"scales": {"x": 2.0}}):
        assert method.facts() != dataclasses.replace(method, **change).facts()


def test_one_optimiser_trains_all_that_asks_for_a_gradient(toy):
    model = toy.make_lines()
    model.encoder.requires_grad_(False)
    [optimizer] = Untouched(num_steps=1, learning_rate=0.25).optimizers(Objective(model))
    [group] = optimizer.param_groups
    assert group["lr"] == 0.25
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}


def test_an_objective_must_be_written():
    with pytest.raises(TypeError, match="objective"):
        GradientMethod(num_steps=1)


SCHEDULER = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    "optimizer",
    [
        pyro.optim.Adam,
        pyro.optim.Adam({"lr": 0.01}),
        pyro.optim.ClippedAdam,
        torch.optim.LBFGS,
        functools.partial(torch.optim.Adam, betas=0.9),
        lambda params, lr: SCHEDULER.StepLR(torch.optim.Adam(params, lr=lr), 10),
        lambda params, lr: None,
        torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]),
    ],
    ids=[
        "class of Pyro",
        "object of Pyro",
        "clipped",
        "closure",
        "bad option",
        "scheduler",
        "nothing",
        "object of torch",
    ],
)
def test_optimisers_that_cannot_be_used_are_refused_with_the_way_out(optimizer):
    with pytest.raises(DataError, match=r"(?s)`optimizer` must be a torch optimiser class.*Pass `torch.optim.Adam`"):
        SVI(num_steps=2, optimizer=optimizer)


@pytest.mark.parametrize("name", ["schedule", "scales", "num_particles"])
@pytest.mark.parametrize(
    "schedule", [SCHEDULER.StepLR, pyro.optim.ExponentialLR, lambda step: None, lambda step: math.nan, lambda: 1.0]
)
def test_functions_of_the_step_are_tried_once(name, schedule):
    with pytest.raises(DataError, match=rf"`{name}.* must be a function of the step"):
        SVI(num_steps=2, **{name: {"x": schedule} if name == "scales" else schedule})


def test_stateful_optimisers_of_torch_train(toy, quiet):
    for optimizer in (torch.optim.NAdam, torch.optim.Rprop, functools.partial(torch.optim.SGD, momentum=0.9)):
        method = SVI(num_steps=3, learning_rate=1e-3, optimizer=optimizer, schedule=lambda step: torch.tensor(0.5))
        assert fit(toy.make_lines(), toy.make_data(), method, trainer=quiet).status == "completed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("average", "0.9"),
        ("average", math.nan),
        ("scales", 3),
        ("scales", None),
        ("views", 3),
        ("views", [3]),
        ("learning_rate", "1"),
    ],
)
def test_options_of_other_types_are_refused_by_name(name, value):
    with pytest.raises(DataError, match=f"`{name}` must be"):
        SVI(num_steps=1, **{name: value})


def test_numbers_may_be_of_the_types_of_numpy(toy, quiet):
    numbers = {"learning_rate": 0.5, "clip_norm": 2.0, "average": 0.5, "scales": {"x": 0.5}}
    others = {name: np.float32(value) for name, value in numbers.items() if name != "scales"}
    others["scales"] = {"x": np.float32(0.5)}
    plain, other = (
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2, **options), trainer=quiet).model
        for options in (numbers, others)
    )
    assert same_weights(plain, other)
