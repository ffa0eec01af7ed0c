"""`fit`: the same for the same seed, what it leaves alone, what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training.trainer import Trainer
from tests.training.runs import same_weights


def test_same_seed_same_bits_and_another_seed_another_run(toy, quiet):
    data, method = toy.make_data(), SVI(num_steps=20, batch_size=3)
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(models))  # the caller's random state must not matter
        models.append(fit(toy.make_lines(), data, method, seed=seed, trainer=quiet).model)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_two_models_share_nothing(toy, quiet):
    data = toy.make_data()
    alone = fit(toy.make_lines(), data, SVI(num_steps=5), trainer=quiet).model
    first, second = toy.make_lines(), toy.make_lines(1)
    fit(first, data, SVI(num_steps=5), trainer=quiet)
    kept = copy.deepcopy(first)
    fit(second, data, SVI(num_steps=5), trainer=quiet)
    assert same_weights(first, kept) and same_weights(first, alone)


def test_frozen_parameters_stay(toy, quiet):
    model = toy.make_lines()
    model.encoder.requires_grad_(False)
    frozen = copy.deepcopy(model.encoder.state_dict())
    fit(model, toy.make_data(), SVI(num_steps=5), trainer=quiet)
    assert all(torch.equal(value, frozen[name]) for name, value in model.encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": torch.nn.Linear(1, 1)}, DataError, "`model` must be a `SequenceModel`"),
        ({"data": torch.zeros(3, 4, 1)}, DataError, "`data` must be a `Sequences`"),
        ({"method": SVI}, DataError, "`method`"),
        ({"method": "svi"}, DataError, "`method`"),
        ({"seed": -1}, DataError, "`seed`"),
        ({"trainer": {}}, DataError, "`trainer`"),
        ({"trainer": Trainer(validate_every=1)}, DataError, "validation"),
        ({"validation": 3}, DataError, "`validation`"),
        ({"data": Sequences(torch.zeros(3, 6, 1))}, ShapeError, "obs_shape"),
        ({"data": Sequences(torch.zeros(3, 6, 2), times=torch.arange(9.0))}, DataError, "horizon"),
        ({"data": Sequences(torch.zeros(3, 6, 2, dtype=torch.float64))}, DataError, "floating type"),
    ],
)
def test_door(toy, quiet, change, error, words):
    arguments = {"model": toy.make_lines(), "data": toy.make_data(), "method": SVI(num_steps=1), "trainer": quiet}
    arguments |= change
    with pytest.raises(error, match=words):
        fit(arguments.pop("model"), arguments.pop("data"), arguments.pop("method"), **arguments)


def test_validation_data_without_validation_are_refused(toy, quiet):
    data = toy.make_data()
    with pytest.raises(DataError, match="`validation` has no effect"):
        fit(toy.make_lines(), data, SVI(num_steps=1), validation=data, trainer=quiet)
