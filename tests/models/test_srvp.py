"""SRVP: the contract, the objective against a plain loop, filtering, forecasts at other rates, content, training."""

from __future__ import annotations

import dataclasses

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError, ShapeError, UnsupportedError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.models import srvp
from pyro_seq.models.srvp import SRVP
from pyro_seq.nn.chain_encoder import ChainEncoder
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.nn.emission import PixelEmission
from pyro_seq.nn.image_coding import Convolution
from pyro_seq.nn.transition import GRUTransition, MLPTransition
from pyro_seq.nn.vgg import VGG
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing import assert_close_mc, check_model
from pyro_seq.training.schedules import FlatThenLinear
from pyro_seq.training.trainer import Trainer
from tests.pages import run_page

SHAPE, STEPS = (1, 8, 8), 9
SMALL = DCGAN((4, 6), code_dim=5)
VARIANTS = {
    "DCGAN": {},
    "two steps a frame": {"num_substeps": 2},
    "skips": {"architecture": VGG(((4, 4), (6,)), code_dim=5)},
    "skips alone": {"architecture": DCGAN((4, 6), code_dim=5, has_skips=True), "content_dim": 0},
    "without content": {"content_dim": 0},
    "MLP": {"transition": lambda: MLPTransition(3, 2, (8,))},
    "GRU": {"transition": lambda: GRUTransition(3, 2)},
    "without noise": {"noise_dim": 0},
}


def frames(num_series: int = 4, num_steps: int = STEPS, dtype: torch.dtype = torch.float64, seed: int = 1) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    return Sequences(torch.rand(num_series, num_steps, *SHAPE, generator=generator, dtype=dtype))


