"""Which parameters belong to the generator, to the energy, and to the guide alone."""

from __future__ import annotations

from pyro_seq.infer.parameter_groups import parameter_groups
from pyro_seq.nn.energy import EnergyMLP


def test_parameters_are_told_apart(factors) -> None:
    model = factors.Factors(EnergyMLP(factors.DIM, (4,)))
    model.log_scale.requires_grad_(False)
    groups = parameter_groups(model, factors.make_data())
    assert groups.generator == [model.weight]
    assert groups.energy == list(model.energy.parameters())
    assert groups.others == list(model.encoder.parameters())
