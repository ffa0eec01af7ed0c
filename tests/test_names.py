"""Names of columns at every verb: the same in another order, others, too few, and none."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.data import Labels
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.predict.energies import energies

QUIET = ps.Trainer(progress=False, accelerator="cpu")
TINY = ps.SVI(num_steps=1, learning_rate=1e-12)
VARIABLES, INPUTS = ("pulse", "pressure"), ("dose", "age")


def table(seed: int = 0) -> ps.Sequences:
    """Patients with two variables, one input and one static covariate."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(6, 8, 2, generator=generator) + torch.tensor([60.0, 61.0])
    dose, age = torch.rand(6, 8, 1, generator=generator), torch.rand(6, 1, generator=generator)
    labels = Labels(variables=VARIABLES, inputs=["dose"], static=["age"])
    return ps.Sequences(values, inputs=dose, static=age, labels=labels).with_static_as_inputs()


def factors() -> ps.DynamicFactors:
    return ps.DynamicFactors((2,), num_factors=1, input_dim=2)


@pytest.fixture(scope="module")
def posterior() -> ps.GuidePosterior:
    torch.manual_seed(0)
    return ps.fit(factors(), table(), TINY, trainer=QUIET)


FUTURE = torch.zeros(6, 2, 2)
VERBS = {
    "forecast": lambda posterior, data: ps.forecast(posterior, data, horizon=2, inputs=FUTURE, num_samples=2),
    "impute": lambda posterior, data: ps.impute(posterior, data, num_samples=2),
    "filter": lambda posterior, data: ps.impute(posterior, data, num_samples=2, is_causal=True),
    "reconstruct": lambda posterior, data: ps.reconstruct(posterior, data, num_samples=2),
    "sample": lambda posterior, data: ps.sample(posterior, data, num_samples=2),
    "evaluate": lambda posterior, data: ps.evaluate(posterior, data, ps.Forecasting(4), num_samples=2),
    "start_filter": lambda posterior, data: ps.start_filter(posterior, data),
    "fit": lambda posterior, data: ps.fit(posterior.model, data, TINY, trainer=QUIET),
    "validation": lambda posterior, data: ps.fit(posterior.model, table(), TINY, validation=data, trainer=QUIET),
    "refine": lambda posterior, data: ps.reconstruct(ps.refine(posterior), data, num_samples=2),
    "energies": lambda posterior, data: energies(posterior.model, data, posterior.draws(data, 2)),
    "guide_ranks": lambda posterior, data: diagnostics.guide_ranks(posterior, data, "loadings", num_samples=2),
    "to_arviz": lambda posterior, data: diagnostics.to_arviz(posterior, data, num_samples=2),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("axis", ["variables", "inputs"])
def test_each_verb_refuses_another_order(posterior, verb, axis):
    names = {"variables": VARIABLES, "inputs": INPUTS}[axis]
    data = table().select(**{axis: names[::-1]})
    wanted = rf"`\w+\.labels\.{axis}` must be those of `.*`, in their order.*Got {names[1]!r} in the place of"
    with pytest.raises(DataError, match=wanted) as caught:
        VERBS[verb](posterior, data)
    call = str(caught.value).split("by name: `")[1].split("`")[0]  # the way out, as it is printed
    mended = eval(call, {"data": data, "validation": data})
    assert torch.equal(mended.values, table().values) and torch.equal(mended.inputs, table().inputs)
    assert mended.labels == table().labels


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda d: replace(d, labels=Labels(variables=["pulse", "weight"])),
            "lacks pressure and has weight.*Rename|Add",
        ),
        (lambda d: d.select(variables=["pulse"]), "Got pulse, which lacks pressure. Add what is missing"),
        (
            lambda d: replace(d, values=d.values[..., [0, 1, 1]], labels=Labels(variables=[*VARIABLES, "weight"])),
            r"Got also weight: .*`data.select\(variables=\['pulse', 'pressure'\]\)`",
        ),
        (
            lambda d: replace(
                d,
                inputs=d.inputs[..., :1],
                static=d.inputs[:, 0, 1:],
                labels=Labels(inputs=["dose"], static=["age"]),
            ),
            r"which lacks age. Make inputs of static covariates: `data.with_static_as_inputs\(\)`",
        ),
    ],
    ids=["others", "too few", "too many", "static"],
)
def test_other_names_are_refused_with_what_mends_them(posterior, change, text):
    with pytest.raises(DataError, match=text):
        ps.reconstruct(posterior, change(table()), num_samples=2)


def test_static_covariates_without_names_are_missed_by_number(posterior):
    data = table()
    with pytest.raises(ShapeError, match=r"Got 1\. Make inputs .* too: `data.with_static_as_inputs\(\)`"):
        ps.reconstruct(
            posterior, replace(data, inputs=data.inputs[..., :1], static=data.inputs[:, 0, 1:], labels=Labels())
        )


