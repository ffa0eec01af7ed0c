"""One door for `fit` and the verbs: what one refuses all refuse, and no argument is dropped without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pyro_seq as ps
from pyro_seq.nn.thinned_encoder import ThinnedEncoder
from pyro_seq.posterior import GuidePosterior, StoredPosterior
from pyro_seq.predict.energies import energies
from pyro_seq.training.views import RandomGaps
from tests import toy

QUIET = ps.Trainer(progress=False)
VERBS: dict[str, Callable[..., Any]] = {
    "forecast": lambda p, d, **k: ps.forecast(p, d, horizon=2, num_samples=2, **k).samples,
    "impute": lambda p, d, **k: ps.impute(p, d, num_samples=2, **k).samples,
    "causal": lambda p, d, **k: ps.impute(p, d, is_causal=True, num_samples=2, **k).samples,
    "reconstruct": lambda p, d, **k: ps.reconstruct(p, d, num_samples=2, **k).samples,
    "sample": lambda p, d, **k: ps.sample(p, d, num_samples=2, **k).samples,
    "evaluate": lambda p, d, **k: ps.evaluate(p, d, ps.Forecasting(6), num_samples=2, **k).crps,
    "to_arviz": lambda p, d, **k: torch.tensor(
        ps.to_arviz(p, d, num_samples=2, **k)["posterior_predictive"]["x"].values
    ),
}
SEEDED = {**VERBS, "fit": lambda p, d, seed: torch.tensor(
    ps.fit(toy.make_lines(), d, ps.SVI(num_steps=2), seed=seed, trainer=QUIET).history["loss"])}  # fmt: skip


def holes() -> ps.Sequences:
    """Lines with a hidden step, so that there is something to impute."""
    return toy.make_data().hide((torch.arange(9) == 7).expand(8, 9))


@pytest.fixture
def posterior() -> GuidePosterior:
    return GuidePosterior(toy.make_lines())


@pytest.mark.parametrize("verb", VERBS)
def test_floating_types_must_agree(posterior, verb):
    doubles = ps.Sequences(toy.make_data().values.double())
    with pytest.raises(ps.DataError, match=r"share a floating type.*data.to\(dtype=torch.float32\)"):
        VERBS[verb](posterior, doubles)
    with pytest.raises(ps.DataError, match="share a floating type"):
        VERBS[verb](GuidePosterior(toy.make_lines().double()), toy.make_data())
    VERBS[verb](GuidePosterior(toy.make_lines().double()), doubles)


@pytest.mark.parametrize("verb", VERBS)
def test_devices_must_agree(verb):
    elsewhere = GuidePosterior(toy.make_lines().to("meta"))
    with pytest.raises(ps.DataError, match=r"on one device. Got cpu and meta.*data.to\('meta'\)"):
        VERBS[verb](elsewhere, toy.make_data())


def test_chains_are_run_where_model_and_data_are():
    with pytest.raises(ps.DataError, match="on one device"):
        ps.fit(toy.make_lines().to("meta"), toy.make_data(), ps.MCMC(ps.NUTS(), num_samples=1, warmup_steps=0))


def test_neighbours_of_the_verbs_have_the_same_door(posterior):
    data, doubles = toy.make_data(), ps.Sequences(toy.make_data().values.double())
    latents = posterior.draws(data, 2)
    with pytest.raises(ps.DataError, match="share a floating type"):
        energies(posterior.model, doubles, latents)
    with pytest.raises(ps.DataError, match="`other` and `model` must share a floating type"):
        ps.reconstruct(ps.InterpolatedPosterior(posterior, doubles), data, num_samples=2)
    with pytest.raises(ps.DataError, match="`posterior` must be what `fit` returned"):
        ps.evaluate(posterior.model, data, ps.Forecasting(6))
    with pytest.raises(ps.DataError, match="`task` must be an object"):
        ps.evaluate(posterior, data, ps.Forecasting)
    with pytest.raises(ps.DataError, match="`is_causal` must be True or False"):
        ps.impute(posterior, data, is_causal="no")


# ---------------------------------------------------------------------- seeds


@pytest.mark.parametrize("verb", SEEDED)
def test_seeds_are_whole_numbers_of_any_type(posterior, verb):
    call, data = SEEDED[verb], holes()
    expected = call(posterior, data, seed=7)
    for seed in (np.int64(7), np.uint32(7), np.int8(7), 7.0, torch.tensor(7)):
        assert torch.equal(call(posterior, data, seed=seed), expected)
    large = [call(posterior, data, seed=seed) for seed in (2**31 - 1, 2**32 - 1, np.uint64(2**62 + 7), 2**63 - 1)]
    assert len({tuple(result.flatten().tolist()) for result in [expected, *large]}) == 5


@pytest.mark.parametrize("verb", SEEDED)
@pytest.mark.parametrize("seed", [None, -1, 1.5, 2**63, "0", np.arange(2)])
def test_other_seeds_are_refused_by_name(posterior, verb, seed):
    with pytest.raises(ps.DataError, match="`seed` must be a whole number from 0 to 9223372036854775807"):
        SEEDED[verb](posterior, toy.make_data(), seed=seed)


def test_large_seeds_choose_what_to_hide_and_how_to_split():
    data = toy.make_data()
    assert not torch.equal(
        *(ps.Imputation(seed=seed).given(data).mask for seed in (np.int64(2**40), np.int64(2**40 + 1)))
    )
    assert torch.equal(*(ps.Imputation(seed=seed).given(data).mask for seed in (2**40, float(2**40))))
    with pytest.raises(ps.DataError, match="`seed`"):
        ps.Imputation(seed=-1)
    train, _, _ = ps.datasets.spirals(num_train=2, num_validation=0, num_test=1, seed=2**40)
    assert train.num_series == 2


def test_whole_numbers_are_used_as_such(posterior):
    """A whole number of another type passes the check, so what is behind the check must be able to use it."""
    data = toy.make_data()
    expected = ps.forecast(posterior, data, horizon=2, num_samples=4, chunk_size=2).samples
    assert torch.equal(
        ps.forecast(posterior, data, horizon=2.0, num_samples=4.0, chunk_size=np.int32(2)).samples, expected
    )
    trainer = ps.Trainer(progress=False, log_every=1.0, validate_every=2.0)
    method = ps.SVI(num_steps=4.0, batch_size=np.int64(3), num_particles=2.0)
    assert ps.fit(toy.make_lines(), data, method, validation=data, trainer=trainer).history["step"] == [1, 2, 3, 4]
    chains = ps.fit(
        posterior.model, data, ps.MCMC(ps.NUTS(max_tree_depth=1.0), num_samples=2.0, warmup_steps=np.int8(1))
    )
    assert chains.sites["line"].shape == (1, 2, 8, 2)
    assert ps.Forecasting(6.0).given(data).horizon == 3


# ---------------------------------------------------------------------- identity of fitted data


@pytest.fixture
def stored() -> StoredPosterior:
    """Made-up draws: that of series n is n."""
    data = ps.Sequences(torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(0)))
    line = torch.arange(4.0)[:, None].expand(1, 3, 4, 2).clone()
    return StoredPosterior(toy.make_lines(), data, {"line": line, "drift": torch.zeros(1, 3, 1)}, frozenset(["drift"]))


def test_stored_draws_are_for_data_that_are_the_same_in_every_field(stored):
    values = stored.data.values
    others = {
        "values": ps.Sequences(values + 1e-6),
        "times": ps.Sequences(values, times=3.0 * torch.arange(9)),
        "times of one series": ps.Sequences(
            values, times=torch.arange(9.0) + torch.tensor([[0.0], [0.0], [0.0], [0.5]])
        ),
        "steps": ps.Sequences(values[:, :8]),
        "inputs": ps.Sequences(values, inputs=torch.zeros(4, 9, 1)),
    }
    for data in others.values():
        with pytest.raises(ps.DataError, match="the same in values, mask, times and inputs"):
            stored.draws(data, 2)
    assert stored.draws(stored.data.extend(horizon=3), 2)["line"].shape == (2, 4, 2)
    shared_or_not = ps.Sequences(values, mask=torch.ones_like(values).bool(), times=torch.arange(9.0).expand(4, -1))
    assert stored.draws(shared_or_not, 2)["line"].shape == (2, 4, 2)


def test_an_observed_zero_is_not_a_hidden_entry(stored):
    zero = stored.data.values.clone()
    zero[:, 5:] = 0.0
    stored.data = ps.Sequences(zero)
    with pytest.raises(ps.DataError, match="Series 0 is not among them"):
        stored.draws(stored.data.hide((torch.arange(9) >= 5).expand(4, 9)), 2)


def test_some_of_the_fitted_series_have_their_own_draws(stored):
    assert stored.draws(stored.data[[2, 0]], 3)["line"][:, :, 0].tolist() == [[2.0, 0.0]] * 3
    assert ps.forecast(stored, stored.data[3:], horizon=2, num_samples=3).latents["line"][:, 0, 0].tolist() == [3.0] * 3


def test_equal_series_keep_their_order(stored):
    stored.data = ps.Sequences(stored.data.values[[0, 1, 1, 0]])
    assert stored.draws(stored.data, 1)["line"][0, :, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(ps.DataError, match="Series 2 is not among them"):
        stored.draws(stored.data[[1, 1, 1]], 1)


# ---------------------------------------------------------------------- arguments without effect


def test_forecast_uses_every_argument_or_refuses_it():
    values, inputs = torch.randn(4, 12, 2), torch.randn(4, 15, 1)
    model = ps.KalmanVAE(obs_shape=(2,), input_dim=1)
    posterior = GuidePosterior(model)
    ahead = ps.Sequences(values, times=torch.arange(15.0), inputs=inputs)
    seen = ps.Sequences(values, inputs=inputs[:, :12])
    with pytest.raises(ps.DataError, match="`inputs` are those over the horizon"):
        ps.forecast(posterior, seen, inputs=inputs[:, 12:], num_samples=4)
    scenarios = [
        ps.forecast(posterior, data, horizon=3, inputs=scale * inputs[:, 12:], num_samples=4).samples
        for data in (seen, ahead)
        for scale in (1, 100)
    ]
    assert not torch.equal(scenarios[0], scenarios[1]) and torch.equal(scenarios[1], scenarios[3])
    assert torch.equal(ps.forecast(posterior, ahead, num_samples=4).samples, scenarios[0])
    assert torch.equal(ps.forecast(posterior, ahead, inputs=100 * inputs[:, 12:], num_samples=4).samples, scenarios[1])


def test_forecast_needs_exactly_one_horizon(posterior):
    data = toy.make_data()
    with pytest.raises(ps.DataError, match="needs a horizon"):
        ps.forecast(posterior, data)
    with pytest.raises(ps.DataError, match="exactly one of `horizon` and `times`"):
        ps.forecast(posterior, data, horizon=2, times=[20.0, 30.0])
    with pytest.raises(ps.ShapeError, match="`inputs` over the horizon are given"):
        ps.forecast(posterior, data, horizon=2, inputs=torch.zeros(8, 2, 1))
    assert ps.forecast(posterior, data, horizon=0, num_samples=2).samples.shape == (2, 8, 0, 2)


def test_a_guide_that_never_met_a_gap_says_so_when_it_meets_one(tmp_path):
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    whole = toy.make_data()
    trained = ps.fit(model, whole, ps.SVI(num_steps=1), trainer=QUIET)
    ps.save(trained, tmp_path / "model.pt")
    for posterior in (trained, ps.load(tmp_path / "model.pt")):
        for verb in ("forecast", "impute", "reconstruct"):
            VERBS[verb](posterior, whole)
            VERBS[verb](posterior, whole.first(5).extend(horizon=2) if verb == "forecast" else whole.first(5))
            with pytest.warns(UserWarning, match=r"trained on series without any.*SVI\(scales={'dreams'"):
                VERBS[verb](posterior, holes())
    taught = ps.fit(model, whole, ps.SVI(num_steps=1, views=[RandomGaps()]), trainer=QUIET)
    dreamer = ps.fit(model, whole, ps.SVI(num_steps=1, scales={"dreams": 1.0}), trainer=QUIET)
    thin = ps.ODELEBM((2,), 2, encoder=ThinnedEncoder(ps.RNNEncoder((2,), 2), shares=(0.5,)))
    for posterior in (
        taught,
        dreamer,
        ps.fit(thin, whole, ps.SVI(num_steps=1), trainer=QUIET),
        ps.fit(model, holes(), ps.SVI(num_steps=1), trainer=QUIET),
        ps.fit(ps.KalmanVAE((2,)), whole, ps.SVI(num_steps=1), trainer=QUIET),
    ):
        VERBS["impute"](posterior, holes())
