"""``Posterior``: a fitted model with draws of its latents, and ``Prediction``: the result of the verbs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._arguments import real_number, require
from pyro_seq._random import isolated_rng
from pyro_seq.data import Labels, Sequences, _frames, _pictures
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import DataError, shape_text
from pyro_seq.model import SequenceModel, is_latent, local_parameters, over_samples

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    r"""Predictive draws.

    Attributes:
        samples: Draws of observations, noise included, (sample, series, time, \*obs).
        emission_means: Mean of the emission given each latent draw, (sample, series, time, \*obs).
        latents: Latent sites, (sample, series, \*event), or (sample, \*event) for global ones.
        times: Time stamps of the predicted steps, (time,) or (series, time).
        labels: Names of series and variables in the data.
        calendar: How dates are counted in `times`; None if these are numbers.
    """

    samples: Tensor
    emission_means: Tensor
    latents: Mapping[str, Tensor]
    times: Tensor
    labels: Labels = Labels()
    calendar: Calendar | None = None

    def __repr__(self) -> str:
        sizes = shape_text(self.samples, ("sample", "series", "time"))
        latents = f", latents {', '.join(self.latents)}" if self.latents else ""
        return f"Prediction({sizes}{latents})"

    @property
    def mean(self) -> Tensor:
        r"""Predictive mean, (series, time, \*obs); for one-hot classes their probabilities."""
        return self.emission_means.mean(0)

    def quantile(self, levels: float | list[float]) -> Tensor:
        r"""Quantiles of `samples` over draws: (series, time, \*obs), or with a leading axis for a list of levels."""
        try:
            wanted = torch.as_tensor(levels, dtype=self.samples.dtype, device=self.samples.device)
            are_shares = bool(((wanted >= 0) & (wanted <= 1)).all())
        except (TypeError, ValueError, RuntimeError):
            are_shares = False
        require(are_shares, "levels", "numbers from 0 to 1", levels)
        return torch.quantile(self.samples, wanted, dim=0)

    def interval(self, probability: float = 0.9) -> tuple[Tensor, Tensor]:
        r"""Lower and upper ends of the central interval with this share of the draws, (series, time, \*obs) each."""
        share = real_number(probability, "probability", 0.0, 1.0)
        lower, upper = self.quantile([(1.0 - share) / 2.0, (1.0 + share) / 2.0])
        return lower, upper

    def to_dataframe(self, interval: float = 0.9, *, has_draws: bool = False) -> pd.DataFrame:
        """A long table: one row per series, time and variable, sorted in this order.

        Args:
            interval: Share of the draws between `lower` and `upper`.
            has_draws: Add the draws as columns ``draw_0``, ``draw_1``, ...

        Returns:
            Columns ``series``, ``time``, ``variable``, ``mean`` (of the emission), ``median``, ``lower`` and ``upper``.
            Series and variables have the labels of the data; times are dates if the data have dates.

        Example:
            >>> forecast(posterior, data, horizon=3).to_dataframe()  # doctest: +SKIP
        """
        require(isinstance(has_draws, bool), "has_draws", "True or False", has_draws)
        lower, upper = self.interval(interval)
        columns = {"mean": self.mean, "median": self.quantile(0.5), "lower": lower, "upper": upper}
        columns |= {f"draw_{number}": draw for number, draw in enumerate(self.samples)} if has_draws else {}
        return _frames.long_table(columns, self.times, self.labels, self.calendar)

    def to_xarray(self) -> xr.Dataset:
        r"""`samples` and `emission_means` as arrays (sample, series, time, variable), labelled as in `to_dataframe`.

        Images have the axes row and column instead of variable. Times that differ between series are a coordinate
        ``time_stamp`` (series, time). Dates with a time zone are in UTC, and the attribute ``time_zone`` names it.
        """
        arrays = {"samples": self.samples, "emission_means": self.emission_means}
        return _frames.labelled(arrays, self.times, self.labels, self.calendar)

    def plot(
        self,
        data: Sequences | None = None,
        *,
        series: Sequence[int | str] | None = None,
        variables: Sequence[int | str] | None = None,
    ) -> Figure:
        """One figure, with one row per series and one column per variable: median and central 50 and 90 % intervals.

        Args:
            data: The same series with their observations. A prediction that begins with the data shows dots throughout;
                otherwise dots mark observations before it begins, and rings on a shaded background those after. Pass
                the complete data to compare with the truth.
            series: Names or numbers; the first three by default.
            variables: Names or numbers of entries of the flattened observation; the first four by default.

        Returns:
            The figure, shown by notebooks; save it with ``figure.savefig(path)``.

        Raises:
            ShapeError: When series or observations of `data` do not match.
            DataError: When a name or a number is unknown.

        Example:
            >>> forecast(posterior, data, horizon=12).plot(data, variables=["pulse"])  # doctest: +SKIP
        """
        return _pictures.plot_prediction(self.samples, self.times, self.labels, self.calendar, data, series, variables)

    def _repr_html_(self) -> str:
        return _frames.as_html(self, self._beginning() if self.samples.ndim == 4 else None)

    def _beginning(self) -> Prediction:
        """The first steps of the first series, for a preview."""
        samples, means, times = self.samples[:, :1, :5], self.emission_means[:, :1, :5], self.times[..., :5]
        labels = self.labels.of_series(slice(1))
        return replace(
            self, samples=samples, emission_means=means, times=times[:1] if times.ndim == 2 else times, labels=labels
        )


class Posterior(Protocol):
    """A model together with a way to draw its latents given data."""

    model: SequenceModel

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""Latent sites given ``data.seen()``: (sample, series, \*event), global ones (sample, 1, \*event)."""
        ...


