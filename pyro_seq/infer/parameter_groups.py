"""Groups of a model's parameters: those of the generator, those of the energies, and those of the guide."""

from __future__ import annotations

from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import energy_based, unnormalised
from pyro_seq.model import SequenceModel, is_local, is_random, local_parameters


class ParameterGroups(NamedTuple):
    """The parameters of a model that require gradients, in three groups without overlap.

    Attributes:
        generator: Parameters that the joint density of latents and data depends on, except those of energies.
        energy: Parameters of the energies of energy-based priors.
        others: All other parameters, which are those of the guide.
    """

    generator: list[nn.Parameter]
    energy: list[nn.Parameter]
    others: list[nn.Parameter]


def parameter_groups(model: SequenceModel, data: Sequences) -> ParameterGroups:
    """Group the parameters by what depends on them, using a draw from the prior; a few series as `data` are enough."""
    density, energies = data.values.new_zeros(()), data.values.new_zeros(())
    with torch.enable_grad(), isolated_rng(0), unnormalised(), passing_nonfinite(), pyro.validation_enabled(False):
        with local_parameters():
            trace = poutine.trace(model.model).get_trace(data)
        for site in trace.nodes.values():
            if is_random(site) and is_local(site):
                density = density + site["fn"].log_prob(site["value"]).sum()
                prior = energy_based(site["fn"])
                if prior is not None:
                    energies = energies + prior.energy(site["value"].detach()).sum()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    is_energy, is_generator = _reached(energies, trained), _reached(density, trained)
    groups = ParameterGroups([], [], [])
    for parameter, in_energy, in_density in zip(trained, is_energy, is_generator, strict=True):
        (groups.energy if in_energy else groups.generator if in_density else groups.others).append(parameter)
    return groups


def _reached(total: Tensor, parameters: list[nn.Parameter]) -> list[bool]:
    if not total.requires_grad or not parameters:
        return [False] * len(parameters)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return [gradient is not None for gradient in gradients]