@pytest.mark.parametrize("known", [True, False])
def test_data_without_names_are_taken_as_they_are(known):
    named, unnamed = table(), replace(table(), labels=Labels())
    torch.manual_seed(0)
    posterior = ps.fit(factors(), named if known else unnamed, TINY, trainer=QUIET)
    plain = ps.reconstruct(posterior, unnamed, num_samples=2)
    assert torch.equal(plain.samples, ps.reconstruct(posterior, named, num_samples=2).samples)
    other = named.select(variables=VARIABLES[::-1])
    if not known:  # the model knows no names until it is fitted to data that have some
        ps.reconstruct(posterior, other, num_samples=2)
        ps.fit(posterior.model, named, TINY, trainer=QUIET)
    assert posterior.model.labels == Labels(variables=VARIABLES, inputs=INPUTS)
    with pytest.raises(DataError, match="in their order"):
        ps.reconstruct(posterior, other, num_samples=2)


def test_files_keep_the_names_and_replace_those_there_were(posterior, tmp_path):
    ps.save(posterior, tmp_path / "model.pt")
    other = ps.fit(
        factors(), replace(table(), labels=Labels(variables=["a", "b, with a longer name"])), TINY, trainer=QUIET
    )
    for model in (None, factors(), other.model):
        again = ps.load(tmp_path / "model.pt", model)
        assert again.model.labels == Labels(variables=VARIABLES, inputs=INPUTS)
        with pytest.raises(DataError, match="`data.labels.variables` must be those of `posterior.model.labels`"):
            ps.forecast(again, table().select(variables=VARIABLES[::-1]), horizon=1)


def test_files_without_names_are_read_into_a_model_with_some(posterior, tmp_path):
    nameless = ps.fit(factors(), replace(table(), labels=Labels()), TINY, trainer=QUIET)
    assert not any("names" in name for name in nameless.model.state_dict())  # as in files of earlier versions
    ps.save(nameless, tmp_path / "model.pt")
    named = ps.fit(factors(), table(), TINY, trainer=QUIET)
    assert ps.load(tmp_path / "model.pt", named.model).model.labels == Labels()


def test_new_units_come_with_their_names():
    model = ps.fit(factors(), table(), TINY, trainer=QUIET).model
    other = table().select(variables=VARIABLES[::-1])
    posterior = ps.fit(model, other, TINY, trainer=QUIET, readapt=True)
    assert posterior.model.labels.variables == VARIABLES[::-1]
    ps.reconstruct(posterior, other, num_samples=2)


def test_chains_and_resumed_runs_keep_the_names(tmp_path):
    data = table()
    trainer = ps.Trainer(progress=False, accelerator="cpu", directory=tmp_path, resume=True, checkpoint_every=1)
    ps.fit(factors(), data, TINY, trainer=trainer)
    longer = ps.SVI(num_steps=2, learning_rate=1e-12)
    assert ps.fit(factors(), data, longer, trainer=trainer).model.labels.variables == VARIABLES


def test_two_data_sets_of_baselines_have_one_order():
    with pytest.raises(DataError, match=r"`data.labels.variables` must be those of `train.labels`"):
        ps.evaluate_baselines(table(), table().select(variables=VARIABLES[::-1]), ps.Forecasting(4))


def visits(*states: str, categories: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"who": "a", "day": range(len(states)), "state": pd.Categorical(states, categories=categories)})


def test_categories_that_differ_between_training_and_test_are_refused():
    def read(frame: pd.DataFrame) -> ps.Sequences:
        return ps.Sequences.from_dataframe(frame, series="who", time="day", values=["state"])

    train = read(visits("ill", "well", "dead", "well"))
    assert train.labels.variables == ("state=dead", "state=ill", "state=well")
    model = ps.RecurrentVAE((3,), emission=ps.CategoricalEmission(3))
    posterior = ps.fit(model, train, TINY, trainer=QUIET)
    for other in (
        visits("ill", "well", "away"),
        visits("ill", "well"),
        visits("ill", "dead", categories=["ill", "dead"]),
    ):
        with pytest.raises(DataError, match="in their order"):
            ps.forecast(posterior, read(other), horizon=1, num_samples=2)
    same = read(visits("ill", "well", categories=["dead", "ill", "well"]))
    assert ps.forecast(posterior, same, horizon=1, num_samples=2).samples.shape == (2, 1, 1, 3)
    turned = read(visits("ill", "well", categories=["well", "ill", "dead"]))
    assert torch.equal(turned.select(variables=train.labels.variables).values, same.values)
