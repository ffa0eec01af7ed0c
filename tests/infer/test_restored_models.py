"""A file tells all that decides a prediction: models built from it alone, and files that belong to other options."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.nn.thinned_encoder import ThinnedEncoder
from pyro_seq.training.files import read, write
from tests.golden.make import POSTERIORS, fitted, predictions
from tests.user_parts import IMAGE, models

ROOT = Path(__file__).parents[2]
READ_ALL = """
import sys
from pathlib import Path
import numpy as np
import pyro_seq as ps
from tests.golden.make import POSTERIORS, predictions
folder, stored = Path(sys.argv[1]), {}
for name, golden in POSTERIORS.items():
    posterior = ps.load(folder / f"{name}.pt")
    stored |= {f"{name}/{kind}": means for kind, means in predictions(posterior, golden.data()).items()}
np.savez(folder / "predictions.npz", **stored)
"""

Change = Callable[[Any], None]


def change(name: str, value: Any) -> Change:
    """Set the attribute or part with a dotted name."""

    def apply(model: nn.Module) -> None:
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, value)

    return apply


# model, what is changed, and the line that must be in the message
CHANGES = [
    ("ode2vae", change("time_step", 0.4), "time_step: 0.1 in the file, 0.4 here"),
    ("ode2vae", change("has_path_kl", False), "has_path_kl: True in the file, False here"),
    ("ode2vae", change("flow.solver", ps.Euler()), "flow.solver: RK4 in the file, Euler here"),
    ("ode2vae", change("flow.solver", ps.RK4(0.05)), "flow.solver.step_size: 0.1 in the file, 0.05 here"),
    ("ode2vae", change("vector_field.prior_scale", 2.0), "vector_field.prior_scale: 1.0 in the file, 2.0 here"),
    ("ode2vae", change("emission.minimum_scale", 0.1), "emission.minimum_scale: 0.001 in the file, 0.1 here"),
    ("ode2vae", change("emission.units.floor", 0.1), "emission.units.floor: 0.03 in the file, 0.1 here"),
    (
        "ode2vae",
        change("emission.decoder.layers.0.1", nn.ReLU()),
        "layers.0.1: Tanh in the file, ReLU here",
    ),
    ("ode2vae_images", change("encoder.velocity.trunk.layers.2", nn.Tanh()), "trunk.layers.2: ReLU in the file, Tanh"),
    ("kalman_vae", change("has_states", False), "has_states: True in the file, False here"),
    ("kalman_vae", change("encoder.maximum_variance", 0.5), "encoder.maximum_variance: 0.03 in the file, 0.5 here"),
    ("srvp", change("num_substeps", 4), "num_substeps: 1 in the file, 4 here"),
    ("srvp", change("emission.scale", 0.5), "emission.scale: 1.0 in the file, 0.5 here"),
    ("latent_ode", change("encoder.solver", ps.RK4()), "encoder.solver: Euler in the file, RK4 here"),
    ("latent_ode", change("initial_prior", ps.LearnedNormal(2)), "initial_prior: StandardNormal in the file, Learned"),
    ("recurrent_vae", change("transition.minimum_scale", 0.1), "transition.minimum_scale: 0.001 in the file, 0.1 here"),
    ("ode_lebm_chains", change("initial_prior.num_steps", 5), "initial_prior.num_steps: 60 in the file, 5 here"),
    ("ode_lebm_chains", change("initial_prior.network.layers.1", nn.SiLU()), "layers.1: GELU in the file, SiLU here"),
]


def guide(model: ps.SequenceModel) -> ps.GuidePosterior:
    return ps.GuidePosterior(model)


def test_each_model_is_restored_by_its_file_alone(tmp_path: Path) -> None:
    """Bit by bit, in a new process: all five classes, from guides, posterior chains and stored draws."""
    here = {}
    for name, golden in POSTERIORS.items():
        posterior = fitted(golden)
        ps.save(posterior, tmp_path / f"{name}.pt")
        here |= {f"{name}/{kind}": means for kind, means in predictions(posterior, golden.data()).items()}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([sys.executable, "-c", READ_ALL, str(tmp_path)], check=True, env=environment, timeout=200)
    with np.load(tmp_path / "predictions.npz") as there:
        assert sorted(there) == sorted(here) and len(here) == 2 * len(POSTERIORS)
        assert [name for name in here if not np.array_equal(there[name], here[name])] == []


@pytest.mark.filterwarnings("ignore:.*holds no measured noise")
@pytest.mark.parametrize(("name", "apply", "line"), CHANGES, ids=[f"{name}-{line[:40]}" for name, _, line in CHANGES])
def test_another_option_is_refused_by_its_name(name: str, apply: Change, line: str, tmp_path: Path) -> None:
    """Sizes of all tensors are equal but in one case."""
    path = tmp_path / "file.pt"
    ps.save(guide(POSTERIORS[name].model(0)), path)
    ps.load(path, POSTERIORS[name].model(1))
    other = POSTERIORS[name].model(1)
    apply(other)
    before = [parameter.clone() for parameter in other.parameters()]
    with pytest.raises(ps.CheckpointError) as caught:
        ps.load(path, other)
    assert line in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*holds no measured noise")
@pytest.mark.parametrize("name", ["ode2vae", "srvp", "latent_ode"])
def test_an_option_changed_after_training_is_saved_as_it_is(name: str, tmp_path: Path) -> None:
    model = POSTERIORS[name].model(0)
    if name == "srvp":
        model.num_substeps = 3
    else:
        model.flow.solver = ps.RK4(0.02, is_dense=True)
    ps.save(guide(model), tmp_path / "file.pt")
    again = ps.load(tmp_path / "file.pt").model
    data = POSTERIORS[name].data()
    there, here = predictions(guide(again), data), predictions(guide(model), data)
    assert all(np.array_equal(there[kind], here[kind]) for kind in here)
    with pytest.raises(ps.CheckpointError, match=r"num_substeps: 3|flow\.solver\.step_size: 0\.02"):
        ps.load(tmp_path / "file.pt", POSTERIORS[name].model(1))


def test_what_the_arguments_do_not_tell_needs_a_model(tmp_path: Path) -> None:
    """A layer put into a part later: the model built anew would be another one, and is not given out."""
    model = POSTERIORS["ode2vae"].model(0)
    model.emission.decoder.layers[0][1] = nn.ReLU()
    ps.save(guide(model), tmp_path / "file.pt")
    with pytest.raises(ps.CheckpointError, match=r"layers\.0\.1: ReLU in the file, Tanh here\nIt was changed"):
        ps.load(tmp_path / "file.pt")


def test_the_same_model_by_other_arguments_is_the_same(tmp_path: Path) -> None:
    ps.save(guide(ps.ODE2VAE((2,), flow=ps.Flow(3), num_velocity_frames=3, time_step=1)), tmp_path / "file.pt")
    ps.load(tmp_path / "file.pt", ps.ODE2VAE([2], 3, flow=ps.Flow(3, solver=ps.RK4(1.0)), time_step=1.0))


@pytest.mark.parametrize("kind", [ps.ODE2VAE, ps.ODELEBM])
def test_a_file_with_one_step_an_interval_keeps_it(kind: type[ps.SequenceModel], tmp_path: Path) -> None:
    """The default of earlier versions, which their files spell out; a model of today's default is another one."""
    model = kind((2,), 2, flow=ps.Flow(2, order=1, solver=ps.RK4()))
    times = torch.tensor([[0.0, 0.3, 4.0]], dtype=torch.float64)
    ps.save(guide(model), tmp_path / "file.pt")
    again = ps.load(tmp_path / "file.pt").model
    assert again.flow.solver == ps.RK4()
    paths = [one.flow(torch.sin, torch.ones(1, 2), times).path for one in (model, again)]
    assert torch.equal(*paths)
    with pytest.raises(ps.CheckpointError, match=r"flow\.solver\.step_size: None in the file, 0\.1 here"):
        ps.load(tmp_path / "file.pt", kind((2,), 2, flow=ps.Flow(2, order=1)))