@dataclass(eq=False, repr=False)
class GuidePosterior:
    """Amortised posterior: draws come from the model's guide, for any data.

    Attributes:
        model: The trained model.
        history: Logged figures by name, one entry per logged step; ``step`` holds the step numbers.
        status: ``"completed"``, ``"interrupted"`` or ``"stopped early"``.
        has_met_gaps: Whether training included series with hidden steps, in the data or through views; True when
            unknown.
    """

    model: SequenceModel
    history: dict[str, list[float]] = field(default_factory=dict)
    status: str = "completed"
    has_met_gaps: bool = True

    def __repr__(self) -> str:
        return in_short(self, self.status, history_text(self.history))

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""Latent sites given ``data.seen()``: (sample, series, \*event), global ones (sample, 1, \*event)."""
        with prediction_context(self.model), isolated_rng(seed):
            guide = over_samples(self.model.guide, num_samples)
            trace = poutine.trace(guide).get_trace(data.seen())
        return {name: site["value"] for name, site in trace.nodes.items() if is_latent(site)}


@dataclass(eq=False, repr=False)
class StoredPosterior:
    """Draws from MCMC; draws of per-series latents exist for the fitted series only.

    Attributes:
        model: The model that was sampled.
        data: The fitted series.
        sites: Stored draws (chain, draw, ...) by site; per-series sites have the series axis third.
        global_sites: Names of the sites that are shared by all series.
        sample_stats: Sampler diagnostics by name, (chain, draw), or (chain, draw, series) for separate values per
            series.
    """

    model: SequenceModel
    data: Sequences
    sites: dict[str, Tensor]
    global_sites: frozenset[str] = frozenset()
    sample_stats: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        chains, draws = next(iter(self.sites.values())).shape[:2]
        return in_short(self, f"(chain {chains}, draw {draws})", f"sites {', '.join(self.sites)}", repr(self.data))

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""Stored draws, `num_samples` of them: (sample, series, \*event), global ones (sample, 1, \*event).

        Draws are thinned evenly; if more are requested than stored, they are resampled with replacement. `data` may be
        a subset of the fitted series, in any order, and on another device; the draws are then on that device.

        Raises:
            DataError: When `data` are not among the fitted series, with equal values, mask, times and inputs; not if
                all sites are shared by all series.
        """
        has_local = bool(self.sites.keys() - self.global_sites)
        series = _places(data.seen(), self.data.seen()) if has_local else []
        stored = next(iter(self.sites.values())).shape[:2].numel()
        if num_samples <= stored:
            chosen = torch.linspace(0, stored - 1, num_samples).round().long()
        else:
            chosen = torch.randint(stored, (num_samples,), generator=torch.Generator().manual_seed(seed))
        flat = {name: value.flatten(0, 1)[chosen].to(data.device) for name, value in self.sites.items()}
        return {name: value[:, None] if name in self.global_sites else value[:, series] for name, value in flat.items()}


