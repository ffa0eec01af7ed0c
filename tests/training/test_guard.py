"""Numbers that are not finite, and parameters that nothing trains."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from pyro_seq.errors import NumericalError, UnsupportedError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training import files
from tests.training.runs import At, make_normalised, same_weights, with_infinite


def poisoned(toy, bad_steps, kind="nan"):
    """A model whose objective is not finite at some steps; each has a seed, and may be evaluated twice."""

    class Poisoned(toy.Lines):
        step, seed = -1, None

        def regulariser(self, data, model_trace, guide_trace):
            if torch.initial_seed() != self.seed:
                self.step, self.seed = self.step + 1, torch.initial_seed()
            weight = self.emit.weight.square().sum()
            factor = float(kind) if self.step in bad_steps else 0.0
            return {"spice": (weight * factor).expand(data.num_series)}

    torch.manual_seed(0)
    return Poisoned()


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_bad_steps_are_skipped_and_counted(toy, quiet, kind):
    model = poisoned(toy, {2, 3, 6, 7, 9}, kind)
    history = fit(model, toy.make_data(), SVI(num_steps=10, learning_rate=0.01), trainer=quiet).history
    assert history["skipped"] == [0.0, 5.0]
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_skipped_step_leaves_weights_alone(toy, quiet):
    """A run with one bad step equals a run in which that step was never taken, but for the noise of the others."""
    states = []
    model = poisoned(toy, {3})

    def keep(engine):
        states.append(engine.model.emit.weight.detach().clone())

    spy = [At(step, keep) for step in (3, 4, 5)]
    fit(model, toy.make_data(), SVI(num_steps=5), trainer=dataclasses.replace(quiet, callbacks=spy))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])


def test_skipped_step_leaves_buffers_alone(toy, quiet):
    states = []
    spy = [At(step, lambda engine: states.append(copy.deepcopy(engine.model))) for step in (2, 3, 4)]
    method = SVI(num_steps=5, views=[with_infinite(2)])
    posterior = fit(make_normalised(), toy.make_data(), method, trainer=dataclasses.replace(quiet, callbacks=spy))
    assert posterior.history["skipped"][-1] == 1
    assert same_weights(states[0], states[1]) and not same_weights(states[1], states[2])
    assert all(bool(buffer.isfinite().all()) for buffer in posterior.model.encoder.buffers())


def test_buffers_alone_can_make_a_step_bad(toy, quiet):
    class Growing(toy.Lines):
        def guide(self, data):
            super().guide(data)
            self.level *= 1e30

    model = Growing()
    model.register_buffer("level", torch.ones(1))
    with pytest.raises(NumericalError, match="3 steps in a row, up to step 3: not finite become the buffers `level`"):
        fit(model, toy.make_data(), SVI(num_steps=5), trainer=quiet)
    assert float(model.level) == pytest.approx(1e30)


def test_buffers_that_are_not_finite_are_neither_returned_nor_kept(toy, quiet, tmp_path):
    def spoil(engine):
        engine.model.encoder[0].running_var[1] = float("inf")

    trainer = dataclasses.replace(quiet, callbacks=[At(3, spoil)], directory=tmp_path)
    with pytest.raises(NumericalError, match=r"not finite: `encoder\.0\.running_var`"):
        fit(make_normalised(), toy.make_data(), SVI(num_steps=3), trainer=trainer)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_three_bad_steps_in_a_row_are_an_error(toy, quiet):
    model = poisoned(toy, {4, 5, 6})
    with pytest.raises(NumericalError, match=r"3 steps in a row, up to step 6: not finite are the terms \['spice'\]"):
        fit(model, toy.make_data(), SVI(num_steps=10), trainer=quiet)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_run_that_breaks_down_leaves_good_files(toy, quiet, tmp_path):
    """The last checkpoint is that before the error, with the best weights so far."""
    trainer = dataclasses.replace(quiet, directory=tmp_path, checkpoint_every=1, validate_every=2, keep_best=True)
    with pytest.raises(NumericalError):
        fit(
            poisoned(toy, set(range(4, 99))),
            toy.make_data(),
            SVI(num_steps=10),
            validation=toy.make_data(4),
            trainer=trainer,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.csv"]
    state = files.read(tmp_path / "checkpoint.pt")
    assert state["steps_done"] == 5 and math.isfinite(state["best"]["loss"])
    for weights in (state["weights"], state["best"]["weights"]):
        assert all(bool(value.isfinite().all()) for name, value in weights.items() if "_seen" not in name)


def test_bad_from_the_first_step(toy, quiet):
    with pytest.raises(NumericalError, match="from the first step on"):
        fit(poisoned(toy, set(range(9))), toy.make_data(), SVI(num_steps=10), trainer=quiet)


def test_error_of_a_distribution_counts_as_a_bad_step(toy, quiet):
    class Fails(toy.Lines):
        def guide(self, data):
            super().guide(data)
            torch.distributions.Normal(torch.tensor(float("nan")), 1.0, validate_args=True)

    with pytest.raises(NumericalError, match="Expected parameter") as caught:
        fit(Fails(), toy.make_data(), SVI(num_steps=10), trainer=quiet)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("make", ["make_lines", "make_normalised"])
def test_enormous_rate_never_returns_bad_weights(toy, quiet, make):
    model = toy.make_lines() if make == "make_lines" else make_normalised()
    with pytest.raises(NumericalError):
        fit(model, toy.make_data(), SVI(num_steps=50, learning_rate=1e30, optimizer=torch.optim.SGD), trainer=quiet)


def test_parameter_without_gradient_is_named(toy, quiet):
    model = toy.make_lines()
    model.spare = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedError, match=r"`objective\.model\.spare\.bias`|`model\.spare\.bias`"):
        fit(model, toy.make_data(), SVI(num_steps=3), trainer=quiet)
