"""SRVP: videos from a latent state that changes by small random residuals, and from constant content."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._arguments import axis_sizes, whole_number
from pyro_seq._host import in_both, on_host
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.residual_chain import ResidualChain
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.model import SequenceModel
from pyro_seq.nn._frame_grid import frame_length, frame_position, require_frame_grid
from pyro_seq.nn.chain_encoder import ChainEncoder
from pyro_seq.nn.content import Content, last_frames, random_frames
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.nn.emission import Emission, PixelEmission
from pyro_seq.nn.frame import give_decoder
from pyro_seq.nn.image_coding import Architecture, encoded_frames
from pyro_seq.nn.informed import informed
from pyro_seq.nn.initial_prior import InitialPrior, StandardNormal
from pyro_seq.nn.known_inputs import KnownInputs
from pyro_seq.nn.transition import NoisePrior, ResidualTransition, Transition
from pyro_seq.ops._time_unit import EVEN, rounding
from pyro_seq.posterior import prediction_context

_DECODED = 32  # frames decoded at a time when predicting; they fit in the cache of a core


@rebuildable
class SRVP(SequenceModel):
    r"""Videos from a latent state that moves by residuals, with noise drawn once per frame, and from constant content.

    Generative model::

        initial             ~ Normal(0, I), or `initial_prior`      state of the first frame
        noise_t | states    ~ Normal(noise_prior(states_t-1))       drawn once a frame
        states_t            = Euler steps of size 1 / num_substeps from states_t-1, under noise_t
        x_t | states_t      ~ emission(decoder(content, states_t))   Normal around its sigmoid
        content             = a function of num_frames frames in any order

    Guide::

        initial | x         ~ Normal(encoder(x_1 ... x_num_frames))
        noise_t | x         ~ Normal(encoder(x_1 ... x_t))          where frame t is seen, from the past alone
        noise_t | states    ~ Normal(noise_prior(states_t-1))       where it is hidden

    Symbols of the paper: y_t a row of `states`, y_1 `initial`, z_t a row of `noise`, w the content, f
    ``transition.velocity``, the Euler step 1 / `num_substeps`, k `num_frames`.

    The model continues given videos: the content is computed from frames, random frames of a clip in training and the
    last seen frames in predictions. With `content_dim` = 0 and no skips it models whole videos and can be sampled. The
    first row of `noise` does not lead to a frame and is standard normal.

    Frames must be evenly spaced, with missing frames hidden; `Sequences.on_grid` arranges that. Forecast times may be
    closer, on the grid of Euler steps. The attribute `forecast_substeps`, by default `num_substeps`, is the number of
    Euler steps per frame in forecasts: with 4, a forecast is available at twice or four times the frame rate. States of
    seen frames keep the step size of training.

    The paper's residuals are unbounded: far beyond the training lengths a state may become non-finite, which raises a
    `NumericalError` with the series and the time. With a `GRUTransition` no entry of a state grows beyond 1 or its
    start.

    In the objective, ``initial`` and ``noise`` are divergences in closed form given the states, and `residual` is the
    sum of the norms of the residuals; weight them with ``SVI(scales={"noise": 2.0, "residual": 1.0})``.

    Args:
        obs_shape: (channel, height, width) of a frame.
        state_dim: Size of the state.
        noise_dim: Size of the noise; with 0 the future is a function of the first state.
        content_dim: Size of the content; 0 for a model without content.
        num_frames: Number of frames from which the first state, and the content, is computed.
        hidden_dim: Width of the layers of transition and noise prior; the encoder's are half as wide.
        num_substeps: Euler steps per frame, in training and for the seen frames.
        architecture: Makes the encoder and the default decoder of frames: `DCGAN` (default) or `VGG`.
        transition: How the state moves; a `ResidualTransition` by default. If it has an `input_dim`, known inputs,
            ``data.inputs`` of the frame that it moves to, drive it, and the default encoder reads them too.
        initial_prior: Prior of the first state: `StandardNormal` by default, `LearnedNormal` or an `EnergyTilt`.
        encoder: First state and noise from codes of frames; a `ChainEncoder` by default.
        emission: Likelihood; `PixelEmission` by default, for frames in [0, 1]. Its decoder maps content and state,
            `content_dim` + `state_dim` entries; if it has none, it gets the architecture's.

    Raises:
        DataError: When a size is not positive, or sizes of the parts do not match.
        ShapeError: When `obs_shape` cannot be halved as often as the architecture requires.

    Example:
        >>> model = SRVP((1, 16, 16), 4, noise_dim=3, architecture=DCGAN(channels=(4, 8)))
        >>> model.forecast_substeps = 2

    References:
        Franceschi, Delasalles, Chen, Lamprier, Gallinari, "Stochastic latent residual video prediction", ICML 2020.
    """

    has_inputs: bool = True
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "initial": ("state",),
        "noise": ("time", "component"),
        "states": ("time", "state"),
        "residual": ("time",),
    }
    renamed_parts: ClassVar[dict[str, str]] = {"decoder.": "emission.decoder."}

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        state_dim: int = 20,
        *,
        noise_dim: int = 20,
        content_dim: int = 256,
        num_frames: int = 5,
        hidden_dim: int = 512,
        num_substeps: int = 1,
        architecture: Architecture | None = None,
        transition: Transition | None = None,
        initial_prior: InitialPrior | None = None,
        encoder: ChainEncoder | None = None,
        emission: Emission | None = None,
    ) -> None:
        super().__init__()
        if min(state_dim, num_frames, hidden_dim // 2, num_substeps) <= 0:
            raise DataError(
                "`state_dim`, `num_frames` and `num_substeps` must be positive, and `hidden_dim` at least 2. "
                f"Got {state_dim}, {num_frames}, {num_substeps} and {hidden_dim}."
            )
        self.obs_shape = axis_sizes(obs_shape, "obs_shape")
        self.num_frames, self.num_substeps = num_frames, num_substeps
        self.forecast_substeps: int | None = None
        self._trained_substeps: int | None = None
        widths = (hidden_dim,) * 3
        self.transition = ResidualTransition(state_dim, noise_dim, widths) if transition is None else transition
        self.state_dim, self.noise_dim = self.transition.state_dim, self.transition.noise_dim
        sizes = self.state_dim, self.noise_dim
        self.noise_prior = NoisePrior(*sizes, widths) if self.noise_dim else None
        architecture = DCGAN() if architecture is None else architecture
        self.frame_encoder = architecture.encoder(self.obs_shape)
        self.initial_prior = StandardNormal() if initial_prior is None else initial_prior
        self.emission = PixelEmission() if emission is None else emission
        give_decoder(self.emission, lambda: architecture.decoder(content_dim + self.state_dim, self.obs_shape))
        self.has_skips = bool(getattr(self.emission.decoder, "has_skips", False))
        code_dim = self.frame_encoder.code_dim
        self.content = Content(code_dim, content_dim, num_frames) if content_dim else None
        if encoder is None:
            input_dim = getattr(self.transition, "input_dim", 0) or self.emission.input_dim
            encoder = ChainEncoder(code_dim, *sizes, num_frames, hidden_dim=hidden_dim // 2, input_dim=input_dim)
        self.encoder = encoder
        self.known = KnownInputs(encoder, transition=self.transition, emission=self.emission)
        self.is_conditional = bool(content_dim) or self.has_skips
        _require_same_sizes(self)

    def model(self, data: Sequences) -> None:
        """Draw a first state and the noise of each frame, compute the states, and emit."""
        self.bind()
        data = self.prepare(data) if self.is_conditional else data
        with self.series(data):
            zeros = data.values.new_zeros(self.state_dim)
            initial = pyro.sample("initial", self.initial_prior.distribution(zeros))
            states, distances = self._follow(initial, data)
            states = pyro.deterministic("states", states, event_dim=2)
            if self.transition.is_residual:
                pyro.deterministic("residual", distances, event_dim=1)
            states = self.known.beside(states, self.emission, data)
            self.observe(lambda part: self.emit(part, data), states, data)

    def guide(self, data: Sequences) -> None:
        """Draw a first state given the first frames, and the noise of each seen frame given the frames up to it."""
        self.bind()
        data = self.prepare(data.seen())
        assert data.context is not None
        codes, seen, inputs = data.context["codes"], data.step_mask, self.known.read_by(self.encoder, data)
        with self.series(data):
            prior = self.initial_prior.distribution(data.values.new_zeros(self.state_dim))
            first = self.encoder.num_frames
            sees = in_both(lambda part: part[:, :first].any(-1, keepdim=True), seen)
            initial = pyro.sample("initial", informed(self.encoder.initial(codes, seen, *inputs), prior, sees))
            if self.noise_dim:
                pyro.sample("noise", self.chain(initial, data, encoded=self.encoder.noise(codes, seen, *inputs)))

    def chain(self, initial: Tensor, data: Sequences, encoded: dist.Normal | None = None) -> ResidualChain:
        """Distribution of the noise of the seen steps, batch (..., series), event (time, component).

        Args:
            initial: State of the first frame, (..., series, state).
            data: The data; `encoded` applies at seen steps.
            encoded: Distribution of the noise given the frames, batch shape (..., series, time, component).
        """
        return ResidualChain(
            initial,
            self.transition,
            self.noise_prior,
            data.num_steps,
            num_substeps=self.num_substeps,
            ticks=self.ticks(data),
            valid=self.valid(data),
            encoded=encoded,
            seen=None if encoded is None else data.step_mask,
            inputs=self.known.for_part(self.transition, data),
        )

    def emit(self, states: Tensor, data: Sequences) -> dist.TorchDistribution:
        r"""Distribution of frames, batch (..., series, time, \*obs), given states (..., series, time, state) of `data`.

        Inputs are appended to the states if the emission reads inputs.
        """
        rows, shape = states.flatten(0, -2), states.shape[:-1]
        owner = torch.arange(data.num_series, device=data.device)[:, None].expand(shape).flatten()
        if not self.training:
            pieces = zip(rows.split(_DECODED), owner.split(_DECODED), strict=True)
            parts = (self._decode(part, whose, data) for part, whose in pieces)
            frames = torch.cat([*parts]) if torch.is_grad_enabled() else _joined(parts, len(rows))
        elif data.horizon or bool(on_host(data.step_mask).all()):
            frames = self._decode(rows, owner, data)
        else:  # hidden frames must not enter batch statistics
            chosen = on_host(data.step_mask).expand(shape).flatten().nonzero().squeeze(-1).to(data.device)
            decoded = self._decode(rows[chosen], owner[chosen], data)
            frames = decoded.new_zeros((len(rows), *decoded.shape[1:])).index_copy(0, chosen, decoded)
        return self.emission.given(frames.reshape(*shape, *frames.shape[1:]))

    def prepare(self, data: Sequences) -> Sequences:
        """Add codes of the frames, the content and the skip maps to ``data.context`` if not yet present.

        ``content_frames`` (series, time), True at the frames that give the content, and ``skip_frame`` (series,) are
        read from the context; by default the last seen frames are used.
        """
        context = dict(data.context or {})
        if "codes" in context:
            return data
        seen = data.step_mask
        codes, maps = encoded_frames(self.frame_encoder, data)
        context["codes"] = codes
        if self.content is not None and "content" not in context:
            chosen = context.get("content_frames", last_frames(seen, self.num_frames))
            context["content"] = self.content(codes, chosen).to(data.dtype)
        if self.has_skips and "map_0" not in context:
            frame = context.get("skip_frame", data.lengths - 1)
            place = (seen.flatten().cumsum(0) - 1).view_as(seen).gather(1, frame[:, None]).squeeze(1)
            context |= {f"map_{number}": stage[place] for number, stage in enumerate(maps)}
        return data._with(context=context)

    def training_view(self, data: Sequences, generator: torch.Generator) -> Sequences:
        """Choose random frames of each clip for the content and the skips."""
        context = dict(data.context or {})
        seen = data.step_mask
        if self.content is not None:
            context["content_frames"] = random_frames(seen, self.num_frames, generator)
        if self.has_skips:
            context["skip_frame"] = random_frames(seen, 1, generator).long().argmax(-1)
        return data._with(context=context)

    def regulariser(self, data: Sequences, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[str, Tensor]:
        r"""Penalty on residuals :math:`\sum_t \|\Delta f(y_t, z)\|` over all Euler steps, and the prior's terms."""
        site = model_trace.nodes["initial"]
        terms = self.initial_prior.terms(site["fn"], site["value"])
        if self.transition.is_residual:
            distances = model_trace.nodes["residual"]["value"][..., : data.num_steps]
            terms["residual"] = torch.where(self.valid(data), distances, 0.0).sum(-1)
        return terms

    def swap_content(self, data: Sequences, other: Sequences) -> Sequences:
        """The series `data` with the content and skips of `other`: predictions show the content of `other` in motion.

        Args:
            data: Series that give the motion.
            other: Series that give the content, as many as in `data`, or one for all.

        Raises:
            UnsupportedError: When the model has neither content nor skips.
            ShapeError: When `other` has another number of series.
        """
        if not self.is_conditional:
            raise UnsupportedError("There is no content to swap: the model has neither content nor skips.")
        if other.num_series not in (1, data.num_series):
            raise ShapeError(f"`other` must have 1 series or {data.num_series}, as `data`. Got {other.num_series}.")
        self.check(other)
        with prediction_context(self):
            found = self.prepare(other).context or {}
        kept = {name: part for name, part in found.items() if name == "content" or name.startswith("map_")}
        swapped = {name: part.expand(data.num_series, *part.shape[1:]) for name, part in kept.items()}
        return data._with(context={**(data.context or {}), **swapped})

    @property
    def has_dreams(self) -> bool:
        """False: the likelihood's noise is a convention and is too strong for drawn frames to resemble data."""
        return False

    @property
    def counts_steps(self) -> bool:
        """True: seen frames must be as far apart as in training; forecast frames may be closer."""
        return True

    def ticks(self, data: Sequences) -> tuple[int, ...]:
        """Number of Euler steps up to the start and to each of ``data.times``; finer steps after the seen frames."""
        position = frame_position(data, self.time_scale)
        position = position.reshape(-1, position.shape[-1])[0]
        last = max(data.num_steps - 1, 0)
        seen = self.num_substeps * position.clamp(max=last)
        passed = seen + (position - last).clamp(min=0) * _substeps_ahead(self)
        return (0, *(round(tick) for tick in passed.tolist()))

    def adapt(self, data: Sequences) -> None:
        """Take the units of the data, and record the number of Euler steps in training."""
        super().adapt(data)
        self._trained_substeps = self.num_substeps

    def check(self, data: Sequences) -> None:
        """Raise if frames are off the grid of Euler steps, or a series has no seen frame.

        Warns:
            UserWarning: When `num_substeps` differs from its value in training.
        """
        super().check(data)
        _require_substeps(self)
        if self.is_conditional and not bool(on_host(data.step_mask).any(-1).all()):
            raise DataError("`data` must have at least one seen frame a series, to begin from. Got one without any.")
        tolerance = EVEN + 2 * rounding(data.times) / float(frame_length(data, self.time_scale))
        require_frame_grid(frame_position(data, self.time_scale), data.num_steps, _substeps_ahead(self), tolerance)

    def _follow(self, initial: Tensor, data: Sequences) -> tuple[Tensor, Tensor]:
        """States (..., series, time, state) at all ``data.times``, and distances moved to each, (..., series, time)."""
        chain = self.chain(initial, data)
        noise = pyro.sample("noise", chain) if self.noise_dim else initial.new_zeros(*chain.shape())
        states, distances = chain.states(noise), chain.distances(noise)
        if not data.horizon:
            return states, distances
        ahead = chain.future(noise, data.horizon, num_substeps=_substeps_ahead(self))
        later = pyro.sample("noise_future", ahead) if self.noise_dim else initial.new_zeros(*ahead.shape())
        far, further = ahead.states(later), ahead.distances(later)
        states, distances = states.expand(*far.shape[:-2], -1, -1), distances.expand(*further.shape[:-1], -1)
        return torch.cat([states, far], -2), torch.cat([distances, further], -1)

    def _decode(self, states: Tensor, owner: Tensor, data: Sequences) -> Tensor:
        r"""The decoder's output (frame, \*decoded) at `states` (frame, state) of the series `owner` (frame,)."""
        context = data.context or {}
        latent = states if self.content is None else torch.cat([context["content"][owner], states], -1)
        if not self.has_skips:
            return self.emission.decoder(latent).to(states.dtype)
        maps = tuple(part for name, part in context.items() if name.startswith("map_"))
        return self.emission.decoder(latent, maps, owner).to(states.dtype)