@dataclass(eq=False, repr=False)
class PointPosterior:
    r"""One value of each latent: for any data if all series share all latents, otherwise for the fitted series only.

    Attributes:
        model: The model.
        sites: The values by site, (\*event), or (series, \*event) for latents of single series.
        history: Figures of the search by name, one entry per step.
        data: The fitted series, if there are latents of single series.
        own_sites: Names of the sites that belong to single series.
    """

    model: SequenceModel
    sites: dict[str, Tensor]
    history: dict[str, list[float]] = field(default_factory=dict)
    data: Sequences | None = None
    own_sites: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return in_short(self, f"sites {', '.join(self.sites)}", history_text(self.history))

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""The value, repeated: (sample, 1, \*event), or (sample, series, \*event) for latents of single series.

        Raises:
            DataError: When there are latents of single series and `data` are not among the fitted series.
        """
        series = _places(data.seen(), self.data.seen()) if self.own_sites and self.data is not None else []
        found = {name: value.to(data.device) for name, value in self.sites.items()}
        found = {name: value[series] if name in self.own_sites else value[None] for name, value in found.items()}
        return {name: value.expand(num_samples, *value.shape) for name, value in found.items()}


def in_short(posterior: Posterior, *texts: str) -> str:
    """The classes of a posterior and its model, and further texts, in one line."""
    return f"{type(posterior).__name__}({', '.join([type(posterior.model).__name__, *filter(None, texts)])})"


def history_text(history: Mapping[str, list[float]]) -> str:
    """Names of the logged figures, and the length of the longest."""
    return f"history of {max(map(len, history.values()))} entries: {', '.join(history)}" if history else ""


def _places(data: Sequences, fitted: Sequences) -> list[int]:
    """For each series of `data`, its number among the fitted series."""
    number = {identity: number for number, identity in enumerate(_identities(fitted))}
    found = [number.get(identity) for identity in _identities(data)]
    if None in found:
        raise DataError(
            "`data` must be series that were fitted, the same in values, mask, times and inputs: what MCMC and `Mode` "
            f"find of latents of single series says nothing about others. Series {found.index(None)} is not among "
            f"them. Got {data!r} for a posterior of {fitted!r}. Extend the fitted data, or fit with a guide."
        )
    return [place for place in found if place is not None]


def _identities(data: Sequences) -> list[tuple[bytes, int]]:
    """For each series, a digest of its observations and the number of identical earlier series."""
    parts = [data.values + 0.0, data.entry_mask, data.times.expand(len(data), -1)]  # + 0.0 makes zeros of -0.0
    parts += [] if data.inputs is None else [data.inputs + 0.0]
    earlier: Counter[bytes] = Counter()
    identities = []
    for series in zip(*(part.cpu().numpy() for part in parts), strict=True):
        digest = hashlib.sha256(repr([part.shape for part in series]).encode())
        for part in series:
            digest.update(part.tobytes())
        key = digest.digest()
        identities.append((key, earlier[key]))
        earlier[key] += 1
    return identities


@contextmanager
def evaluation_mode(model: SequenceModel) -> Iterator[None]:
    """Evaluation mode, with parameters local to the module; the modes of all parts are restored at the end."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with local_parameters():
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def prediction_context(model: SequenceModel) -> Iterator[None]:
    """Run a model for reading: no gradients, evaluation mode, parameters local to the module."""
    with torch.no_grad(), evaluation_mode(model):
        yield


@contextmanager
def reading(model: SequenceModel) -> Iterator[None]:
    """Freeze the parameters and switch to evaluation mode; gradients with respect to latents stay on."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        with evaluation_mode(model):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
