"""The objective at draws of chains: its gradient is that of the evidence; step sizes, lost chains, weighted terms."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.maximum_likelihood import MaximumLikelihood
from pyro_seq.ops.langevin import MALA


@pytest.mark.parametrize("preconditioner", [None, GaussNewton(), GaussNewton(is_diagonal=True)], ids=str)
def test_fisher_identity(preconditioner: GaussNewton | None, factors) -> None:
    """The mean gradient at ends of chains is that of the log factors.evidence, by finite differences."""
    model = factors.Factors(factors.Bowl(), prior_steps=30, num_negatives=60).double()
    data = factors.make_data(4, dtype=torch.float64)
    objective = factors.objective_of(model, data, num_steps=8, num_chains=60, preconditioner=preconditioner)
    parameters = [model.weight, model.log_scale, model.energy.tilt, model.energy.push]
    rows = []
    for visit in range(70):
        gradients = torch.autograd.grad(-objective(data).total, parameters)
        if visit >= 20:  # the first ones adapt step sizes and find the posterior
            rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    found = torch.stack(rows)
    halves = found.unflatten(0, (10, 5)).mean(1)  # batch means: neighbouring visits go on from one another
    error = halves.std(0) / len(halves) ** 0.5
    wanted = torch.cat([factors.slopes(model, data, parameter) for parameter in parameters])
    scores = (found.mean(0) - wanted) / error
    assert scores.abs().max() < 6  # Student's t with 9 degrees of freedom, over 13 entries: chance 2 in 1000
    assert (wanted.abs() > 5 * error).sum() >= 5


def test_step_sizes_of_series_adapt_apart(factors) -> None:
    """One series is known ten times better than the others, and gets shorter steps."""
    torch.manual_seed(0)
    data = factors.make_data(6, num_steps=60)
    mask = torch.zeros(6, 60, dtype=torch.bool)
    mask[:, 0] = True
    mask[0] = True
    data = dataclasses.replace(data, mask=mask)
    objective = factors.objective_of(factors.Factors(), data, num_chains=8, sampler=MALA(0.8))
    for _ in range(60):
        objective(data)
    sizes = objective.store.step_sizes(data.index)
    assert sizes[0] < 0.4 * sizes[1:].min()
    accepted = [float(objective(data).terms["acceptance"]) for _ in range(20)]
    assert sum(accepted) / len(accepted) == pytest.approx(0.574, abs=0.06)


def test_a_lost_chain_costs_its_series_one_step(factors) -> None:
    """Others move as if nothing had happened; the lost one starts anew."""
    data = factors.make_data(5)
    first, second = (factors.objective_of(factors.Factors(), data, num_chains=2) for _ in range(2))
    for objective in (first, second):
        torch.manual_seed(0)
        objective(data)
    second.store.values[3, 1] = torch.nan
    losses = []
    for objective in (first, second):
        torch.manual_seed(1)
        losses.append(objective(data))
    assert losses[1].terms["frozen"] == 1 and losses[0].terms["frozen"] == 0
    assert losses[1].total.isfinite() and losses[1].total != losses[0].total
    others = [0, 1, 2, 4]
    assert torch.equal(first.store.values[others], second.store.values[others])
    assert second.store.is_started.logical_not().nonzero().tolist() == [[3, 1]]
    second(data)
    assert second.store.is_started.all() and second.store.values.isfinite().all()


def small_guide_and_weight(factors):
    """Factor analysis with two training terms, which see the chains' draws and the guide there."""

    class Bound(factors.Factors):
        def regulariser(self, data, model_trace, guide_trace):
            value, guide = model_trace.nodes["factor"]["value"], guide_trace.nodes["factor"]
            assert torch.equal(value, guide["value"])
            gap = (value - guide["fn"].base_dist.loc).square().sum(-1)
            return {"gap": gap, "size": self.weight.square().sum() + 0 * gap}

    return Bound()


@pytest.mark.parametrize("guide_loss", ["bound", "draws"])
def test_named_regularisers_count_at_the_draws_of_the_chains(guide_loss: str, factors) -> None:
    data, totals = factors.make_data(), []
    for scales in ({}, {"gap": 0.5, "size": lambda step: 0.1 * step}):
        model = small_guide_and_weight(factors)
        options = {"has_guide": True, "guide_loss": guide_loss, "scales": scales}
        objective = factors.objective_of(model, data, **options).train()
        torch.manual_seed(0)
        totals.append(objective(data, step=20))
    plain, weighed = totals
    assert not {"gap", "size"} & plain.terms.keys()
    assert torch.allclose(weighed.terms["size"], model.weight.square().sum())
    expected = plain.total + 0.5 * weighed.terms["gap"] + 2.0 * weighed.terms["size"]
    torch.testing.assert_close(weighed.total, expected)
    slope = torch.autograd.grad(weighed.total - plain.total, model.weight, retain_graph=True)[0]
    assert slope.abs().sum() > 0
    assert torch.autograd.grad(weighed.total, model.encoder.weight)[0].abs().sum() > 0


def test_regularisers_that_do_not_exist_or_lack_the_guide_are_refused(quiet, factors) -> None:
    method = MaximumLikelihood(num_steps=2, kernel=Langevin(start="guide"), scales={"gapp": 1.0})
    with pytest.raises(DataError, match=r"'gapp'.*\['gap', 'size'\]"):
        fit(small_guide_and_weight(factors), factors.make_data(), method, trainer=quiet)
    with pytest.raises(DataError, match="need the guide"):
        fit(factors.Factors(), factors.make_data(), MaximumLikelihood(num_steps=2, scales={"gap": 1.0}), trainer=quiet)


def test_chains_of_a_minibatch_are_kept_under_their_series(factors) -> None:
    data = factors.make_data(6)
    objective = factors.objective_of(factors.Factors(), data, num_chains=2)
    few = torch.tensor([5, 2])
    objective(data.minibatch(few))
    assert objective.store.is_started.all(1).nonzero()[:, 0].tolist() == [2, 5]
    assert bool((objective.store.values[few] != 0).all())
