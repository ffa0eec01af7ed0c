"""Models that keep the contract pass every check; each broken one fails the check made for its fault, and says so."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError
from pyro_seq.model import SequenceModel
from pyro_seq.testing import ModelCheckError, check_model
from pyro_seq.testing.checks import CHECKS, SLOW_CHECKS
from tests.support import Lines, RandomWalk, Walks, binary_series, real_series

NO_DEVICE = set() if torch.cuda.is_available() else {"device_follows_the_data"}


@pytest.mark.parametrize("model_class", [Lines, Walks])
@pytest.mark.parametrize("seed", [0, 1])
def test_good_models_pass_every_check(model_class: type[SequenceModel], seed: int) -> None:
    data = real_series() if model_class is Lines else binary_series()
    report = check_model(model_class(), data, seed=seed, slow=True)
    assert set(report.names("not applicable")) == NO_DEVICE
    assert len(report.names("passed")) == len(CHECKS + SLOW_CHECKS) - len(NO_DEVICE)


def test_good_model_passes_on_ragged_data_with_times_per_series() -> None:
    data = binary_series()
    mask = torch.arange(9) < torch.tensor([9, 5, 9, 7, 9, 2])[:, None]
    times = 1e9 + torch.rand(6, 9, generator=torch.Generator().manual_seed(1)).double().cumsum(-1)
    report = check_model(Walks(), Sequences(data.values, mask, times))
    assert set(report.names("not applicable")) == NO_DEVICE | {"shared_times_equal_repeated"}


def test_checks_leave_the_model_and_global_state_alone() -> None:
    model = Lines()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check_model(model, real_series())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


class NoBind(Lines):
    def bind(self) -> None:
        pass


class ExtraPlate(Lines):
    def prior_line(self, data: Sequences) -> Tensor:
        with pyro.plate("coefficients", 1, dim=-2):
            return pyro.sample("line", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))

    def guide_line(self, data: Sequences) -> Tensor:
        with pyro.plate("coefficients", 1, dim=-2):
            return super().guide_line(data)


class PaddingCounts(Lines):
    """The mean over all steps takes the zeros of hidden steps for observations."""

    def guide_line(self, data: Sequences) -> Tensor:
        loc, log_scale = self.encoder(data.values.mean(1).repeat(1, 5)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class NoValid(Walks):
    """The path does not know which steps exist, and the guide's padded steps are no longer the prior's."""

    def valid(self, data: Sequences) -> None:
        return None


class UnmaskedLikelihood(Lines):
    def model(self, data: Sequences) -> None:
        self.bind()
        drift = self.prior_drift(data)
        with self.series(data):
            path = self.path(self.prior_line(data), drift, data)
            seen = dist.Normal(self.emit(path[..., : data.num_steps, :]), 1.0).to_event(2)
            pyro.sample("x", seen, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", dist.Normal(self.emit(path[..., data.num_steps :, :]), 1.0).to_event(2))


class MasksStepsOnly(Lines):
    """Counts the zeros at single hidden entries of a step that was seen in part."""

    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        seen = emission(path[..., : data.num_steps, :]).to_event(1).mask(data.step_mask)
        pyro.sample("x", seen.to_event(1), obs=data.values)


class DividesByTheCount(Lines):
    """The mean over observed steps of a series without any is 0 / 0."""

    def guide_line(self, data: Sequences) -> Tensor:
        mean = data.values.sum(1) / data.step_mask.sum(-1, keepdim=True)
        loc, log_scale = self.encoder(mean.repeat(1, 5)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class BatchCentred(Lines):
    def guide_line(self, data: Sequences) -> Tensor:
        values = data.values[:, :5] - data.values[:, :5].mean(0)
        loc, log_scale = self.encoder(values.flatten(1)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class ForgetsTotal(Lines):
    def series(self, data: Sequences) -> pyro.plate:
        return pyro.plate("series", data.num_series, dim=-1)


class ScaledInside(Lines):
    def prior_line(self, data: Sequences) -> Tensor:
        with pyro.poutine.scale(scale=0.5):
            return super().prior_line(data)


class ScaledRegulariser(Lines):
    def regulariser(self, data: Sequences, model_trace: object, guide_trace: object) -> dict[str, Tensor]:
        return {"size": self.emit.weight.square().sum() * data.values.new_ones(data.num_series) * data.weight}


class BareZeros(Lines):
    def prior_line(self, data: Sequences) -> Tensor:
        return pyro.sample("line", dist.Normal(torch.zeros(2), 1.0).to_event(1).expand([data.num_series]))


class BareTimes(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return (line[..., :1] + (line[..., 1:] + drift) * data.times)[..., None]

    def model(self, data: Sequences) -> None:
        self.emit.to(torch.float64)
        super().model(data)


class HiddenNoise(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return super().path(line, drift, data) + 0.1 * torch.randn(())


class OwnGenerator(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        return super().path(line, drift, data) + torch.rand((), generator=generator)


class Reseeds(Lines):
    def guide_line(self, data: Sequences) -> Tensor:
        torch.manual_seed(0)
        return super().guide_line(data)


class ReseedsEmission(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        torch.manual_seed(0)
        return super().path(line, drift, data)


class UnusedParameter(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class GuideLacksSite(Lines):
    def guide_drift(self) -> Tensor:
        return self.drift_loc


class GlobalInPlate(Lines):
    """Weights that the model draws inside the plate become one set for each series."""

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            drift, line = self.prior_drift(data), self.prior_line(data)
            self.observe(lambda state: dist.Normal(self.emit(state), 1.0), self.path(line, drift, data), data)


class FirstDrawForAll(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return super().path(line, drift.reshape(-1)[0], data)


class NotObserved(Lines):
    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        pyro.sample("x", emission(path).to_event(2))


class OtherName(Lines):
    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        pyro.sample("y", emission(path[..., : data.num_steps, :]).to_event(2), obs=data.values)


class ShortForecast(Lines):
    def model_times(self, data: Sequences) -> Tensor:
        return super().model_times(data)[..., : data.num_steps + 1]


class ForecastSeesItsEnd(Lines):
    """Centres the path over all times, the horizon included."""

    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        path = super().path(line, drift, data)
        return path - path.mean(-2, keepdim=True)


class GuideReadsHorizon(Lines):
    def guide(self, data: Sequences) -> None:
        self.bind()
        self.guide_drift()
        with self.series(data):
            loc, log_scale = (self.encoder(data.values[:, :5].flatten(1)) + self.model_times(data)[-1]).chunk(2, -1)
            pyro.sample("line", dist.Normal(loc, log_scale.exp().clamp(max=1.0)).to_event(1))


class WrongDims(Lines):
    dims = {"line": ("series", "coefficient"), "drift": ("drift",)}  # noqa: RUF012


class MissingDims(Lines):
    dims = {"line": ("coefficient",)}  # noqa: RUF012


class RunningMean(Lines):
    """Keeps a number between calls that its `state_dict` does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 0.0

    def guide_line(self, data: Sequences) -> Tensor:
        if self.training:
            self.level = 0.9 * self.level + 0.1 * float(data.values[:, 0].max())
        loc, log_scale = self.encoder(data.values[:, :5].flatten(1)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc + self.level, log_scale.exp()).to_event(1))


