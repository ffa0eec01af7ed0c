"""The engine against a loop written out; averages, validation, types of numbers."""

from __future__ import annotations

import copy
import dataclasses

import pyro
import pytest
import torch

from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.models.srvp import SRVP
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.training.schedules import WarmUp
from pyro_seq.training.views import GrowingLength, RandomSteps
from tests.training.runs import same_weights, with_infinite


def test_engine_is_the_bare_loop(toy, quiet):
    """Full batches, one thread: the engine takes exactly the steps of a loop written out here."""
    from pyro_seq._random import isolated_rng, mixed_seed

    data, model, twin = toy.make_data(), toy.make_lines(), toy.make_lines()
    fit(model, data, SVI(num_steps=10, learning_rate=0.01, clip_norm=5.0, schedule=WarmUp(5)), seed=4, trainer=quiet)
    twin.adapt(data)
    objective = Objective(twin)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01, fused=True)
    with isolated_rng(0):
        for step in range(10):
            torch.manual_seed(mixed_seed(4, 2, step, 0))
            objective(data, step).total.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 5.0)
            optimizer.param_groups[0]["lr"] = 0.01 * min(step / 5, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert same_weights(model, twin)


def test_particles_by_step_and_views(toy, quiet):
    seen = []

    def spy(data, step, generator):
        seen.append((step, data.num_steps, torch.rand((), generator=generator).item()))
        return data

    method = SVI(
        num_steps=6,
        batch_size=4,
        num_particles=lambda step: 1 + step // 3,
        views=(GrowingLength(start=5, full_at=4), spy),
    )
    fit(toy.make_lines(), toy.make_data(), method, trainer=quiet)
    first = list(seen)
    assert [length for _, length, _ in first] == [5, 6, 7, 8, 9, 9]
    assert len({draw for _, _, draw in first}) == 6
    fit(toy.make_lines(), toy.make_data(), method, trainer=quiet)
    assert seen[6:] == first


def test_average(toy, quiet):
    data = toy.make_data()
    weights = []

    def spy(objective_model):
        weights.append(objective_model.drift_loc.detach().clone())

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            spy(model)

    model = toy.make_lines()
    start = model.drift_loc.detach().clone()
    fit(model, data, SVI(num_steps=6, learning_rate=1e-3, optimizer=Watch, average=0.5), trainer=quiet)
    expected = start
    for step, weight in enumerate(weights):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(model.drift_loc.detach(), expected)


def test_validation_does_not_change_training(toy, quiet):
    data = toy.make_data()
    method = SVI(num_steps=10, batch_size=3, average=0.9)
    plain = fit(toy.make_lines(), data, method, trainer=quiet)
    watched = dataclasses.replace(quiet, validate_every=2)
    validated = fit(toy.make_lines(), data, method, validation=data, trainer=watched)
    assert same_weights(plain.model, validated.model)


def test_validation_weighs_global_terms_as_training_does(toy, quiet):
    """A divergence of 5000 nats is 625 for each of 8 training series, however few series validate."""
    model, data = toy.make_lines(), toy.make_data()
    with torch.no_grad():
        model.drift_loc.fill_(100.0)
    method = SVI(num_steps=1, learning_rate=1e-9, scales={"line": 0.0, "x": 0.0})
    trainer = dataclasses.replace(quiet, validate_every=1, log_every=1)
    history = fit(model, data, method, validation=data[:2], trainer=trainer).history
    assert history["drift"][0] == pytest.approx(625, rel=0.01)
    assert history["validation_loss"][0] == pytest.approx(history["drift"][0], rel=1e-4)


def test_validation_loss_is_the_objective_on_the_whole_set(toy, quiet):
    """In chunks of 3 of 8 series; the noise differs by chunk, so two frozen guides without noise are compared."""
    data, model = toy.make_data(8), toy.make_lines()
    with torch.no_grad():
        model.encoder.weight[2:].zero_()
        model.encoder.bias[2:] = -20.0
        model.drift_log_scale.fill_(-20.0)
    twin = copy.deepcopy(model)
    twin.adapt(data)
    trainer = dataclasses.replace(quiet, validate_every=1)
    method = SVI(num_steps=1, batch_size=3, learning_rate=1e-12)
    history = fit(model, data, method, validation=data, trainer=trainer).history
    with torch.no_grad():
        expected = Objective(twin)(data).total.item()
    assert history["validation_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_bfloat16(toy, quiet):
    trainer = dataclasses.replace(quiet, precision="bf16-mixed")
    model = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=10), trainer=trainer).model
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in model.parameters())
    exact = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=10), trainer=quiet).model
    assert not same_weights(model, exact)


def test_float64(toy, quiet):
    data, model = toy.make_data().to(dtype=torch.float64), toy.make_lines().double()
    fit(model, data, SVI(num_steps=3), trainer=quiet)
    assert all(p.dtype == torch.float64 for p in model.parameters())


