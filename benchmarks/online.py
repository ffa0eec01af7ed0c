"""One more observation of a table: taken in by a filter, or the filter run anew over all that was seen.

Five variables and four factors at uneven times, a fifth of the entries missing, double precision. States agree to a
relative 1e-9 before anything is timed.
"""

from __future__ import annotations

import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks._measure import Row, interleave, options, report, require_equal, row
from benchmarks.kalman import PACKAGES

VARIABLES, FACTORS = 5, 4


def main() -> None:
    quick = options("online", __doc__).quick
    rows = [row_of(steps, 3 if quick else 9) for steps in ((100, 1_000) if quick else (100, 1_000, 10_000))]
    report("online", rows, packages=PACKAGES)


def row_of(num_steps: int, repeats: int) -> Row:
    """The step after `num_steps` seen ones."""
    data = table(num_steps + 1)
    torch.manual_seed(0)
    model = ps.DynamicFactors((VARIABLES,), FACTORS).double()
    model.take_units(data)
    posterior = ps.GuidePosterior(model)
    before = ps.start_filter(posterior, data.first(num_steps))
    calls = {
        "library": lambda: moments(ps.filter_step(before, data.values[:, -1], data.times[-1], mask=data.mask[:, -1])),
        "baseline": lambda: moments(ps.start_filter(posterior, data)),
    }
    require_equal("state", calls["library"](), calls["baseline"](), 1e-9)
    return row(f"step {num_steps + 1} of {VARIABLES} variables, {FACTORS} factors", interleave(calls, repeats))


def table(num_steps: int) -> ps.Sequences:
    """Random walks with gaps, at uneven times."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(1, num_steps, VARIABLES, generator=generator, dtype=torch.float64).cumsum(1)
    mask = torch.rand(values.shape, generator=generator) < 0.8
    times = (0.1 + torch.rand(num_steps, generator=generator, dtype=torch.float64)).cumsum(0)
    return ps.Sequences(values, mask=mask, times=times)


def moments(state: ps.FilterState) -> list[Tensor]:
    """What a filter knows."""
    return [state.means, state.covs, state.log_likelihood]


if __name__ == "__main__":
    main()