def _joined(pieces: Iterable[Tensor], length: int) -> Tensor:
    """Concatenate the pieces, `length` rows in total, without a second copy in memory."""
    whole, start = torch.empty(0), 0
    for piece in pieces:
        if not start:
            whole = piece.new_empty(length, *piece.shape[1:])
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole


def _require_same_sizes(model: SRVP) -> None:
    parts = {"transition": model.transition, "encoder": model.encoder}
    sizes = {name: (part.state_dim, part.noise_dim) for name, part in parts.items()}
    code_dim = model.frame_encoder.code_dim
    if len(set(sizes.values())) > 1 or model.encoder.code_dim != code_dim:
        raise DataError(
            "`transition` and `encoder` must have the same sizes of state and noise, and `encoder` "
            f"codes of the architecture's size {code_dim}. Got {sizes}, and codes of size {model.encoder.code_dim}."
        )


def _substeps_ahead(model: SRVP) -> int:
    """Euler steps per forecast frame."""
    return model.num_substeps if model.forecast_substeps is None else model.forecast_substeps


def _require_substeps(model: SRVP) -> None:
    """Check the numbers of Euler steps per frame, and warn if `num_substeps` differs from its value in training."""
    most = max(whole_number(model.num_substeps, "num_substeps", 1), _substeps_ahead(model))
    whole_number(_substeps_ahead(model), "forecast_substeps", 1)
    if model._trained_substeps not in (None, model.num_substeps):
        warnings.warn(
            f"`num_substeps` was {model._trained_substeps} in training and is {model.num_substeps} now, which moves "
            "the states of seen frames. For forecasts at another frame rate set `forecast_substeps`.",
            UserWarning,
            stacklevel=5,
        )
    if not model.transition.is_residual and most > 1:
        raise UnsupportedError(f"{type(model.transition).__name__} knows no steps within a frame: `num_substeps` = 1.")
