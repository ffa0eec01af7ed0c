"""``SequenceModel``: the base class of models and its contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn, Protocol, runtime_checkable

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyro_seq._asked import is_horizon_alone
from pyro_seq._host import in_both, on_host
from pyro_seq._plain_pyro import warn_of_plain_training
from pyro_seq._process import process_state
from pyro_seq.data import Labels, Sequences
from pyro_seq.distributions import PathDistribution
from pyro_seq.errors import DataError, ShapeError, UnsupportedError, shape_text
from pyro_seq.nn.exposure import under_raw_inputs
from pyro_seq.nn.seen_range import SeenRange
from pyro_seq.ops import _time_unit
from pyro_seq.ops._time_unit import EVEN, are_even, rounding, since_start, typical_step


@runtime_checkable
class _Checks(Protocol):
    def check(self, data: Sequences) -> None: ...


@runtime_checkable
class _Adapts(Protocol):
    def adapt(self, data: Sequences) -> None: ...


class SequenceModel(nn.Module):
    """Base class of every model: implement `model(data)`, `guide(data)` and `dims`, and all verbs and methods work.

    The generic verbs rely on these rules, which `pyro_seq.testing.check_model` tests:

    * The observation site is ``x`` (written by `observe`), its continuation ``x_future``.
    * ``series`` is the only plate (`series`), and global latents are sampled above it, each as one flat site.
    * A random path is one site with time in its event (`sample_path`); a path that is a deterministic function of an
      initial state is a ``pyro.deterministic`` over all of ``data.times``.
    * `data.times` longer than `data.values` means a horizon; guides run on ``data.seen()``.
    * Both methods begin with ``self.bind()``, so that plain ``pyro.infer.SVI`` trains the model too.

    Attributes:
        dims: Names of the event axes of each latent site, for labelled posteriors.
        is_conditional: True for a model that needs seen frames and therefore cannot be sampled from its prior alone.
        has_even_times: True for a model that counts steps and therefore refuses uneven times.
        has_inputs: True for a model that reads ``data.inputs``; others refuse them.
        needs_steps: False for a model that also takes data without any seen step.
        has_guide: False for a model, or one built from parts, that has no guide and is inferred by chains alone.
        renamed_parts: Parts whose names have changed, ``{"old.": "new."}``, so that earlier files still load.
        time_scale: Time stamps per unit of model time (buffer), set by `adapt`: the typical step of training.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {}
    is_conditional: bool = False
    has_even_times: ClassVar[bool] = False
    has_inputs: bool = False
    needs_steps: ClassVar[bool] = True
    has_guide: bool = True
    renamed_parts: ClassVar[dict[str, str]] = {}
    time_scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("time_scale", torch.ones((), dtype=torch.float64))
        self._seen = SeenRange()
        self._has_units = self._has_time_unit = False
        self._told: set[str] = set()  # warnings that were given
        self.register_load_state_dict_post_hook(_knows_units)

    # ------------------------------------------------------------------ written by the author

    def model(self, data: Sequences) -> None:
        """Generative process: sample every latent site, then `observe`."""
        raise NotImplementedError(f"{type(self).__name__} must define `model(self, data)`.")

    def guide(self, data: Sequences) -> None:
        """Approximate posterior: sample the same latent sites given ``data.seen()``."""
        raise NotImplementedError(f"{type(self).__name__} must define `guide(self, data)`.")

    def check(self, data: Sequences) -> None:
        """Raise if this model cannot use the data; every verb calls it first. Extend it with ``super()``.

        Parts with a method ``check(data)``, such as emissions, check the data too.
        """
        if (expected := getattr(self, "obs_shape", data.obs_shape)) is not None and tuple(expected) != data.obs_shape:
            raise ShapeError(
                f"`data.values` must have observations of shape {tuple(expected)}, the `obs_shape` of this "
                f"{type(self).__name__}. Got {shape_text(data.values, ('series', 'time'))}. Check the axes."
            )
        if data.inputs is not None and not self.has_inputs:
            raise UnsupportedError(f"`data.inputs` is given, but {type(self).__name__} has no inputs. Leave them out.")
        if data.num_steps == 0 and self.needs_steps:
            raise DataError(
                f"`data` must have at least one seen step, from which {type(self).__name__} infers its latents. Got 0."
            )
        gaps = data.times.diff(dim=-1)
        if self.has_even_times and not are_even(gaps, data.times):
            _refuse_uneven(type(self).__name__, gaps)
        for part in self.children():
            if isinstance(part, _Checks):
                part.check(data)

    def adapt(self, data: Sequences) -> None:
        """Take units from `data`: the typical time step, and those of the parts. `fit` calls it once, by `take_units`.

        Parts with a method ``adapt(data)``, such as encoders and emissions, take units too.
        """
        self._take_time(data)
        for part in self.children():
            if isinstance(part, _Adapts):
                part.adapt(data)

    @property
    def counts_steps(self) -> bool:
        """Whether steps must be as long as in training."""
        return self.has_even_times

    @property
    def reads_series(self) -> bool:
        """Whether the guide reads many steps at once and so must learn to cope with gaps; False if step by step."""
        return True

    @property
    def sites_without_mode(self) -> tuple[str, ...]:
        """Latents that scale other latents: the joint density of both has no meaningful mode."""
        return ()

    @property
    def has_dreams(self) -> bool:
        """Whether a guide may learn from draws: they resemble data, and it reads more than single frames."""
        return self.reads_series and not self.is_conditional

    @property
    def labels(self) -> Labels:
        """Names of variables and inputs in training, if they had any."""
        return self._seen.names.labels

    def take_units(self, data: Sequences, *, again: bool = False) -> None:
        """`adapt` to `data`, unless the model has units already: weights trained in some units are useless in others.

        A model has units once it was fitted or its weights were loaded. `again` takes new units.
        """
        self._seen.take_names(data.labels, again=again)
        if again or not self._has_units:
            self.adapt(data)
            self._has_units = True
        elif not self._has_time_unit:
            self._take_time(data)

    def _take_time(self, data: Sequences) -> None:
        """Set the time unit: the median step, or 1/16 of the mean if longer; single steps leave it to a later fit.

        Steps of one unit, plus one per interval, then number at most 17 per interval on average.
        """
        if data.times.shape[-1] > 1:
            gaps = data.times.diff(dim=-1)
            _time_unit.warn_of_bursts(gaps)
            self.time_scale.fill_(typical_step(gaps))
            self._has_time_unit = True

    def check_units(self, data: Sequences) -> None:
        """If steps are not as long as in training, raise if the model counts steps, otherwise warn; verbs call it.

        Raises:
            DataError: With both lengths and a remedy.
        """
        if not self._has_time_unit or data.num_steps < 2:
            return
        gaps = data.seen().times.diff(dim=-1)
        step, known = float(gaps.mean()), float(self.time_scale)
        if not self.counts_steps:
            _time_unit.warn_of_other_unit(gaps, known)
        elif abs(step - known) > EVEN * known + 2 * rounding(data.times):
            raise DataError(
                f"`data.times` must have steps of {known:g}, as the training data had: {type(self).__name__} counts "
                f"steps. Got steps of {step:g}. Convert the time stamps to the unit of training, put the series on its "
                f"grid, `data.on_grid({known:g})`, or train on such data: `fit(..., readapt=True)`."
            )

    def check_range(self, data: Sequences) -> None:
        """Warn if values or inputs lie far outside the training range; verbs that use them call it.

        Warns:
            UserWarning: With both ranges and a remedy.
        """
        self._seen.warn_of_far(data)

    def training_view(self, data: Sequences, generator: torch.Generator) -> Sequences:
        """A random view of a minibatch for one training step; randomness lives here, never inside `model`."""
        return data

    def prepare(self, data: Sequences) -> Sequences:
        """The same data, with quantities that both `model` and `guide` need computed once and stored in ``context``.

        Methods and verbs call it first, but plain Pyro does not: `model` and `guide` must compute missing quantities.
        """
        return data

    def regulariser(self, data: Sequences, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[str, Tensor]:
        """Named training terms that are not log densities, (..., series) each, at the same draw; for SVI only."""
        return {}

    def integrated_out(self, data: Sequences, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws of latents that `model` integrates out, given draws of the others; predictions carry them along."""
        return {}

    def numbers_per_entry(self, draws: Mapping[str, Tensor]) -> int:
        """Approximate count of numbers per draw and entry in a prediction, from which verbs choose their chunk size."""
        return 1

    def marginal(self, data: Sequences, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Law of the seen steps given draws (sample, 1, event) of latents shared by all series, for `start_filter`.

        It is the distribution of `model` at ``x``, batch (sample, series). Override it for closed forms.

        Raises:
            UnsupportedError: When `model` draws latents of single series.
        """
        num_samples = max((len(value) for value in latents.values()), default=1)
        program = over_samples(poutine.condition(self.model, data=dict(latents)), num_samples)
        trace = poutine.trace(program).get_trace(data.seen())
        local = [name for name, site in trace.nodes.items() if is_latent(site) and is_local(site)]
        if local:
            raise UnsupportedError(
                f"{type(self).__name__} draws latents of single series, {local}, and its observations have no law "
                "without them. It predicts from what was seen so far by `forecast`, and in gaps by "
                "`impute(is_causal=True)`."
            )
        return trace.nodes["x"]["fn"]

    def coords(self, data: Sequences) -> dict[str, list]:
        """Labels along the axes named in `dims`, such as the names of the states; counted 0, 1, 2, ... by default."""
        return {}

    # ------------------------------------------------------------------ used by the author

    def bind(self) -> None:
        """Register the parameters in Pyro's global store when the model is trained outside of `fit`.

        Inside the library, parameters stay local to the module and this does nothing.
        """
        if pyro.settings.get("module_local_params"):
            return
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                pyro.param(f"{type(self).__name__}.{id(self)}.{name}", parameter)

    def series(self, data: Sequences) -> pyro.plate:
        """The plate over independent series, scaled for minibatches; warns if plain Pyro trains less than `fit`."""
        warn_of_plain_training(self, data)
        return pyro.plate("series", data.total, subsample=data.index, dim=-1)

    def valid(self, data: Sequences) -> Tensor:
        """True up to the last observed step, (series, time): the steps scored by path distributions."""
        steps = data.num_steps
        return in_both(lambda lengths: torch.arange(steps, device=lengths.device) < lengths[:, None], data.lengths)

    def model_times(self, data: Sequences) -> Tensor:
        """Time since each series' first step in units of `time_scale`, (time,) or (series, time), as `data.dtype`."""
        return self.exact_times(data).to(data.dtype)

    def exact_times(self, data: Sequences) -> Tensor:
        """`model_times` in double precision, for solvers and gaps: form differences first and convert those.

        Single precision cannot separate close times far from the start.
        """
        return in_both(since_start, data.times, self.time_scale)

    def model_gaps(self, data: Sequences) -> Tensor:
        """Time from each step's predecessor in units of `time_scale`, 0 at the first, shaped as `model_times`."""
        times = self.exact_times(data)
        return times.diff(dim=-1, prepend=times[..., :1]).to(data.dtype)

    def sample_path(self, name: str, path: PathDistribution, data: Sequences) -> Tensor:
        """Sample a random path as one site, and its continuation over the horizon as a second, ``<name>_future``."""
        value = pyro.sample(name, path)
        if not data.horizon:
            return value
        future = pyro.sample(f"{name}_future", path.future(value, data.horizon))
        return torch.cat([value.expand(future.shape[:-2] + value.shape[-2:]), future], -2)

    def observe(self, emission: Callable[[Tensor], TorchDistribution], path: Tensor, data: Sequences) -> None:
        r"""Observe the seen steps of `path` at site ``x``; sample the horizon at ``x_future``.

        Args:
            emission: Maps states (..., series, time, dim) to a distribution of observations with batch shape
                (..., series, time, \*obs), or (..., series, time) with the observation as its event.
            path: States at all of ``data.times``, (..., series, time, dim).
            data: The data; its mask says which entries are scored.
        """
        steps = data.num_steps
        if steps and not (data.horizon and is_horizon_alone()):
            seen = under_raw_inputs(self, emission(path[..., :steps, :]), data, slice(steps))
            pyro.sample("x", _over_time(seen, data, masked=True), obs=data.values, infer=_drawn_from(seen, data))
        if data.horizon:
            future = under_raw_inputs(self, emission(path[..., steps:, :]), data, slice(steps, None))
            pyro.sample("x_future", _over_time(future, data, masked=False), infer=_drawn_from(future, data))


def _knows_units(model: SequenceModel, _: Any) -> None:
    """Loaded weights bring the units that they were trained in."""
    model._has_units = model._has_time_unit = True


def _refuse_uneven(name: str, gaps: Tensor) -> NoReturn:
    """Raise an error that says which times a model that counts steps needs."""
    raise DataError(
        f"`data.times` must be evenly spaced, with the same step in all series: {name} counts "
        f"steps. Got steps from {float(gaps.min()):g} to {float(gaps.max()):g}. Put the frames on an even grid "
        "with hidden steps between them: `data.on_grid(step)`, or `Sequences.from_dataframe(..., freq=...)` "
        "with months, business days and days on which clocks change. Or use a model in continuous time: "
        "`ODE2VAE`, or `KalmanVAE` with `ContinuousDynamics`."
    )


def _over_time(emission: TorchDistribution, data: Sequences, masked: bool) -> TorchDistribution:
    """Move time and the observation axes into the event, and apply the mask."""
    obs_dim = len(data.obs_shape)
    if masked and not bool(on_host(data.mask).all()):
        if emission.event_dim == 0:
            emission = emission.mask(data.entry_mask)
        elif data.mask.ndim == 2 and emission.event_dim == obs_dim:
            emission = emission.mask(data.mask)
        else:
            raise UnsupportedError(
                f"`mask` hides single entries, but the emission {type(emission).__name__} scores whole observations "
                f"(event {tuple(emission.event_shape)}). Mask whole steps, or use an emission with independent entries."
            )
    return emission.to_event(1 + obs_dim - emission.event_dim)


def _drawn_from(emission: TorchDistribution, data: Sequences) -> dict[str, Any]:
    """The distribution for verbs to draw from, if it differs from the one that scores the site."""
    if not hasattr(emission, "predictive"):
        return {}
    return {"predictive": lambda: _over_time(emission.predictive(), data, masked=False)}


@contextmanager
def local_parameters() -> Iterator[None]:
    """Run models with parameters local to their modules, instead of in Pyro's global store."""
    with process_state(), pyro.settings.context(module_local_params=True):
        yield


def is_latent(site: Mapping[str, Any]) -> bool:
    """True for a site of a trace that was sampled: neither observed, nor deterministic, nor the plate's own."""
    return site["type"] == "sample" and not site["is_observed"] and not site_is_subsample(site)


def is_random(site: Mapping[str, Any]) -> bool:
    """True for a site of a trace with a density: sampled or observed, neither deterministic nor the plate's own."""
    return site["type"] == "sample" and not site_is_subsample(site) and not site["infer"].get("_deterministic")


def is_local(site: Mapping[str, Any]) -> bool:
    """True for a site of a trace, or a message, inside the plate ``series``; other sites are shared by all series."""
    return any(frame.name == "series" for frame in site["cond_indep_stack"])


def over_samples(program: Callable[..., Any], num_samples: int) -> Callable[..., Any]:
    """A model or guide that draws everything `num_samples` times, along a new axis to the left of the series."""
    return pyro.plate("samples", num_samples, dim=-2)(program)


def series_log_prob(model: SequenceModel, data: Sequences, values: dict[str, Tensor]) -> Tensor:
    """Log density of each series, (..., series): its latents in `values` and its observations, not scaled by `total`.

    One vectorised trace; global sites must be among `values` but are not counted.

    Args:
        model: The model whose `model` method is scored.
        data: Series to score.
        values: Latent sites, (..., series, event) each; leading axes are independent chains or samples.
    """
    conditioned = poutine.condition(model.model, data=values)
    with local_parameters():
        trace = poutine.trace(conditioned).get_trace(data)
    return data.values.new_zeros(data.num_series) + local_log_prob(trace)


def local_log_prob(trace: poutine.Trace) -> Tensor | float:
    """Log density of what a trace drew for each series, (..., series), observations included; 0 if it drew nothing."""
    total: Tensor | float = 0.0
    for site in trace.nodes.values():
        if is_random(site) and is_local(site):
            # a site's recorded log_prob contains total / num_series, the distribution's own does not
            total = total + site["fn"].log_prob(site["value"])
    return total
