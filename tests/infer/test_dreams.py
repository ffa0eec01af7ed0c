"""What a guide learns from made-up series: closed forms, who gets a gradient, and what it is worth."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.infer.dreams import dream_loss
from pyro_seq.infer.objective import Objective
from pyro_seq.metrics import coverage
from pyro_seq.model import local_parameters
from pyro_seq.training.views import RandomGaps
from tests import toy

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def lines() -> toy.Lines:
    torch.manual_seed(0)
    return toy.make_lines()


def test_the_best_guide_of_dreams_has_the_posteriors_means_and_deviations():
    """Of a normal family with independent entries the nearest in KL[p || q] has the exact marginals."""
    model, data = lines(), toy.make_data(4096, toy.SEEN)
    drift = torch.tensor([0.4])
    optimizer = torch.optim.Adam(model.encoder.parameters(), lr=0.05)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 400)
        with local_parameters():
            loss = dream_loss(model, data, {"drift": drift}).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    times = model.model_times(data).double()
    design = torch.stack([torch.ones_like(times), times], -1)
    weight, bias = model.emit.weight.detach()[:, 0].double(), model.emit.bias.detach().double()
    design = (design[:, None] * weight[:, None]).flatten(0, 1)  # (time * obs, 2)
    cov = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + design.T @ design / toy.NOISE**2)
    residual = data.values.double() - bias - drift * times[:, None] * weight
    exact = residual.flatten(1) @ design @ cov / toy.NOISE**2
    loc, log_scale = model.encoder(data.values.flatten(1)).detach().chunk(2, -1)
    # the rest of a gradient descent: a hundredth of the prior's deviation, and a twentieth of the posterior's
    assert float((loc - exact).abs().mean()) < 0.03
    assert float((log_scale.exp().mean(0) / cov.diagonal().sqrt() - 1).abs().max()) < 0.05


def test_only_the_guide_learns_from_dreams_and_only_in_training():
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    data = ps.Sequences(torch.rand(6, 5, 2), mask=torch.rand(6, 5) < 0.8)
    objective = Objective(model, scales={"dreams": 1.0})
    term = objective(data).terms["dreams"]
    grads = torch.autograd.grad(term, list(model.parameters()), allow_unused=True)
    taught = {
        name for (name, _), grad in zip(model.named_parameters(), grads, strict=True) if grad is not None and grad.any()
    }
    assert taught and all(name.startswith("encoder.") for name in taught)
    assert objective.eval()(data).terms.keys() == {"initial", "x"}


def test_a_dream_has_the_gaps_of_the_data(monkeypatch):
    model, data = lines(), toy.make_data(5, 9).hide(torch.arange(9).expand(5, 9) == 3)
    seen = []
    guide = type(model).guide
    monkeypatch.setattr(type(model), "guide", lambda self, given: (seen.append(given), guide(self, given))[1])
    with local_parameters():
        assert dream_loss(model, data, {"drift": torch.zeros(1)}).shape == (5,)
    (dreamt,) = seen
    assert torch.equal(dreamt.mask, data.mask) and torch.equal(dreamt.values != 0, dreamt.entry_mask)
    assert not torch.allclose(dreamt.values[dreamt.mask], data.values[dreamt.mask])


def test_a_dream_out_of_the_finite_numbers_does_not_count():
    """A field that runs away makes up what nobody can learn from; the step goes on."""
    field = ps.DeterministicField(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    model = ps.ODELEBM((2,), 2, vector_field=field, encoder=ps.RNNEncoder((2,), 2), time_step=50.0)
    with torch.no_grad():
        field.module[0].weight.copy_(1e6 * torch.eye(2))
    data = ps.Sequences(torch.rand(3, 9, 2))
    with local_parameters():
        assert torch.equal(dream_loss(model, data, {}), torch.zeros(3))


def waves(size: int) -> ps.Sequences:
    generator = torch.Generator().manual_seed(0)
    phase = 6.28 * torch.rand(size, 1, generator=generator)
    angle = 0.3 * torch.arange(12) + phase
    return ps.Sequences(
        torch.stack([angle.sin(), angle.cos()], -1) + 0.1 * torch.randn(size, 12, 2, generator=generator)
    )


@pytest.mark.slow
def test_with_few_series_they_keep_intervals_from_being_too_narrow():
    """A quarter of a minute for each of two fits: 48 waves, and 200 others whose first half is hidden."""
    whole, covered = waves(248), {}
    train = whole[:48].hide(torch.rand(48, 12, generator=torch.Generator().manual_seed(1)) < 0.2)
    late = whole[48:].hide((torch.arange(12) < 6).expand(200, 12))
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model = ps.ODELEBM((2,), 3, time_step=0.3, encoder=ps.RNNEncoder((2,), 3))
        method = ps.SVI(
            num_steps=1500, learning_rate=1e-2, clip_norm=5.0, views=[RandomGaps()], scales={"dreams": weight}
        )
        draws = ps.reconstruct(ps.fit(model, train, method, trainer=QUIET), late, num_samples=200)
        covered[weight] = float(coverage(draws.samples[:, :, :6], whole[48:].values[:, :6], 0.9))
    assert covered[1.0] > 0.8 and covered[1.0] > covered[0.0]
