"""Which of several models: the one that predicts best, each from a seed, and what is refused before work starts."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError

QUIET = ps.Trainer(progress=False, accelerator="cpu")
METHOD = ps.SVI(num_steps=60, learning_rate=0.1)


def two_factor_table(size: int = 60) -> ps.Sequences:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(size, 12, 2, generator=generator).cumsum(1)
    values = factors @ torch.randn(2, 5, generator=generator) + 0.2 * torch.randn(size, 12, 5, generator=generator)
    return ps.Sequences(values, mask=torch.rand(values.shape, generator=generator) < 0.8)


def factors(number: int):
    return lambda: ps.DynamicFactors((5,), number)


def test_the_best_has_the_lowest_score_and_is_what_a_fit_alone_gives(tmp_path):
    data, task = two_factor_table(), ps.Imputation(0.3)
    candidates = {"one": factors(1), "two": factors(2)}
    trainer = ps.Trainer(progress=False, accelerator="cpu", directory=tmp_path)
    chosen = ps.select(candidates, data[:40], METHOD, validation=data[40:], task=task, trainer=trainer)
    table = chosen.table().set_index("model")
    assert chosen.best == "two" == table["crps"].idxmin() and list(table.index) == ["one", "two"]
    assert chosen.posterior.model.num_factors == 2 and {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    again = ps.select({"two": factors(2)}, data[:40], METHOD, validation=data[40:], task=task, trainer=QUIET)
    torch.testing.assert_close(again.scores["two"].crps, chosen.scores["two"].crps, rtol=0, atol=0, equal_nan=True)
    scored = ps.evaluate(chosen.posterior, data[40:], task)
    torch.testing.assert_close(scored.crps, chosen.scores["two"].crps, rtol=0, atol=0, equal_nan=True)


def test_of_log_scores_the_larger_is_better_and_one_must_have_it():
    data, fit = two_factor_table(), {"validation": two_factor_table()[40:], "task": ps.Imputation(0.3)}
    chosen = ps.select(
        {"two": factors(2), "one": factors(1)}, data[:40], METHOD, criterion="log_score", trainer=QUIET, **fit
    )
    assert chosen.best == "two" == chosen.table().set_index("model")["log_score"].idxmax()
    grey = ps.Sequences(torch.rand(6, 8, 2, generator=torch.Generator().manual_seed(0)))
    candidates = {"no density": lambda: ps.RecurrentVAE((2,), emission=ps.BernoulliEmission())}
    with pytest.raises(DataError, match="'no density' has no 'log_score'"):
        ps.select(
            candidates, grey, ps.SVI(num_steps=1), validation=grey, task=ps.Reconstruction(), criterion="log_score",
            trainer=QUIET,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("candidates", "options", "match"),
    [
        ({}, {}, "`candidates` must be a dictionary"),
        ({"a": ps.DynamicFactors((5,), 1)}, {}, r"`candidates\['a'\]` must make a new model"),
        ({"a": factors(1)}, {"criterion": "loss"}, "`criterion` must be one of"),
        ({"a": factors(1)}, {"validation": two_factor_table(4).hide(torch.ones(4, 12).bool())}, "nothing to score"),
        ({"a": lambda: torch.nn.Linear(1, 1)}, {}, "SequenceModel"),
    ],
)
def test_what_cannot_be_meant_is_refused(candidates, options, match):
    given = {"validation": two_factor_table(4), "task": ps.Imputation(0.3)} | options
    with pytest.raises((DataError, TypeError), match=match):
        ps.select(candidates, two_factor_table(8), METHOD, trainer=QUIET, **given)


def test_one_model_twice_is_refused():
    model = ps.DynamicFactors((5,), 1)
    candidates = {"a": lambda: model, "b": lambda: model}
    with pytest.raises(DataError, match="new model at each call"):
        method = ps.SVI(num_steps=2)
        data = two_factor_table(8)
        ps.select(candidates, data, method, validation=data, task=ps.Imputation(0.3), trainer=QUIET)


class Stopped(ps.SVI):
    """A fit that was interrupted."""

    def run(self, *args, **kwargs):
        posterior = super().run(*args, **kwargs)
        posterior.status = "interrupted"
        return posterior


def test_an_interrupt_ends_all():
    data = two_factor_table(8)
    with pytest.raises(KeyboardInterrupt, match="One of several fits"):
        ps.select(
            {"a": factors(1)}, data, Stopped(num_steps=1), validation=data, task=ps.Imputation(0.3), trainer=QUIET
        )
