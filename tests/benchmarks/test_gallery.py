"""What the pictures of the manual show is so."""

from __future__ import annotations

import pytest
import torch

from benchmarks import _gallery_left_out as left_out
from benchmarks import gallery
from pyro_seq.diagnostics import rank_uniformity


def test_tables_tell_chains_that_mixed_from_others():
    found = {name: gallery.convergence(chains) for name, chains in gallery.chain_cases().items()}
    assert found["mixed"]["R-hat"] < 1.02 and found["mixed"]["bulk ESS"] > 400
    assert found["slow"]["bulk ESS"] < 100 and found["slow"]["R-hat"] > 1.1
    assert found["one apart"]["R-hat"] > 1.1


def test_a_funnel_is_cut_off_where_trajectories_diverge():
    draws, _, diverged = gallery.hamiltonian(gallery.funnel_log_prob, 0.35, seed=4)
    assert int(diverged.sum()) > 20
    assert float(draws[..., 0][diverged].mean()) < float(draws[..., 0].mean())
    exact, _, none = gallery.hamiltonian(gallery.flat_log_prob, 0.35, seed=4)
    assert not bool(none.any())
    low = [float((v < -5).double().mean()) for v in (draws[..., 0], exact[..., 0])]
    normal = float(torch.special.ndtr(torch.tensor(-5 / 3)))  # of a normal with deviation 3
    assert low[0] < 0.5 * normal and low[1] == pytest.approx(normal, abs=0.03)


@pytest.mark.parametrize(
    ("factor", "shift", "is_right"), [(1.0, 0.0, True), (0.7, 0.0, False), (1.4, 0.0, False), (1.0, 0.3, False)]
)
def test_ranks_are_uniform_for_the_exact_posterior_only(factor, shift, is_right):
    p_value = rank_uniformity(gallery.simulated_ranks(factor, shift, seed=5), 99).p_value
    assert (p_value > 0.01) == is_right


def test_a_year_is_left_out_by_its_density_given_the_others_and_not_given_the_past():
    grid = left_out.nile_grid()
    exact = left_out.exact_left_out(grid).numpy()
    assert exact.sum() == pytest.approx(-633.58, abs=0.01)
    densities = left_out.likelihoods(grid, left_out.draws_of(grid.log_posterior, 1), 2)
    others, its_level, past = (left_out.by_arviz(density[:, 1:]) for density in densities.values())
    assert abs(others[0] - exact[1:]).max() < 0.05 and others[1].max() < 0.5
    assert abs(its_level[0] - exact[1:]).max() < 0.1 and its_level[1].max() > left_out.HIGH_K
    assert abs(past[0] - exact[1:]).max() > 1.0 and past[1].max() < 0.5


def test_few_fits_leave_the_future_out():
    grid = left_out.nile_grid()
    exact, found = left_out.exact_ahead(grid).numpy()[left_out.FIRST :], left_out.ahead_by_weights(grid, 3)
    assert len(found.refits) == 2 and abs(found.density - exact).max() < 0.2
    assert abs(found.density.sum() - exact.sum()) < 0.3
    assert left_out.exact_left_out(grid)[left_out.FIRST :].sum() > exact.sum() + 3