def test_gradients_are_taken_outside_of_mixed_precision(toy, quiet):
    model, modes = toy.make_lines(), []
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: modes.append(torch.is_autocast_enabled("cpu")))
    fit(model, toy.make_data(), SVI(num_steps=2), trainer=dataclasses.replace(quiet, precision="bf16-mixed"))
    assert modes and not any(modes)


class Shards(SequenceSource):
    """A source that reads from an iterator, which comes to its end."""

    num_series = 8

    def __init__(self, data, number: int) -> None:
        self.parts = iter([data] * number)

    def load(self, index) -> Sequences:
        return next(self.parts)[index]


@pytest.mark.parametrize("place", ["source", "view", "model", "validation"])
def test_an_exhausted_iterator_does_not_end_training(toy, quiet, place):
    data, ends = toy.make_data(), iter(range(3))
    options, validation, model = {}, None, toy.make_lines()
    if place == "view":
        options["views"] = [lambda batch, step, generator: (next(ends), batch)[1]]
    elif place == "model":
        model.regulariser = lambda *args: (next(ends), {})[1]
    elif place == "validation":
        validation, quiet = Shards(data, 3), dataclasses.replace(quiet, validate_every=1)
    source = Shards(data, 4) if place == "source" else data
    with pytest.raises(DataError, match=r"Step \d met a StopIteration") as caught:
        fit(model, source, SVI(num_steps=9, batch_size=4, **options), validation=validation, trainer=quiet)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_what_views_make_is_checked_like_the_data(quiet):
    data = Sequences(torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(0)))
    method = SVI(num_steps=3, views=[RandomSteps(5)])
    with pytest.raises(DataError, match=r"`views` .* step 0 .* evenly spaced"):
        fit(KalmanVAE((2,), 2, 3), data, method, trainer=quiet)


def test_a_bad_number_of_a_view_is_skipped_where_pixels_are_checked(quiet):
    """The step is not taken, as everywhere, though a check of its own refuses infinite pixels; others it refuses."""
    data = Sequences(torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    model = SRVP((1, 8, 8), 2, noise_dim=1, content_dim=2, num_frames=2, hidden_dim=4, architecture=DCGAN((4, 4), 3))
    method = SVI(num_steps=3, views=[with_infinite(1)])
    assert fit(model, data, method, trainer=quiet).history["skipped"][-1] == 1
    assert [name for name, buffer in model.frame_encoder.named_buffers() if not bool(buffer.isfinite().all())] == []
    with pytest.raises(DataError, match=r"`views` .* step 1 .* must lie in \[0, 1\]"):
        fit(model, data, SVI(num_steps=3, views=[with_infinite(1, 2.0)]), trainer=quiet)


def test_bad_values_are_skipped_without_the_checks_of_torch(quiet):
    """What is refused by our own check, where those of distributions are off, counts as a bad step too."""
    data = Sequences(torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0)))
    with pyro.validation_enabled(False):
        method = SVI(num_steps=3, views=[with_infinite(1, float("nan"))])
        history = fit(KalmanVAE((2,), 2, 3), data, method, trainer=quiet).history
    assert history["skipped"][-1] == 1


def test_a_view_that_returns_nothing_is_named(toy, quiet):
    views = [lambda data, step, generator: data, lambda data, step, generator: None]
    with pytest.raises(DataError, match=r"`views\[1\]\(\.\.\.\)` must be a `Sequences`. Got NoneType"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=1, views=views), trainer=quiet)


def test_validation_has_noise_of_its_own(toy, quiet):
    """The same at each time, and that of no training step."""
    model = toy.make_lines()
    seeds: dict[bool, list[int]] = {True: [], False: []}
    model.encoder.register_forward_pre_hook(lambda part, given: seeds[part.training].append(torch.initial_seed()))
    trainer = dataclasses.replace(quiet, validate_every=1)
    fit(model, toy.make_data(4), SVI(num_steps=3), validation=toy.make_data(4, seed=1), trainer=trainer)
    assert len(set(seeds[True])) >= 3 and len(set(seeds[False])) == 1
    assert not set(seeds[True]) & set(seeds[False])


def test_a_validation_like_the_best_is_no_better_one(toy, quiet):
    model = toy.make_lines()
    model.requires_grad_(False)
    model.drift_loc.requires_grad_(True)
    method = SVI(num_steps=9, learning_rate=1e-30)  # so small that no weight moves
    trainer = dataclasses.replace(quiet, validate_every=1, patience=3)
    data = toy.make_data()
    posterior = fit(model, data, method, validation=data, trainer=trainer)
    assert posterior.status == "stopped early" and posterior.history["step"][-1] == 4
