"""Recipes: every part of the library, and layers of torch, are made again from plain data, and nothing else is."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import is_dataclass

import pytest
from torch import nn

import pyro_seq as ps
from pyro_seq import _recipes
from pyro_seq._options import compare, options_of
from pyro_seq._recipes import rebuildable, rebuilt, recipe, unknown
from pyro_seq.nn.emission import MeanAndNoise
from pyro_seq.nn.loadings import OwnLoadings
from pyro_seq.nn.mean_deviation import MeanDeviationCell
from pyro_seq.nn.ode_rnn import GaussianHead
from pyro_seq.nn.recurrent import LSTMTransition
from pyro_seq.nn.thinned_encoder import ThinnedEncoder
from pyro_seq.nn.units import StandardiseInputs
from pyro_seq.nn.variogram import VariogramEncoder
from pyro_seq.nn.weight_posterior import FullCovariance, LowRank, MeanField
from pyro_seq.ops.langevin import ULA
from pyro_seq.ops.mlp import ACTIVATIONS

IMAGE = (1, 16, 16)
PARTS = [
    ps.Flow(2, order=3, solver=ps.RK4(0.1, is_dense=True)), ps.Flow(1, solver=ps.Dopri5(rtol=1e-3)),
    ps.BayesianMLP(2, 1, [3], activation=ACTIVATIONS["silu"], is_bayesian=False, prior_scale=2.0, site="w"),
    ps.BayesianMLP(2, 1, has_tied_scale=True, initial_scale=0.1), ps.BayesianMLP(2, 1, guide=MeanField(is_tied=True)),
    ps.BayesianMLP(2, 1, guide=LowRank(2, initial_factor=0.2)), ps.BayesianMLP(2, 1, (3,), guide=FullCovariance(0.2)),
    ps.DeterministicField(nn.Sequential(nn.Linear(2, 3, bias=False), nn.GELU("tanh"), nn.Linear(3, 1))),
    ps.ConvTrunk(2, IMAGE, (4,), nn.Tanh), ps.MLPTrunk(1, (2,), (3,), activation=nn.ELU, noise=0.1),
    ps.ConvDecoder(2, IMAGE, (4,), hidden_dim=5, activation=nn.SiLU), ps.MLPDecoder(2, (2,), (3,), nn.ReLU),
    ps.SubPixelDecoder(2, IMAGE, 4, depth=2, hidden_dim=3),
    ps.DCGAN((4,), norm=nn.InstanceNorm2d).encoder(IMAGE), ps.DCGAN((4,), has_skips=True).decoder(3, IMAGE),
    ps.VGG(((4, 4), (8,))).encoder(IMAGE), ps.VGG(((4, 4), (8,)), has_skips=False).decoder(3, IMAGE),
    ps.BernoulliEmission(nn.Linear(2, 2)), ps.PixelEmission(scale=0.3),
    ps.GaussianEmission(initial_scale=0.2, scale_shape=(2,), minimum_scale=0.01),
    ps.GaussianEmission(MeanAndNoise(nn.Linear(2, 2), nn.Linear(2, 2)), has_state_noise=True),
    ps.StudentTEmission(initial_df=5.0), ps.LogNormalEmission(initial_scale=0.2), ps.PoissonEmission(nn.Linear(2, 2)),
    ps.ContinuousBernoulliEmission(), StandardiseInputs(3),
    ps.ColumnsEmission(
        [([2, 0], ps.CategoricalEmission(2)), (slice(1, 2), ps.NegativeBinomialEmission(initial_dispersion=0.5))]
    ),
    ps.InitialStateEncoder(
        ps.FrameWindow(ps.MLPTrunk(1, (2,)), 1, 1), ps.FrameWindow(ps.MLPTrunk(3, (2,)), 3, 1, initial_log_scale=-1.0),
        units=ps.Standardise((2,), floor=0.1),
    ),
    ps.FrameEncoder(ps.MLPTrunk(1, (2,)), 2, maximum_variance=0.5),
    ps.RNNEncoder((2,), 3, hidden_dim=4, trunk=ps.MLPTrunk(1, (2,), (3,))), ps.RNNEncoder(IMAGE, 3),
    ps.ODERNNEncoder((2,), 3, field=nn.Linear(4, 4), hidden_dim=4, solver=ps.Midpoint(0.5)),
    ps.ODERNNEncoder(
        (2,), 3, hidden_dim=4, cell=MeanDeviationCell(4, 4, num_units=5),
        head=nn.Sequential(nn.Linear(8, 6), nn.Tanh(), GaussianHead(6, 3, initial_log_scale=-1.0)),
    ),
    ThinnedEncoder(ps.RNNEncoder((2,), 3), shares=[0.5, 1.0]),
    ps.StandardNormal(), ps.LearnedNormal(3),
    ps.EnergyTilt(
        ps.EnergyMLP(2, (3,), activation=nn.SiLU), sampler=ULA(0.1), num_steps=5, chains=ps.PersistentChains(4, 2),
        has_penalty=True,
    ),
    ps.MixedDynamics(2, 3, 2, mixture=ps.WindowMixture(2, 3, 2, (4,)), num_learned_inputs=1, has_learned_noise=False),
    ps.ContinuousDynamics(2, 3, 2, mixture=ps.WindowMixture(3, 2, 2, (4,))), ps.ContinuousDynamics(2, 3, input_dim=1),
    ps.MixedDynamics(2, 3, 1), ps.MixedDynamics(2, 3, input_dim=1), ps.LSTMMixture(2, 3, 4),
    LSTMTransition(2, 5, minimum_scale=0.1), ps.SeriesTempo(3, initial_spread=0.5),
    ps.SeriesTempo(encoder=ps.RNNEncoder((2,), 1, hidden_dim=4)),
    ps.ResidualTransition(2, 1, (4,), gain=0.5), ps.MLPTransition(2, 1, (4,)), ps.GRUTransition(2, 1),
    VariogramEncoder(2, hidden_dim=4, num_lags=3), OwnLoadings(2, 3, input_dim=1),
    ps.PoissonEmission(exposure="area"), ps.NegativeBinomialEmission(exposure=1),
    ps.ChainEncoder(4, 2, 1, 3, hidden_dim=5), ps.NoisePrior(2, 1, (3,)),
    ps.Flow(2, input_dim=2, has_linear_inputs=True), ps.InputDecoder(2, (3,), nn.Linear(1, 3), hidden_dims=(4,)),
    ps.InitialStateEncoder(ps.FrameWindow(ps.MLPTrunk(2, (2,)), 2, 1, input_dim=2)),
    ps.RNNEncoder((2,), 3, hidden_dim=4, input_dim=2), ps.ODERNNEncoder((2,), 3, hidden_dim=4, input_dim=2),
    ps.FrameEncoder(ps.MLPTrunk(1, (2,)), 2, input_dim=2), LSTMTransition(2, 5, input_dim=2),
    ps.ResidualTransition(2, 1, (4,), input_dim=2), ps.MLPTransition(2, 1, (4,), input_dim=2),
    ps.GRUTransition(2, 1, input_dim=2), ps.ChainEncoder(4, 2, 1, 3, hidden_dim=5, input_dim=2),
]  # fmt: skip
LAYERS = [
    nn.Conv2d(1, 4, 3, stride=2, padding=1, dilation=2, bias=False, padding_mode="circular"),
    nn.Conv1d(2, 4, 3, groups=2), nn.ConvTranspose2d(1, 2, 4, stride=2, output_padding=1),
    nn.BatchNorm1d(3, momentum=0.5),
    nn.BatchNorm2d(3, affine=False), nn.GroupNorm(2, 4), nn.LayerNorm(3, bias=False), nn.InstanceNorm2d(3, affine=True),
    nn.LSTM(2, 3, num_layers=2, batch_first=True, bias=False), nn.GRU(2, 3, bidirectional=True), nn.GRUCell(2, 3),
    nn.LSTMCell(2, 3, bias=False), nn.Dropout(0.2), nn.Flatten(2), nn.Unflatten(1, (2, 3)), nn.PixelShuffle(2),
    nn.CELU(0.5), nn.ELU(0.5), nn.LeakyReLU(0.3), nn.Softplus(2.0), nn.Hardswish(), nn.Identity(), nn.LogSigmoid(),
    nn.Mish(), nn.ReLU6(), nn.SELU(), nn.Sigmoid(), nn.Softsign(),
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS + LAYERS, ids=lambda part: type(part).__name__)
def test_a_part_is_made_again(part: nn.Module) -> None:
    how = recipe(part)
    again = rebuilt(how)
    assert not list(unknown(how)) and recipe(again) == how
    assert compare(options_of(part), options_of(again)) == ([], [])
    again.load_state_dict(part.state_dict())
    there, here = dict(part.named_parameters()), dict(again.named_parameters())
    assert {name: p.requires_grad for name, p in there.items()} == {name: p.requires_grad for name, p in here.items()}


def test_every_public_part_can_be_made_again() -> None:
    classes = [thing for name in ps.__all__ if inspect.isclass(thing := getattr(ps, name))]
    parts = {kind for kind in classes if issubclass(kind, nn.Module) or kind.__module__.startswith("pyro_seq.ops")}
    parts -= {ps.SequenceModel, ps.Emission}
    assert len(parts) > 35 and parts | {ps.DCGAN, ps.VGG} <= set(_recipes._KINDS.values())
    tried = {type(module) for part in PARTS + LAYERS for module in part.modules()}
    assert {kind for kind in _recipes._KINDS.values() if issubclass(kind, nn.Module)} - tried <= {
        ps.DynamicFactors, ps.ODE2VAE, ps.ODELEBM, ps.SRVP, ps.KalmanVAE, ps.RecurrentVAE,
        ps.StructuralSeries,
    }  # fmt: skip


def test_changes_after_the_making_count() -> None:
    model = ps.ODE2VAE((2,), 2)
    model.time_step = 0.5
    model.flow.solver = ps.Euler(0.1)
    model.emission = ps.GaussianEmission(ps.MLPDecoder(2, (2,), (3,)))
    again = rebuilt(recipe(model))
    assert again.time_step == 0.5 and again.flow.solver == ps.Euler(0.1)
    assert compare(options_of(model), options_of(again)) == ([], [])


def test_copies_know_how_they_were_made() -> None:
    model = ps.SRVP((1, 8, 8), 2, noise_dim=1, architecture=ps.DCGAN((2, 4), norm=lambda size: nn.GroupNorm(1, size)))
    assert recipe(copy.deepcopy(model)) == recipe(model) == recipe(pickle.loads(pickle.dumps(model)))
    norm = "norm (test_copies_know_how_they_were_made.<locals>.<lambda>)"
    assert list(unknown(recipe(model))) == [f"architecture.{norm}", f"emission.decoder.{norm}"]


def test_what_is_unknown_is_named() -> None:
    class Wide(ps.MLPDecoder):
        pass

    class Swish(nn.Module):
        pass

    model = ps.ODE2VAE(
        (2,), 2, emission=ps.GaussianEmission(Wide(2, (2,))), vector_field=ps.DeterministicField(Swish())
    )
    name = "test_what_is_unknown_is_named.<locals>"
    assert list(unknown(recipe(model))) == [
        f"vector_field.module ({name}.Swish)",
        f"emission.decoder ({name}.Wide)",
    ]
    assert list(unknown(recipe(Swish()))) == [f"model ({name}.Swish)"]
    assert list(unknown(recipe(ps.MLPDecoder(2, (2,), (3,), Swish)))) == [f"activation ({name}.Swish)"]
    assert list(unknown({"kind": "Flow", "arguments": {"solver": {"kind": "os.system"}}})) == ["solver (os.system)"]
    assert list(unknown(({"kind": "RK4"}, {"constant": "tan"}))) == [".1 (tan)"]


def test_a_class_derived_from_a_part_is_not_taken_for_it() -> None:
    class Own(ps.GaussianEmission):
        def __init__(self, power: float) -> None:
            super().__init__(minimum_scale=0.1)
            self.power = power

    assert list(unknown(recipe(Own(2.0))))
    with pytest.raises(ps.DataError, match="Got two `Flow`"):
        rebuildable(type("Flow", (nn.Module,), {}))


def test_signatures_and_errors_stay() -> None:
    assert list(inspect.signature(ps.Flow).parameters) == [
        "dim", "order", "solver", "input_dim", "has_linear_inputs",
    ]  # fmt: skip
    assert ps.Flow.__init__.__wrapped__ is not None and is_dataclass(ps.RK4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sovler'"):
        ps.Flow(2, sovler=ps.RK4())  # type: ignore[call-arg]
