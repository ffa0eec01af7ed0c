"""When a guide is taught about gaps, from what, and what it is worth."""

from __future__ import annotations

import pytest
import torch
from pyro import poutine

import pyro_seq as ps
from pyro_seq.infer import lessons
from pyro_seq.infer.lessons import Lessons, shared_latents
from pyro_seq.infer.objective import Objective
from pyro_seq.metrics import coverage
from pyro_seq.model import local_parameters
from tests import toy

QUIET = ps.Trainer(progress=False, accelerator="cpu")
BOTH = {"dreams", "rehearsal"}


def test_lessons_hide_more_than_the_data_and_share_latents_with_the_bound(monkeypatch):
    model, data = toy.make_lines(), toy.make_data(5, 9).hide(torch.arange(9).expand(5, 9) == 3)
    seen = []
    for name in ("dream_loss", "rehearsal_loss"):
        monkeypatch.setattr(lessons, name, lambda model, data, shared, *rest: seen.append((data, shared)))
    with local_parameters():
        trace = poutine.trace(model.guide).get_trace(data)
        Lessons(model, dict.fromkeys(BOTH, 1.0)).terms(data, trace, is_training=True)
    for hidden, shared in seen:
        assert shared["drift"].shape == (1,) and torch.equal(shared["drift"], trace.nodes["drift"]["value"])
        assert not bool((hidden.mask & ~data.mask).any()) and hidden.mask.sum() < data.mask.sum()
        assert bool(hidden.step_mask.any(1).all())
    assert len(seen) == 2 and shared_latents(trace).keys() == {"drift"}


@pytest.mark.parametrize("method", [ps.SVI, ps.IWAE])
def test_they_count_by_default_where_training_hides(method):
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    data = ps.Sequences(torch.rand(8, 6, 2))
    holes = data.hide(torch.arange(6).expand(8, 6) == 3)

    def terms(given, **scales):
        return BOTH & ps.fit(model, given, method(num_steps=1, scales=scales), trainer=QUIET).history.keys()

    assert terms(holes) == BOTH and not terms(data)
    assert terms(data, dreams=0.5) == BOTH and not terms(data, dreams=0.0)
    assert terms(holes, dreams=0.0) == {"rehearsal"} and not terms(holes, dreams=0.0, rehearsal=0)
    ragged = data.hide(torch.arange(6).expand(8, 6) >= 4)
    assert not terms(ragged)


def test_the_rest_of_a_model_trains_as_without_lessons():
    """Gradients of the model's own parameters are the same bits with and without."""
    torch.manual_seed(0)
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    data = ps.Sequences(torch.rand(6, 5, 2), mask=torch.rand(6, 5) < 0.8)
    gradients = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        model.zero_grad()
        objective = Objective(model, scales=dict.fromkeys(BOTH, weight))
        loss = objective(data)
        loss.total.backward()
        gradients[weight] = {name: value.grad.clone() for name, value in model.named_parameters()}
        assert (loss.terms.keys() >= BOTH) == bool(weight)
    moved = {name.split(".")[0] for name, by in gradients[0.0].items() if not torch.equal(by, gradients[1.0][name])}
    assert moved == {"encoder"}
    assert not BOTH & objective.eval()(data).terms.keys()


@pytest.mark.parametrize("method", [ps.SVI, ps.IWAE])
def test_a_model_whose_draws_do_not_look_like_data_has_none(method):
    small = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: torch.nn.GroupNorm(1, channels))
    sizes = {"noise_dim": 2, "content_dim": 0, "num_frames": 2, "hidden_dim": 8}
    model = ps.SRVP((1, 8, 8), 3, architecture=small, **sizes)
    data = ps.Sequences(torch.rand(4, 5, 1, 8, 8)).hide(torch.arange(5).expand(4, 5) == 2)
    assert not BOTH & ps.fit(model, data, method(num_steps=1), trainer=QUIET).history.keys()
    with pytest.raises(ps.UnsupportedError, match="`scales` asks for rehearsal"):
        ps.fit(model, data, method(num_steps=1, scales={"rehearsal": 1.0}), trainer=QUIET)


def test_lessons_weigh_the_same_for_any_number_of_particles(monkeypatch):
    """One lesson a series, whatever number of draws the other terms are means of."""
    monkeypatch.setattr(lessons, "dream_loss", lambda model, data, shared: torch.full((len(data),), 3.0))
    data = toy.make_data(6).minibatch(torch.tensor([4, 1]))
    for num_particles in (1, 4):
        terms = Objective(toy.make_lines(), scales={"dreams": 0.5}, num_particles=num_particles)(data).terms
        assert float(terms["dreams"]) == pytest.approx(3.0)


def waves(size: int) -> ps.Sequences:
    generator = torch.Generator().manual_seed(0)
    phase = 6.28 * torch.rand(size, 1, generator=generator)
    angle = 0.3 * torch.arange(16) + phase
    return ps.Sequences(
        torch.stack([angle.sin(), angle.cos()], -1) + 0.05 * torch.randn(size, 16, 2, generator=generator)
    )


@pytest.mark.slow
def test_a_guide_that_seldom_missed_a_beginning_reads_series_without_one():
    """Forty-eight waves with a fifth of the steps missing; then 200 others whose first 3 or 8 steps are hidden."""
    whole = waves(248)
    train = whole[:48].hide(torch.rand(48, 16, generator=torch.Generator().manual_seed(1)) < 0.2)
    for is_taught in (True, False):
        torch.manual_seed(0)
        model = ps.ODELEBM((2,), 3, time_step=0.3, encoder=ps.RNNEncoder((2,), 3))
        scales = {} if is_taught else dict.fromkeys(BOTH, 0.0)
        method = ps.SVI(num_steps=400, learning_rate=1e-2, clip_norm=5.0, scales=scales)
        posterior = ps.fit(model, train, method, trainer=QUIET)
        for num_hidden in (3, 8):
            late = whole[48:].hide((torch.arange(16) < num_hidden).expand(200, 16))
            draws = ps.reconstruct(posterior, late, num_samples=200).samples[:, :, :num_hidden]
            truth = whole[48:].values[:, :num_hidden]
            covered = float(coverage(draws, truth, 0.9))
            error = float((draws.mean(0) - truth).square().mean().sqrt())
            assert (covered > 0.8 and error < 0.5) if is_taught else (covered < 0.7 and error > 0.5)
