"""The page that leads from data to a model: its table is what the classes say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import pyro_seq as ps
from pyro_seq import models
from pyro_seq.distributions import PathDistribution
from pyro_seq.errors import PyroSeqError
from pyro_seq.model import SequenceModel, is_random
from pyro_seq.nn.components import Autoregression, Regression, Trend
from pyro_seq.testing.case import traced
from tests.pages import ROOT

PAGE = "docs/which_model.md"
IMAGE = (1, 16, 16)
SMALL = ps.DCGAN(channels=(4, 4), code_dim=8)
TOLD = "whoever changes the class changes the table of docs/which_model.md, too"

# the model as it comes, and with the parts that the table names
MADE: dict[str, dict[str, Callable[..., SequenceModel]]] = {
    "DynamicFactors": {"": lambda shape=(2,), **parts: ps.DynamicFactors(shape, 2, **parts)},
    "StructuralSeries": {
        "": lambda **parts: ps.StructuralSeries(Trend(), **parts),
        "Regression": lambda: ps.StructuralSeries(Trend() + Regression(1)),
        "Autoregression": lambda: ps.StructuralSeries(Autoregression()),
    },
    "ODELEBM": {"": lambda shape=(2,), **parts: ps.ODELEBM(shape, 2, encoder=ps.RNNEncoder(shape, 2), **parts)},
    "ODE2VAE": {"": lambda shape=(2,), **parts: ps.ODE2VAE(shape, 2, **parts)},
    "KalmanVAE": {
        "": lambda shape=(2,), **parts: ps.KalmanVAE(shape, **parts),
        "ContinuousDynamics": lambda: ps.KalmanVAE((2,), dynamics=ps.ContinuousDynamics(2, 2)),
    },
    "RecurrentVAE": {"": lambda shape=(2,), **parts: ps.RecurrentVAE(shape, **parts)},
    "SRVP": {
        "": lambda shape=IMAGE, **parts: srvp(shape, 4, **parts),
        "content_dim=0": lambda: srvp(IMAGE, 0),
    },
}


def srvp(shape: tuple[int, ...], content_dim: int, **parts: object) -> ps.SRVP:
    sizes = {"noise_dim": 2, "content_dim": content_dim, "num_frames": 2, "hidden_dim": 8}
    return ps.SRVP(shape, 3, architecture=SMALL, **sizes, **parts)


def works(call: Callable[[], object]) -> bool:
    try:
        call()
    except (PyroSeqError, TypeError):  # an argument that the class does not have
        return False
    return True


def frames(model: SequenceModel, times: list[float] | None = None) -> ps.Sequences:
    values = torch.rand(3, 4, *model.obs_shape, generator=torch.Generator().manual_seed(0))
    return ps.Sequences(values, times=times, inputs=torch.rand(3, 4, 1) if model.has_inputs else None)


def is_uneven(make: Callable[..., SequenceModel]) -> bool:
    model = make()
    data = frames(model, [0.0, 1.0, 1.7, 4.0])
    inputs = None if type(model).__name__ != "StructuralSeries" else data.inputs
    return works(lambda: model.check(ps.Sequences(data.values, times=data.times, inputs=inputs)))


def has_noise(make: Callable[..., SequenceModel]) -> bool:
    model = make()
    data = ps.Sequences(frames(model).values)
    model.take_units(data)
    sites = traced(model.model, data, seed=0).nodes.values()
    return any(
        isinstance(base, PathDistribution)
        for site in sites
        if is_random(site)
        for base in (site["fn"], getattr(site["fn"], "base_dist", None))
    )


ABILITIES: dict[str, Callable[[Callable[..., SequenceModel]], bool]] = {
    "irregular times": is_uneven,
    "known inputs": lambda make: make().has_inputs,
    "noise in the dynamics": has_noise,
    "images": lambda make: works(lambda: make(IMAGE)),
    "any emission": lambda make: works(lambda: make(emission=ps.BernoulliEmission())),
    "draws from the prior": lambda make: not make().is_conditional,
}


def table() -> dict[str, dict[str, str]]:
    """Cells of the tested table, by model and ability."""
    text = (Path(ROOT) / PAGE).read_text()
    lines = text.split("<!-- abilities -->")[1].split("<!-- end of abilities -->")[0].strip().splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def test_all_models_and_abilities_are_in_the_table():
    rows = table()
    assert set(rows) == MADE.keys() == {name for name in models.__all__ if name[0].isupper()}, TOLD
    assert all(cells.keys() == ABILITIES.keys() for cells in rows.values())


@pytest.mark.parametrize("ability", ABILITIES)
@pytest.mark.parametrize("name", MADE)
def test_a_cell_is_what_the_class_says(name, ability):
    cell, ask = table()[name][ability], ABILITIES[ability]
    torch.manual_seed(0)
    as_it_comes = ask(MADE[name][""])
    if part := re.fullmatch("with `(.*)`", cell):
        assert not as_it_comes and ask(MADE[name][part[1]]), f"{name}, {ability}: {TOLD}"
    else:
        assert cell == ("yes" if as_it_comes else "no"), f"{name}, {ability}: {TOLD}"