def small_model(dtype: torch.dtype = torch.float64, gain: float = 15.0, **options) -> SRVP:
    """A small model, with larger weights than at the start, so that frames tell states apart."""
    defaults = {
        "noise_dim": 2,
        "content_dim": 6,
        "num_frames": 3,
        "hidden_dim": 24,
        "emission": PixelEmission(scale=0.3),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {name: part() if name == "transition" else part for name, part in options.items()}
        model = SRVP(SHAPE, 3, **(defaults | {"architecture": SMALL} | options))
    with torch.no_grad():
        for part in (*model.frame_encoder.modules(), *model.emission.decoder.modules()):
            if isinstance(part, Convolution | nn.Linear):
                part.weight.mul_(gain)
    return model.to(dtype).eval()


@dataclasses.dataclass
class Pinned:
    """A posterior with given draws."""

    model: SRVP
    sites: dict[str, Tensor]

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        return dict(self.sites)


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", VARIANTS)
def test_contract(name):
    model = small_model(torch.float32, 1.0, **VARIANTS[name])
    report = check_model(model, frames(dtype=torch.float32))
    conditional = {"unseen_series_is_finite", "prior_can_be_sampled"} if model.is_conditional else set()
    assert set(report.names("not applicable")) - {"device_follows_the_data"} == conditional


@pytest.mark.slow
def test_density_is_that_of_the_sampler():
    check_model(small_model(torch.float32, 1.0, content_dim=0), frames(), only=["density_matches_sampler"])


def test_sizes_are_those_of_the_paper():
    """Parameters of the public code: stochastic moving digits, KTH, BAIR."""
    sizes = {
        10_678_284: SRVP((1, 64, 64)),
        23_877_854: SRVP((1, 64, 64), 50, noise_dim=50, num_frames=3, num_substeps=2, architecture=VGG()),
        23_847_390: SRVP((3, 64, 64), 50, noise_dim=50, num_frames=2, num_substeps=2, architecture=VGG()),
    }
    for size, model in sizes.items():
        assert sum(parameter.numel() for parameter in model.parameters()) == size


# ---------------------------------------------------------------- the objective


def plain_terms(model: SRVP, data: Sequences, initial: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """The terms of the objective at one draw, frame by frame."""
    count, steps = data.values.shape[:2]
    codes = torch.stack([model.frame_encoder(data.values[:, t])[0] for t in range(steps)], 1)
    features = sum(torch.relu(model.content.each[0](codes[:, t])) for t in range(steps - 3, steps))
    content = torch.tanh(model.content.head[0](features))
    first = model.encoder.first(codes[:, :3].flatten(1))
    first = Normal(first[:, :3], nn.functional.softplus(first[:, 3:]) + 1e-4)
    terms = {"initial": kl_divergence(first, Normal(torch.zeros(3).double(), 1.0)).sum(), "noise": torch.zeros(())}
    terms |= {"x": torch.zeros(()), "residual": torch.zeros(())}
    state, memory = initial, None
    for t in range(steps):
        read, memory = model.encoder.lstm(codes[:, t : t + 1], memory)
        if t:
            read = model.encoder.head(read[:, 0])
            q = Normal(read[:, :2], nn.functional.softplus(read[:, 2:]) + 1e-4)
            p = model.noise_prior.layers(state)
            p = Normal(p[:, :2], nn.functional.softplus(p[:, 2:]) + 1e-4)
            terms["noise"] = terms["noise"] + kl_divergence(q, p).sum()
            for _ in range(model.num_substeps):
                move = model.transition.velocity(torch.cat([state, noise[:, t]], -1)) / model.num_substeps
                terms["residual"] = terms["residual"] + move.square().sum(-1).sqrt().sum()
                state = state + move
        mean = torch.sigmoid(model.emission.decoder(torch.cat([content, state], -1)))
        terms["x"] = terms["x"] - Normal(mean, model.emission.scale).log_prob(data.values[:, t]).sum()
    return {name: term / count for name, term in terms.items()}


@pytest.mark.parametrize("num_substeps", [1, 2])
def test_objective_equals_a_plain_loop(num_substeps):
    """Reconstruction, both divergences in closed form, and the norms of the residuals, at one draw."""
    model, data = small_model(num_substeps=num_substeps), frames()
    terms = Objective(model)(data).terms
    torch.manual_seed(7)
    terms = Objective(model)(data).terms
    torch.manual_seed(7)
    with pyro.settings.context(module_local_params=True):
        drawn = pyro.poutine.trace(model.guide).get_trace(data)
    values = {name: drawn.nodes[name]["value"] for name in ("initial", "noise")}
    expected = plain_terms(model, data, **values)
    assert terms.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term, rtol=1e-10, atol=1e-10, msg=name)


def test_each_divergence_has_a_weight_of_its_own():
    model, data = small_model(), frames()
    torch.manual_seed(7)
    loss = Objective(model, scales={"initial": 3.0, "noise": 2.0, "residual": 0.5})(data)
    terms = loss.terms
    expected = terms["x"] + 3 * terms["initial"] + 2 * terms["noise"] + 0.5 * terms["residual"]
    torch.testing.assert_close(loss.total, expected)


def test_plain_pyro_s_mean_field_bound_is_the_same():
    model, data = small_model(), frames()
    torch.manual_seed(7)
    terms = Objective(model)(data).terms
    torch.manual_seed(7)
    with pyro.settings.context(module_local_params=True):
        bound = TraceMeanField_ELBO(max_plate_nesting=1).loss(model.model, model.guide, data)
    expected = data.num_series * float((terms["x"] + terms["initial"] + terms["noise"]).detach())
    assert bound == pytest.approx(expected, rel=1e-10)


def test_an_ablation_has_no_penalty_on_residuals():
    for name in ("MLP", "GRU"):
        assert "residual" not in Objective(small_model(**VARIANTS[name]))(frames()).terms


# ---------------------------------------------------------------- filtering, hidden frames


def test_draws_of_the_past_do_not_change_with_a_future_frame():
    model, data = small_model(), frames()
    for step in (3, 6):
        later = torch.arange(STEPS)[:, None, None, None] >= step
        other = dataclasses.replace(data, values=torch.where(later, frames(seed=2).values, data.values))
        before, after = (GuidePosterior(model).draws(given, 3, seed=0) for given in (data, other))
        assert torch.equal(before["initial"], after["initial"])
        torch.testing.assert_close(before["noise"][:, :, :step], after["noise"][:, :, :step], rtol=1e-12, atol=0)
        assert bool((before["noise"][:, :, step] != after["noise"][:, :, step]).all())


def test_a_forecast_of_the_cut_series_is_that_of_the_hidden_end():
    """Nothing but the seen frames counts, for content and skips too."""
    model, data = small_model(architecture=VGG(((4,), (6,)), code_dim=5)), frames()
    end = (torch.arange(STEPS) >= 6).expand(4, -1)
    draws = GuidePosterior(model).draws(data.first(6), 3)
    short = forecast(Pinned(model, draws), data.first(6), horizon=3, num_samples=3)
    hidden = data.hide(end)
    long = {**draws, "noise": torch.cat([draws["noise"], short.latents["noise_future"]], 2)}
    filled = reconstruct(Pinned(model, long), hidden, num_samples=3)
    torch.testing.assert_close(filled.emission_means[:, :, 6:], short.emission_means, rtol=1e-12, atol=1e-12)


def test_noise_of_a_hidden_frame_follows_the_prior():
    model, gap = small_model(), torch.arange(STEPS) == 5
    data = frames(1).hide(gap[None])
    filled = impute(GuidePosterior(model), data, num_samples=2000)
    prior = model.noise_prior(filled.latents["states"][:, :, 4])
    standard = ((filled.latents["noise"][:, :, 5] - prior.loc) / prior.scale).detach()
    assert_close_mc(standard, 0.0)
    assert_close_mc(standard.square(), 1.0)


def test_hidden_frames_stay_out_of_the_statistics_of_a_batch():
    """In training mode too, hiding the end is cutting it."""
    model, data = small_model().train(), frames()
    hidden = data.hide((torch.arange(STEPS) >= 6).expand(4, -1))
    draws = {name: value[0] for name, value in GuidePosterior(model).draws(hidden, 1).items()}
    found = []
    for given in (hidden, data.first(6)):
        sites = {name: value[:, : given.num_steps] if name == "noise" else value for name, value in draws.items()}
        trace = pyro.poutine.Trace()
        for name, value in sites.items():
            trace.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
        with pyro.poutine.replay(trace=trace):
            found.append(Objective(model)(given).terms)
    for name, term in found[0].items():
        torch.testing.assert_close(term, found[1][name], rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- forecasts


def test_a_forecast_is_the_filter_and_a_rollout():
    """States by a loop over the noise that was drawn; the noise ahead is that of the prior, standardised."""
    model, data = small_model(num_substeps=2), frames(2)
    with torch.no_grad():
        prediction = forecast(GuidePosterior(model), data, horizon=4, num_samples=500)
        noise = torch.cat([prediction.latents["noise"], prediction.latents["noise_future"]], 2)
        codes = model.frame_encoder(data.values.flatten(0, 1))[0].unflatten(0, (2, STEPS))
        features = model.content.each(codes[:, -3:]).sum(1)
        content = model.content.head(features).expand(500, -1, -1)
        states, standard = [prediction.latents["initial"]], []
        for t in range(1, STEPS + 4):
            prior = model.noise_prior(states[-1])
            standard.append((noise[:, :, t] - prior.loc) / prior.scale)
            state = states[-1]
            for _ in range(2):
                state = state + 0.5 * model.transition.velocity(torch.cat([state, noise[:, :, t]], -1))
            states.append(state)
        means = [
            model.emission.decoder(torch.cat([content, state], -1).flatten(0, 1)).sigmoid() for state in states[-4:]
        ]
    torch.testing.assert_close(prediction.latents["states"], torch.stack(states, 2), rtol=1e-10, atol=1e-10)
    expected = torch.stack(means, 1).unflatten(0, (500, 2))
    torch.testing.assert_close(prediction.emission_means, expected, rtol=1e-10, atol=1e-10)
    ahead = torch.stack(standard[-4:], 1)
    assert_close_mc(ahead, 0.0)
    assert_close_mc(ahead.square(), 1.0)
    assert_close_mc(prediction.samples - prediction.emission_means, 0.0)


@pytest.mark.parametrize("rate", [2, 4])
def test_a_higher_frame_rate_shows_frames_between_the_same_ones(rate):
    """With the number of Euler steps changed after the fact; the noise of a frame is held."""
    model, data = small_model(), frames(2)
    model.num_substeps = 4
    posterior, times = GuidePosterior(model), STEPS - 1 + torch.arange(1, 3 * rate + 1) / rate
    fine = forecast(posterior, data, times=times, num_samples=3)
    assert fine.emission_means.shape == (3, 2, 3 * rate, *SHAPE)
    sites = posterior.draws(data, 3)
    sites["noise_future"] = fine.latents["noise_future"][:, :, ::rate]
    coarse = forecast(Pinned(model, sites), data, horizon=3, num_samples=3)
    torch.testing.assert_close(
        fine.emission_means[:, :, rate - 1 :: rate], coarse.emission_means, rtol=1e-10, atol=1e-10
    )
    between = fine.latents["states"][:, :, STEPS:].diff(dim=2).norm(dim=-1)
    assert bool((between > 0).all())


def test_a_finer_forecast_leaves_the_seen_states_where_they_are():
    """Half steps after the last frame only, by hand; and a change of the step of training says what it does."""
    model, data = small_model(), frames(2)
    model.adapt(data)
    posterior = GuidePosterior(model)
    coarse = forecast(posterior, data, horizon=2, num_samples=3)
    model.forecast_substeps = 2
    fine = forecast(posterior, data, times=STEPS - 1 + torch.arange(1, 5) / 2, num_samples=3)
    states, seen = fine.latents["states"], coarse.latents["states"][:, :, :STEPS]
    assert torch.equal(states[:, :, :STEPS], seen)
    noise, state = fine.latents["noise_future"], seen[:, :, -1]
    for tick in range(4):
        held = noise[:, :, tick - tick % 2]  # drawn once a frame
        state = state + 0.5 * model.transition.velocity(torch.cat([state, held], -1))
        torch.testing.assert_close(states[:, :, STEPS + tick], state, rtol=1e-9, atol=1e-9)
    model.num_substeps = 2
    with pytest.warns(UserWarning, match="was 1 in training and is 2 now.*forecast_substeps"):
        forecast(posterior, data, horizon=2, num_samples=3)


def test_any_spacing_of_frames_counts_as_one():
    model, data = small_model(), frames(2)
    stretched = dataclasses.replace(data, times=1e9 + 0.04 * torch.arange(STEPS, dtype=torch.float64))
    one, other = (forecast(GuidePosterior(model), given, horizon=3, num_samples=2) for given in (data, stretched))
    assert torch.equal(one.emission_means, other.emission_means)


def test_frames_are_encoded_once_and_decoded_in_chunks(monkeypatch):
    monkeypatch.setattr(srvp, "_DECODED", 7)
    model, data, sizes = small_model(), frames(2), {"encoder": [], "decoder": []}
    model.frame_encoder.register_forward_hook(lambda part, args, out: sizes["encoder"].append(len(args[0])))
    model.emission.decoder.register_forward_hook(lambda part, args, out: sizes["decoder"].append(len(args[0])))
    prediction = forecast(GuidePosterior(model), data, horizon=5, num_samples=20, chunk_size=5)
    assert sizes["encoder"] == [2 * STEPS] and max(sizes["decoder"]) == 7
    monkeypatch.setattr(srvp, "_DECODED", 1000)
    whole = forecast(GuidePosterior(model), data, horizon=5, num_samples=20, chunk_size=5)
    torch.testing.assert_close(prediction.emission_means, whole.emission_means, rtol=1e-12, atol=1e-12)
    sizes["encoder"].clear()
    Objective(model)(data)
    assert sizes["encoder"] == [2 * STEPS]


def test_without_content_new_videos_can_be_drawn():
    model, data = small_model(content_dim=0), frames(2)
    assert sample(GuidePosterior(model), data, num_samples=3).samples.shape == (3, 2, STEPS, *SHAPE)
    with pytest.raises(UnsupportedError, match="SRVP has no prior without seen frames"):
        sample(GuidePosterior(small_model()), data, num_samples=3)


# ---------------------------------------------------------------- content


@pytest.mark.parametrize("name", ["DCGAN", "skips"])
def test_swapped_content_keeps_the_motion(name):
    """As if the frames that tell content and skips, and no others, were those of the other series."""
    model, data, other = small_model(**VARIANTS[name]), frames(2), frames(2, seed=5)
    posterior, swapped = GuidePosterior(model), model.swap_content(data, other)
    mine, theirs = (forecast(posterior, given, horizon=3, num_samples=2) for given in (data, swapped))
    for site, value in mine.latents.items():
        assert torch.equal(value, theirs.latents[site])
    assert not torch.allclose(mine.emission_means, theirs.emission_means)
    sites = {**posterior.draws(data, 2), "noise_future": mine.latents["noise_future"]}
    exchanged = forecast(Pinned(model, sites), other, horizon=3, num_samples=2)
    torch.testing.assert_close(exchanged.emission_means, theirs.emission_means, rtol=1e-12, atol=1e-12)
    one = model.swap_content(data, other[:1])
    for part in swapped.context:
        expected = swapped.context[part][:1].expand(2, *swapped.context[part].shape[1:])
        torch.testing.assert_close(one.context[part], expected, rtol=1e-12, atol=1e-12)


def test_content_does_not_depend_on_the_order_of_frames():
    model, data = small_model(), frames()
    order = torch.tensor([0, 1, 2, 3, 4, 5, 8, 6, 7])
    shuffled = dataclasses.replace(data, values=data.values[:, order])
    contents = [model.prepare(given).context["content"] for given in (data, shuffled)]
    torch.testing.assert_close(*contents, rtol=1e-12, atol=1e-14)
    other = dataclasses.replace(
        data, values=torch.where(torch.arange(STEPS)[:, None, None, None] < 6, 0.5, data.values)
    )
    torch.testing.assert_close(model.prepare(other).context["content"], contents[0], rtol=1e-12, atol=1e-14)


def test_training_takes_random_seen_frames():
    model, data = small_model(architecture=VGG(((4,), (6,)), code_dim=5)), frames(50)
    data = data.hide(torch.rand(50, STEPS, generator=torch.Generator().manual_seed(0)) < 0.3)
    views = [model.training_view(data, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    chosen, skip = views[0].context["content_frames"], views[0].context["skip_frame"]
    assert torch.equal(chosen, views[1].context["content_frames"])
    assert not torch.equal(chosen, views[2].context["content_frames"])
    assert torch.equal(chosen.sum(-1), data.mask.sum(-1).clamp(max=3)) and not bool((chosen & ~data.mask).any())
    assert bool(data.mask.gather(1, skip[:, None]).all()) and len(skip.unique()) > 4
    first = model.prepare(views[0]).context
    alone = model.frame_encoder(data.values[torch.arange(50), skip])[1]
    torch.testing.assert_close(first["map_0"], alone[0], rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- training


def squares(num_series: int, num_steps: int = 8) -> Sequences:
    """Two by two bright pixels that move one to the right in every frame, around the edge, from a random place."""
    start = torch.randint(8, (num_series, 2), generator=torch.Generator().manual_seed(0))
    images = torch.zeros(num_series, num_steps, *SHAPE)
    for step in range(num_steps):
        for i in range(4):
            row, column = (start[:, 0] + i // 2) % 8, (start[:, 1] + step + i % 2) % 8
            images[torch.arange(num_series), step, 0, row, column] = 1.0
    return Sequences(images)


@pytest.mark.parametrize("precision, num_steps", [("32-true", 120), ("bf16-mixed", 20)])
def test_it_learns_by_fit(precision, num_steps):
    train = squares(32)
    sizes = {"noise_dim": 2, "content_dim": 8, "num_frames": 3, "hidden_dim": 32, "emission": PixelEmission(scale=0.1)}
    model = SRVP(SHAPE, 4, **sizes, architecture=DCGAN((8, 16)))
    method = SVI(
        num_steps=num_steps,
        batch_size=16,
        learning_rate=5e-3,
        schedule=FlatThenLinear(80, 40),
        scales={"noise": 2.0, "residual": 1.0},
    )
    posterior = fit(model, train, method, trainer=Trainer(precision=precision, progress=False))
    loss = posterior.history["loss"]
    assert loss[-1] < loss[0] and all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    filled = reconstruct(posterior, train, num_samples=2)
    assert filled.emission_means.dtype == torch.float32
    if num_steps > 100:
        assert float((filled.mean - train.values).square().mean()) < 0.8 * float(train.values.var())


@pytest.mark.slow
def test_ten_thousand_frames_are_finite_or_an_error_with_series_and_time():
    data = frames(2, dtype=torch.float32)
    bounded = small_model(torch.float32, transition=lambda: GRUTransition(3, 2))
    states = forecast(GuidePosterior(bounded), data, horizon=10_000, num_samples=1).latents["states"]
    assert bool((states.abs() <= states[:, :, :1].abs().clamp(min=1)).all())
    with pytest.raises(NumericalError, match=r"From time \d+ on, those of series \d are not, .* 2 of 2 series"):
        forecast(GuidePosterior(small_model(torch.float32)), data, horizon=10_000, num_samples=1)


def test_the_page_of_the_manual_runs():
    names = run_page("docs/models/srvp.md")
    assert names["slow"].emission_means.shape == (20, 8, 20, 1, 16, 16) and names["halfway"].emission_means.shape == (
        20,
        4,
        5,
        1,
        16,
        16,
    )


# ---------------------------------------------------------------- errors


def test_errors_name_the_argument():
    posterior, data = GuidePosterior(small_model()), frames(2)
    with pytest.raises(ShapeError, match=r"`obs_shape` must be .* multiples of 16"):
        SRVP((1, 60, 60))
    with pytest.raises(DataError, match=r"must be positive, and `hidden_dim` at least 2. Got 0, 5, 1 and 512"):
        SRVP((1, 64, 64), 0)
    with pytest.raises(DataError, match=r"must have the same sizes of state and noise.*'encoder': \(4, 2\)"):
        small_model(encoder=ChainEncoder(5, 4, 2))
    with pytest.raises(DataError, match=r"codes of the architecture's size 5. Got .*, and codes of size 6"):
        small_model(encoder=ChainEncoder(6, 3, 2))
    with pytest.raises(DataError, match=r"`data.values` must lie in \[0, 1\]. Got \[0, 255\]"):
        forecast(posterior, Sequences(torch.tensor([0.0, 255.0]).double().expand(2, 5, *SHAPE[:2], 4, 2).flatten(-2)))
    with pytest.raises(ShapeError, match="`data.inputs` must have 0 entries a step, the `input_dim` of the transition"):
        reconstruct(posterior, dataclasses.replace(data, inputs=torch.rand(2, STEPS, 1)))
    with pytest.raises(DataError, match="`data` must have at least one seen frame a series"):
        reconstruct(posterior, data.hide(torch.tensor([[True], [False]]).expand(-1, STEPS)))
    with pytest.raises(UnsupportedError, match="MLPTransition knows no steps within a frame"):
        reconstruct(GuidePosterior(small_model(**VARIANTS["MLP"], num_substeps=2)), data)
    with pytest.raises(UnsupportedError, match="There is no content to swap"):
        small_model(content_dim=0).swap_content(data, data)
    with pytest.raises(ShapeError, match="`other` must have 1 series or 2, as `data`. Got 3"):
        small_model().swap_content(data, frames(3))


def test_errors_name_the_times():
    posterior, data = GuidePosterior(small_model()), frames(2)
    with pytest.raises(DataError, match="`data.times` must be evenly spaced where frames were seen"):
        reconstruct(posterior, dataclasses.replace(data, times=torch.arange(STEPS) ** 2.0))
    with pytest.raises(DataError, match="same in all series"):
        times = torch.arange(STEPS) * torch.tensor([[1.0], [2.0]])
        reconstruct(posterior, dataclasses.replace(data, times=times))
    with pytest.raises(DataError, match="a step for each frame of the horizon at least. Got .* up to 2 frames"):
        forecast(posterior, data, times=torch.tensor([STEPS, STEPS + 2.0]))
    with pytest.raises(DataError, match=r"`forecast_substeps` = 1 Euler steps a frame.*to a multiple of 4"):
        forecast(posterior, data, times=STEPS - 1 + torch.tensor([0.25, 0.5]))
    with pytest.raises(DataError, match="Choose other times"):
        forecast(posterior, data, times=STEPS - 1 + torch.tensor([2**-0.5, 3**0.5 - 0.5]))


# ---------------------------------------------------------------- gaps


class LinearMove(nn.Module):
    """A state y that becomes y + dt (A y + B z)."""

    is_residual = True
    state_dim, noise_dim = 3, 2

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.pull = nn.Parameter(0.5 * torch.randn(3, 3, generator=generator, dtype=torch.float64))
        self.push = nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64))

    def forward(self, state: Tensor, noise: Tensor, dt: float) -> Tensor:
        return state + dt * (state @ self.pull.mT + noise @ self.push.mT)


class ConstantNoise(nn.Module):
    """Noise of scales 0.5 and 2, whatever the state."""

    def forward(self, state: Tensor) -> Normal:
        scale = state.new_tensor([0.5, 2.0]).expand(*state.shape[:-1], 2)
        return Normal(torch.ones_like(scale), scale)


def test_the_variance_of_a_state_grows_with_the_gap_as_over_as_many_frames():
    """Frames at the times 0, 1, 3, 7: by sums of powers of the move of a frame, under noise of scales of its own."""
    model = small_model(transition=LinearMove, content_dim=0)
    model.noise_prior = ConstantNoise()
    generator = torch.Generator().manual_seed(2)
    uneven = Sequences(torch.rand(1, 4, *SHAPE, generator=generator, dtype=torch.float64), times=[0.0, 1.0, 3.0, 7.0])
    with pytest.raises(DataError, match=r"on_grid"):
        model.check(uneven)
    data = uneven.on_grid()
    model.check(data)
    chain = model.chain(torch.zeros(1, 3, dtype=torch.float64), data)
    seen = data.step_mask[0]
    assert torch.equal(data.times[seen], uneven.times)

    def state_of(standard: Tensor) -> Tensor:
        return chain.states(chain.follow(standard[None]))[0, seen]

    found = torch.autograd.functional.jacobian(state_of, torch.zeros(8, 2, dtype=torch.float64))
    with torch.no_grad():
        move = torch.eye(3, dtype=torch.float64) + model.transition.pull
        gained = model.transition.push @ torch.tensor([0.25, 4.0]).double().diag() @ model.transition.push.mT
        by_time = [cov := torch.zeros(3, 3, dtype=torch.float64)]
        for _ in range(7):
            by_time.append(cov := move @ cov @ move.mT + gained)
    for row, time in enumerate([0, 1, 3, 7]):
        flat = found[row].flatten(1)
        torch.testing.assert_close(flat @ flat.mT, by_time[time], rtol=1e-12, atol=1e-12)


def test_frames_at_uneven_times_are_fitted_and_forecast():
    generator = torch.Generator().manual_seed(3)
    times = torch.tensor([[0.0, 2.0, 3.0, 5.0], [1.0, 2.0, 4.0, 6.0]]) / 10
    data = Sequences(torch.rand(2, 4, *SHAPE, generator=generator), times=times).on_grid(0.1)
    model = small_model(torch.float32, gain=2.0)
    posterior = fit(model, data, SVI(num_steps=2), trainer=Trainer(progress=False))
    ahead = forecast(posterior, data, horizon=2, num_samples=3)
    assert ahead.samples.shape == (3, 2, 2, *SHAPE) and bool(ahead.samples.isfinite().all())
    torch.testing.assert_close(ahead.times, torch.tensor([[0.6, 0.7], [0.7, 0.8]]).double())