class LooseTensor(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.noise_scale = torch.tensor(1.0)


class CountsWhileReading(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def guide_line(self, data: Sequences) -> Tensor:
        self.calls += 1
        return super().guide_line(data)


class SharedGridOnly(Lines):
    """Takes the spacing of the first rows of `times`, which are steps only when the times are shared."""

    def model_times(self, data: Sequences) -> Tensor:
        times = super().model_times(data)
        return times * (times[1] - times[0]).mean()


class BadFuture(RandomWalk):
    """Starts the future from zero, not from the last state."""

    def future(self, value: Tensor, horizon: int) -> RandomWalk:
        return RandomWalk(value.new_zeros((*value.shape[:-2], horizon, value.shape[-1])), self.scale)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> RandomWalk:
        return BadFuture(self.drift.expand((*batch_shape, *self.event_shape)), self.scale, self.valid)


class WalkStartsAnew(Walks):
    def prior(self, data: Sequences) -> RandomWalk:
        return BadFuture(data.values.new_zeros((*data.values.shape[:2], 1)), self.log_scale.exp(), self.valid(data))


class WideDraws(RandomWalk):
    """Draws twice as wide as its density says."""

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return 2.0 * super().rsample(sample_shape)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> RandomWalk:
        return WideDraws(self.drift.expand((*batch_shape, *self.event_shape)), self.scale, self.valid)


class SamplerOfAnotherLaw(Walks):
    def prior(self, data: Sequences) -> RandomWalk:
        return WideDraws(data.values.new_zeros((*data.values.shape[:2], 1)), self.log_scale.exp(), self.valid(data))


class NoObsShape(Lines):
    def __init__(self) -> None:
        super().__init__()
        del self.obs_shape


class ReversedEmission(Lines):
    """The right value with the gradient of its negative."""

    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        def reversed_emission(state: Tensor) -> dist.Normal:
            mean = emission(state).mean
            return dist.Normal(2.0 * mean.detach() - mean, 1.0)

        super().observe(reversed_emission, path, data)


BROKEN: list[tuple[type[SequenceModel], str, str]] = [
    (NoBind, "plain_pyro_trains", "self.bind()"),
    (ExtraPlate, "series_is_the_only_plate", "'coefficients'"),
    (PaddingCounts, "hiding_equals_cutting", "padding"),
    (NoValid, "hiding_equals_cutting", "`valid`"),
    (UnmaskedLikelihood, "hidden_steps_are_ignored", "self.observe"),
    (MasksStepsOnly, "hidden_entries_are_ignored", "self.observe"),
    (DividesByTheCount, "unseen_series_is_finite", ""),
    (BatchCentred, "series_are_independent", "'line'"),
    (BatchCentred, "minibatches_partition", "'line'"),
    (ForgetsTotal, "minibatches_partition", "self.series(data)"),
    (ForgetsTotal, "terms_are_unweighted", "self.series(data)"),
    (ScaledInside, "terms_are_unweighted", "'line'"),
    (ScaledRegulariser, "minibatches_partition", "'size'"),
    (BareZeros, "prior_can_be_sampled", "float"),
    (BareTimes, "dtype_follows_the_data", "float64"),
    (HiddenNoise, "randomness_lives_in_sites", "sample sites only"),
    (OwnGenerator, "seeds_decide_the_draw", "generators"),
    (Reseeds, "seeds_decide_the_draw", "torch.manual_seed"),
    (ReseedsEmission, "seeds_decide_the_draw", "'x_future'"),
    (UnusedParameter, "parameters_get_gradients", "spare.weight"),
    (UnusedParameter, "training_lowers_the_objective", "spare.weight"),
    (GuideLacksSite, "sites_match", "['drift']"),
    (GlobalInPlate, "sites_match", "'drift'"),
    (FirstDrawForAll, "draws_vectorise", "squeeze"),
    (NotObserved, "x_is_observed", "obs=data.values"),
    (OtherName, "x_is_observed", "no site 'x'"),
    (ShortForecast, "forecasts_have_the_horizon", "data.times"),
    (ForecastSeesItsEnd, "longer_horizons_keep_the_beginning", "earlier steps only"),
    (ForecastSeesItsEnd, "hiding_equals_cutting", "'x'"),
    (GuideReadsHorizon, "guide_ignores_the_horizon", "data.seen()"),
    (WrongDims, "dims_name_every_latent", "'line'"),
    (MissingDims, "dims_name_every_latent", "'drift'"),
    (RunningMean, "state_dict_is_complete", "parameters and buffers"),
    (LooseTensor, "state_dict_is_complete", "noise_scale"),
    (CountsWhileReading, "no_global_state_is_touched", "state_dict of the model"),
    (SharedGridOnly, "shared_times_equal_repeated", "model_times"),
    (WalkStartsAnew, "horizon_continues_the_series", "`future`"),
    (SamplerOfAnotherLaw, "density_matches_sampler", "another"),
    (NoObsShape, "errors_name_the_argument", "self.obs_shape"),
    (ReversedEmission, "training_lowers_the_objective", "sign"),
]


@pytest.mark.parametrize(("model_class", "check", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_each_broken_model_fails_its_check(model_class: type[SequenceModel], check: str, words: str) -> None:
    data = binary_series() if issubclass(model_class, Walks) else real_series()
    with pytest.raises(ModelCheckError) as error:
        check_model(model_class(), data, only=[check])
    assert error.value.report.names("failed") == (check,)
    assert f"{check}: " in str(error.value) and model_class.__name__ in str(error.value)
    assert words in str(error.value)


def test_report_lists_every_check_and_groups_one_cause() -> None:
    class Crashes(Lines):
        def model(self, data: Sequences) -> None:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(ModelCheckError, match="on purpose") as error:
        check_model(Crashes(), real_series())
    report = error.value.report
    assert len(report.results) == len(CHECKS) == len(str(report).splitlines())
    assert str(error.value).count("on purpose") == 1
    assert isinstance(error.value, PyroSeqError) and isinstance(error.value, AssertionError)


def test_conditional_model_needs_no_prior() -> None:
    class Conditional(Lines):
        is_conditional = True

    report = check_model(Conditional(), real_series(), slow=True)
    needs_prior = {"unseen_series_is_finite", "prior_can_be_sampled", "density_matches_sampler"}
    assert set(report.names("not applicable")) == NO_DEVICE | needs_prior


def test_bad_arguments_are_named() -> None:
    with pytest.raises(DataError, match=r"`data`.*at least 3 series"):
        check_model(Lines(), real_series(2))
    with pytest.raises(DataError, match="without a horizon"):
        check_model(Lines(), real_series().extend(horizon=1))
    with pytest.raises(DataError, match=r"`only`.*'no_such'"):
        check_model(Lines(), real_series(), only=["no_such"])


def test_every_check_says_what_it_tests() -> None:
    assert all(check.__doc__ for check in CHECKS + SLOW_CHECKS)
    names = [check.__name__ for check in CHECKS + SLOW_CHECKS]
    untested = set(names) - {check for _, check, _ in BROKEN}
    assert untested <= {"imputation_keeps_the_seen", "device_follows_the_data"}