def test_double_precision_and_the_random_state_are_kept(tmp_path: Path) -> None:
    encoder = ThinnedEncoder(ps.RNNEncoder((2,), 2), shares=(0.5,))
    model = ps.ODELEBM((2,), 2, encoder=encoder).double()
    ps.save(guide(model), tmp_path / "file.pt")
    before = torch.get_rng_state()
    again = ps.load(tmp_path / "file.pt").model
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(again.state_dict().values(), model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("name", ["ODE2VAE", "ODELEBM", "KalmanVAE", "RecurrentVAE", "SRVP"])
def test_parts_of_ones_own_need_a_model(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    ps.save(guide(models()[name]), path)
    with pytest.raises(ps.CheckpointError, match=r"emission \(LaplaceEmission\).*load\(path, model\)"):
        ps.load(path)
    ps.load(path, models()[name])
    other = models()[name]
    other.emission.degrees = 3.0  # an option of the user's class
    with pytest.warns(UserWarning, match=r"not compared: \['emission.degrees'\]"):
        ps.load(path, other)
    other.emission = ps.GaussianEmission(other.emission.decoder)
    with pytest.raises(ps.CheckpointError, match="emission: LaplaceEmission in the file, GaussianEmission here"):
        ps.load(path, other)


def test_a_function_in_place_of_a_network_counts(tmp_path: Path) -> None:
    def model(rate: float) -> ps.SequenceModel:
        return ps.ODELEBM((2,), 2, vector_field=ps.DeterministicField(lambda state: -rate * state))

    ps.save(guide(model(0.5)), tmp_path / "file.pt")
    ps.load(tmp_path / "file.pt", model(0.5))
    with pytest.raises(ps.CheckpointError, match=r"vector_field\.module\.rate: 0\.5 in the file, 2\.0 here"):
        ps.load(tmp_path / "file.pt", model(2.0))


def test_a_model_of_ones_own_compares_its_options(toy: Any, tmp_path: Path) -> None:
    """Numbers, and tensors that are no buffers."""
    model = toy.make_lines()
    model.noise, model.grid = 0.5, torch.arange(3.0)
    ps.save(guide(model), tmp_path / "file.pt")
    other = toy.make_lines(seed=1)
    other.noise, other.grid = 0.7, torch.arange(3.0)
    with pytest.raises(ps.CheckpointError, match=r"else:\n  noise: 0\.5 in the file, 0\.7 here\nBuild"):
        ps.load(tmp_path / "file.pt", other)
    other.noise, other.grid = 0.5, torch.ones(3)
    with pytest.raises(ps.CheckpointError, match=r"grid: float32 \(3,\) \w+ in the file"):
        ps.load(tmp_path / "file.pt", other)
    with pytest.raises(ps.CheckpointError, match=r"cannot make: model \(Lines\)"):
        ps.load(tmp_path / "file.pt")


def test_a_file_names_only_what_is_on_the_list(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    ps.save(guide(ps.ODE2VAE(IMAGE, 2)), path)
    for how, words in [
        ({"kind": "system", "arguments": {"command": "true"}}, r"cannot make: model \(system\)"),
        ({"kind": "ODE2VAE", "arguments": {"obs_shape": (2,), "sovler": 1}}, "unexpected keyword argument 'sovler'"),
        ({"kind": "ODE2VAE", "arguments": {"obs_shape": (2,), "time_step": -1.0}}, "`time_step` must be positive"),
        ({"kind": "Flow", "arguments": {"dim": 2}}, "a Flow is not a model"),
        ({"kind": "KalmanVAE", "arguments": {"obs_shape": (2,)}}, "class: ODE2VAE in the file, KalmanVAE here"),
    ]:
        write(read(path) | {"recipe": how}, path)
        with pytest.raises(ps.CheckpointError, match=words):
            ps.load(path)


def test_a_run_refuses_other_options(quiet: Any, tmp_path: Path) -> None:
    data = ps.Sequences(torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0)))
    trainer = dataclasses.replace(quiet, directory=tmp_path, resume=True)
    ps.fit(ps.ODE2VAE((2,), 1), data, ps.SVI(num_steps=1), trainer=trainer)
    ps.fit(ps.ODE2VAE((2,), 1), data, ps.SVI(num_steps=2), trainer=trainer)
    for model, line in [
        (ps.ODE2VAE((2,), 1, time_step=0.2), "time_step: 0.1 in the file, 0.2 here"),
        (ps.ODE2VAE((2,), 1, flow=ps.Flow(1, solver=ps.Midpoint())), "flow.solver: RK4 in the file, Midpoint here"),
    ]:
        with pytest.raises(ps.CheckpointError, match=line):
            ps.fit(model, data, ps.SVI(num_steps=3), trainer=trainer)
