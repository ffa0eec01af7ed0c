"""One bad batch among many, through every model: nothing of it stays in what is learnt, kept, saved or predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import pyro_seq as ps
from pyro_seq import models
from pyro_seq.nn.components import Cycle, Level
from pyro_seq.training import files
from tests.golden import make
from tests.training.runs import with_infinite

FEW, MANY = 6, 60  # steps, of which one is bad


def srvp(architecture: ps.DCGAN | ps.VGG, **options: Any) -> ps.SequenceModel:
    sizes = {"noise_dim": 2, "num_frames": 2, "hidden_dim": 8}
    return ps.SRVP((1, 8, 8), 2, architecture=architecture, **sizes, **options)


FILMS = {"obs_shape": (1, 8, 8)}
NORMALISED = {  # by statistics of a batch
    "srvp": make.POSTERIORS["srvp"],
    "srvp with skips": make.Golden(lambda: srvp(ps.VGG(((2,), (4,)), code_dim=4), content_dim=3), make.SVI, **FILMS),
    "srvp without content": make.Golden(lambda: srvp(ps.DCGAN((2, 4), code_dim=4), content_dim=0), make.SVI, **FILMS),
}
MODELS = NORMALISED | {
    name: make.POSTERIORS[name] for name in ("ode2vae", "ode2vae_images", "kalman_vae", "latent_ode", "recurrent_vae")
}
MODELS |= {
    "ode_lebm": make.POSTERIORS["ode_lebm_chains"],
    "dynamic_factors": make.Golden(lambda: ps.DynamicFactors((2,), 2), make.SVI),
    "structural_series": make.Golden(lambda: ps.StructuralSeries(Level() + Cycle()), make.SVI, (1,)),
}


def floats(nest: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of numbers in nested lists and dictionaries."""
    if isinstance(nest, Tensor) and nest.is_floating_point():
        yield name, nest
    elif isinstance(nest, dict | list | tuple):
        for key, part in nest.items() if isinstance(nest, dict) else enumerate(nest):
            yield from floats(part, f"{name}.{key}")


def bad_ones(nest: Any, name: str = "") -> list[str]:
    """Names of those that are not finite; a range of values that is not known is infinite."""
    return [name for name, value in floats(nest, name) if "_seen" not in name and not bool(value.isfinite().all())]


def check(golden: make.Golden, num_steps: int, value: float, folder: Path) -> None:
    """Train with one batch that holds `value`, and look at all that is left."""
    data = golden.data()
    method = dataclasses.replace(
        golden.method, num_steps=num_steps, average=0.9, views=[with_infinite(num_steps // 2, value)]
    )
    trainer = ps.Trainer(
        progress=False, accelerator="cpu", log_every=1, directory=folder, validate_every=2, keep_best=True
    )
    posterior = ps.fit(golden.model(0), data, method, validation=data, trainer=trainer)
    is_left_out = isinstance(method, ps.MaximumLikelihood)  # the one series, whose chains have no density
    assert posterior.history["skipped"][-1] == (0 if is_left_out else 1)
    assert posterior.history["frozen"][-1] >= 1 if is_left_out else "frozen" not in posterior.history
    assert bad_ones(posterior.model.state_dict(), "model") == []
    checkpoint = files.read(folder / "checkpoint.pt")
    assert bad_ones({name: checkpoint[name] for name in ("weights", "optimizers", "averages", "best")}) == []
    ps.save(posterior, folder / "posterior.pt")
    loaded = ps.load(folder / "posterior.pt")
    for prediction in (ps.forecast(loaded, data, horizon=2, num_samples=2), ps.impute(loaded, data, num_samples=2)):
        assert bad_ones([prediction.samples, prediction.emission_means, dict(prediction.latents)]) == []


def test_every_model_is_here() -> None:
    assert {type(golden.model(0)).__name__ for golden in MODELS.values()} == set(models.__all__)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of runs that are far too short
@pytest.mark.parametrize("name", [*NORMALISED, "dynamic_factors"])
def test_one_bad_batch_in_six(name: str, tmp_path: Path) -> None:
    check(MODELS[name], FEW, math.inf, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", MODELS)
def test_one_bad_batch_in_sixty(name: str, value: float, tmp_path: Path) -> None:
    check(MODELS[name], MANY, value, tmp_path)
