"""KalmanVAE against Kamronn's code (filter.py): mixture, filter, smoother and the terms of its bound, with gaps too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from pyro_seq.distributions.states_given_path import StatesGivenPath
from pyro_seq.nn.mixture import LSTMMixture, MixedDynamics
from tests.authors.golden import assert_equal, assert_other, difference, fill, load, part

pytestmark = pytest.mark.data

CASES = ("full", "gaps")
INITIAL, TRANSITION, EMISSION = "log_initial", "log_transition", "log_emission"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load("kvae")


@torch.no_grad()
def follow(golden, case: str, inputs: Tensor | None = None, *, is_mean: bool = True) -> SimpleNamespace:
    """Matrices, filter and smoother of the codes of a case."""
    dynamics = fill(MixedDynamics(2, 4, 3, input_dim=2, mixture=LSTMMixture(2, 3, 7)), golden, "dynamics.")
    inputs = golden["inputs"] if inputs is None else inputs
    mask = golden["mask"] if case == "gaps" else torch.ones_like(golden["mask"])
    prior = MixedLinearGaussian(dynamics, 12, inputs=inputs)
    codes = golden["codes"] if bool(mask.all()) else prior.complete(golden["codes"], mask, is_mean=is_mean)
    linear = prior.given(codes, mask[..., None])
    previous = torch.cat([dynamics.start.expand(6, 1, 2), codes[:, :-1]], 1)
    return SimpleNamespace(
        weights=dynamics.weights(previous),
        matrices=linear.parameters,
        filtered=linear.filter(codes),
        smoothed=linear.smooth(codes),
        codes=codes,
        mask=mask,
        inputs=inputs,
        prior=prior,
    )


def moments(run) -> dict[str, Tensor]:
    kinds = {"filtered": run.filtered, "smoothed": run.smoothed}
    return {
        f"{kind}_{name}": getattr(found, f"{kind}_{name}")
        for kind, found in kinds.items()
        for name in ("means", "covs")
    }


def terms(run, states: Tensor) -> dict[str, Tensor]:
    """Their terms at given states, a seen step: each from the density's own parts."""
    found, count = run.matrices, run.mask.sum()
    moved = found.transition[:, 1:] @ states[:, :-1, :, None] + found.input_matrix[:, 1:] @ run.inputs[:, 1:, :, None]
    emitted = (found.observation @ states[..., None]).squeeze(-1)
    log_emission = MultivariateNormal(emitted, found.observation_cov).log_prob(run.codes)
    marginals = MultivariateNormal(run.smoothed.smoothed_means, run.smoothed.smoothed_covs)
    each = {
        INITIAL: MultivariateNormal(found.initial_mean, found.initial_cov).log_prob(states[:, 0]),
        TRANSITION: MultivariateNormal(moved.squeeze(-1), found.transition_cov).log_prob(states[:, 1:]),
        EMISSION: torch.where(run.mask, log_emission, 0.0),
        "entropy": -marginals.log_prob(states),
    }
    each = {name: term.sum() / count for name, term in each.items()}
    return each | {"bound": sum(each.values())}


@pytest.mark.parametrize("case", CASES)
def test_mixture(golden, case):
    run, theirs = follow(golden, case), part(golden, f"{case}.")
    next_step = {name: theirs[name][:, :-1] for name in ("A_next", "B_next", "alpha_next")}  # of the step t -> t + 1
    found = {
        "A_next": run.matrices.transition[:, 1:],
        "B_next": run.matrices.input_matrix[:, 1:],
        "alpha_next": run.weights[:, 1:],
        "C": run.matrices.observation,
    }
    assert_equal(found, next_step | {"C": theirs["C"]})


@pytest.mark.parametrize("case", CASES)
def test_filter_and_smoother(golden, case):
    assert_equal(moments(follow(golden, case)), part(golden, f"{case}."))


@pytest.mark.parametrize("case", CASES)
def test_each_term_of_the_bound(golden, case):
    theirs = part(golden, f"{case}.")
    assert_equal(terms(follow(golden, case), theirs["states"]), theirs)


@torch.no_grad()
def test_the_joint_density_is_the_sum_of_their_three_terms(golden):
    run, theirs = follow(golden, "full"), part(golden, "full.")
    linear = run.prior.given(run.codes)
    joint = StatesGivenPath(linear, run.codes, is_joint=True).log_prob(theirs["states"])
    assert_equal({"joint": joint.sum() / 72}, {"joint": theirs[INITIAL] + theirs[TRANSITION] + theirs[EMISSION]})
    # at any states at all the joint density less that of the states given the codes is the evidence of the codes
    given = StatesGivenPath(linear, run.codes).log_prob(theirs["states"])
    assert_equal({"evidence": joint - given}, {"evidence": run.prior.log_prob(run.codes)})


# ------------------------------------------------------------------ conventions, each broken on purpose


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shift", [-1, 1])
def test_an_input_belongs_to_the_move_into_its_step(golden, case, shift):
    theirs = part(golden, f"{case}.")
    run = follow(golden, case, golden["inputs"].roll(shift, 1))
    for name, found in moments(run).items():
        if name.endswith("means"):
            assert_other(found, theirs[name], 1e-3)
    found = terms(run, theirs["states"])
    assert_other(found[TRANSITION], theirs[TRANSITION], 1e-3)


def test_matrices_of_the_step_before_are_others(golden):
    run, theirs = follow(golden, "full"), part(golden, "full.")
    assert_other(run.matrices.transition, theirs["A_next"], 1e-3)  # unshifted
    assert_other(run.weights, theirs["alpha_next"], 1e-3)


def test_predicted_means_in_a_gap_are_no_observations(golden):
    """Taken for observations, the filled-in codes make the filter surer than it may be; draws lead elsewhere."""
    theirs = part(golden, "gaps.")
    run = follow(golden, "gaps")
    believed = run.prior.given(run.codes).filter(run.codes)
    assert_other(believed.filtered_covs, theirs["filtered_covs"], 1e-3)
    drawn = follow(golden, "gaps", is_mean=False)
    assert_other(drawn.smoothed.smoothed_means, theirs["smoothed_means"], 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_the_entropy_of_the_marginals_makes_a_looser_bound(golden, case):
    """Their bound lies below the evidence of the codes, which is what counts here."""
    theirs, run = part(golden, f"{case}."), follow(golden, case)
    evidence = run.prior.given(run.codes, run.mask[..., None]).log_prob(run.codes).sum() / run.mask.sum()
    gap = float(evidence - theirs["bound"])
    assert gap > 1.0
    assert difference(evidence, theirs["bound"]) > 0.1
