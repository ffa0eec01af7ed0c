"""The page on writing a model: its model keeps the contract, learns, forecasts, and agrees with Markov chains."""

from __future__ import annotations

import re

import torch

from pyro_seq.testing import check_model
from tests.pages import python_blocks, run_page

PAGE = "docs/new_model.md"


def test_page_runs_and_its_model_works() -> None:
    names = run_page(PAGE)
    assert names["report"].names("failed") == ()
    loss = names["posterior"].history["loss"]
    assert loss[-1] < 0.5 * loss[0]
    baselines = names["ps"].evaluate_baselines(names["train"], names["test"], names["task"])
    for score in ("mse", "crps"):
        assert names["scores"][score] < min(baseline.means()[score] for baseline in baselines)
    assert names["prediction"].samples.shape == (200, 100, 10, 1)
    assert names["exact"].samples.shape == (50, 3, 10, 1)
    assert names["exact"].mean.isfinite().all()


def test_model_passes_on_irregular_times_with_gaps() -> None:
    names: dict = {}
    exec(python_blocks(PAGE)[0], names)
    generator = torch.Generator().manual_seed(0)
    times = torch.rand(6, 9, generator=generator).double().cumsum(-1)
    mask = torch.arange(9) < torch.tensor([9, 5, 9, 7, 9, 4])[:, None]
    data = names["ps"].Sequences(torch.randn(6, 9, 1, generator=generator), mask, times)
    assert check_model(names["DampedOscillation"](), data).names("failed") == ()


def test_model_is_about_forty_lines() -> None:
    body = re.split(r"^class ", python_blocks(PAGE)[0], flags=re.MULTILINE)[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 45
