"""ODE2VAE: a latent second-order differential equation with a Bayesian acceleration field."""

from __future__ import annotations

import warnings
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._arguments import axis_sizes
from pyro_seq._host import in_both, on_host
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.bayesian import BayesianMLP, VectorField
from pyro_seq.nn.conv import ConvDecoder, ConvTrunk
from pyro_seq.nn.emission import BernoulliEmission, Emission
from pyro_seq.nn.encoder import FrameWindow, InitialStateEncoder, SeriesEncoder
from pyro_seq.nn.energy_tilt import EnergyTilt
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.frame import frame_emission, give_decoder
from pyro_seq.nn.informed import informed, sight
from pyro_seq.nn.initial_prior import InitialPrior, StandardNormal
from pyro_seq.nn.known_inputs import KnownInputs
from pyro_seq.nn.mlp import MLPTrunk
from pyro_seq.nn.tempo import SeriesTempo
from pyro_seq.ops.odeint import RK4


@rebuildable
class ODE2VAE(SequenceModel):
    r"""Sequences whose latent position and velocity follow a second-order differential equation with random weights.

    Generative model::

        weights         ~ Normal(0, I)                          one acceleration field f for all series
        initial         ~ Normal(0, I), or `initial_prior`      position s and velocity v at the first time
        path            = solution of  s' = v,  v' = f(s, v, inputs)    at every time stamp
        x_t | path_t    ~ emission(decoder(s_t))

    Guide::

        weights         ~ Normal(loc, cov)                      mean field, or the `guide` of the field
        initial | x     ~ Normal(encoder(x_0), encoder(x_0..m)) position from one frame, velocity from m

    Symbols of the paper: s_t position, v_t velocity, z_t = (s_t, v_t) a row of `path`, W `weights`, f `vector_field`,
    q_enc `encoder`, D the size q of `state_dim`.

    Known inputs, ``data.inputs``, drive the field if the flow has an `input_dim`, and enter the emission if its decoder
    is an `InputDecoder`; the encoder then reads them too.

    With `has_path_kl` the divergence from the prior is counted at every observed time, as in the paper, using the
    density of the path,

    .. math::
        \log q(z_t) = \log q(z_0) - \int_0^t \mathrm{tr}\,\frac{\partial f}{\partial v}\, d\tau;

    without it, only at the initial state. Since the path is a function of the initial state and the weights, the
    latter is already a bound on the evidence, and the tighter one. `has_instant_encoder` adds the paper's penalty that
    keeps the path near the encoder's output at each frame. In the objective these terms are called ``path_kl`` and
    ``instant_encoder``; weight them, and the divergence ``weights`` of the field, with ``SVI(scales={...})``.

    Args:
        obs_shape: Shape of one observation; (channel, height, width) gives convolutional parts.
        state_dim: Size q of the position; the state is `flow.order` times as large.
        flow: Order and solver of the equation; of second order by default, and ``Flow(q, order=1)`` gives a neural
            ODE. If it has no solver, it takes Runge-Kutta steps of at most `time_step`, a typical training interval, so
            that a state does not depend on the other requested times. Cost per interval: one step if times are even,
            about two if they are random, and on average at most 17 for any training data.
        vector_field: The random acceleration; by default a `BayesianMLP` with two hidden layers of 50 units.
        initial_prior: Prior of the initial state: `StandardNormal` by default, `LearnedNormal` or an `EnergyTilt`.
        encoder: Posterior of the initial state: by default an `InitialStateEncoder`, which reads the first frames; an
            `RNNEncoder` or `ODERNNEncoder` of `flow.state_dim` entries reads the whole series.
        emission: Likelihood with its decoder; by default Bernoulli for images, Gaussian otherwise.
        tempo: A random speed along the field per series; by default all series have the same speed.
        num_velocity_frames: Number of frames that the default encoder reads for the velocity.
        time_step: Model time of a typical interval between two time stamps.
        has_path_kl: Count the divergence from the prior at every observed time.
        has_instant_encoder: Penalise the distance of the path from the encoder's output at later frames.

    Raises:
        DataError: When a size is not positive, or sizes of the parts do not match.

    Example:
        >>> model = ODE2VAE(obs_shape=(2,), state_dim=3)
        >>> model.flow.state_names[-1]
        'velocity_2'

    References:
        Yildiz, Heinonen, Lahdesmaki, "ODE2VAE: Deep generative second order ODEs with Bayesian neural networks",
        NeurIPS 2019.
    """

    has_inputs: bool = True
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "weights": ("weight",),
        "initial": ("state",),
        "log_tempo": (),
        "path": ("time", "state"),
        "volume": ("time",),
    }

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        state_dim: int = 8,
        *,
        flow: Flow | None = None,
        vector_field: VectorField | None = None,
        initial_prior: InitialPrior | None = None,
        encoder: SeriesEncoder | None = None,
        emission: Emission | None = None,
        tempo: SeriesTempo | None = None,
        num_velocity_frames: int = 3,
        time_step: float = 0.1,
        has_path_kl: bool = False,
        has_instant_encoder: bool = False,
    ) -> None:
        super().__init__()
        if state_dim < 1 or num_velocity_frames < 1 or not time_step > 0:
            raise DataError(
                "`state_dim`, `num_velocity_frames` and `time_step` must be positive. "
                f"Got {state_dim}, {num_velocity_frames} and {time_step}."
            )
        self.obs_shape = axis_sizes(obs_shape, "obs_shape")
        self.flow = Flow(state_dim) if flow is None else flow
        if self.flow.solver is None:
            self.flow.solver = RK4(step_size=time_step)
        size = self.flow.state_dim + self.flow.input_dim
        self.vector_field = BayesianMLP(size, self.flow.dim) if vector_field is None else vector_field
        self.flow.require_field(self.vector_field)
        self.initial_prior = StandardNormal() if initial_prior is None else initial_prior
        input_dim = self.flow.input_dim or getattr(emission, "input_dim", 0)
        if encoder is None:
            encoder = _encoder(self.obs_shape, self.flow, num_velocity_frames, input_dim)
        self.encoder = encoder
        self.emission = _emission(self.obs_shape, self.flow.dim, emission)
        if tempo is not None:
            tempo.complete(self.obs_shape, input_dim)
        self.tempo = tempo
        self.known = KnownInputs(encoder, flow=self.flow, emission=self.emission)
        self.time_step = time_step
        self.has_path_kl = has_path_kl
        self.has_instant_encoder = has_instant_encoder
        _require_fitting(self)

    @property
    def reads_series(self) -> bool:
        """Whether the encoder reads more than the first frames."""
        return not hasattr(self.encoder, "num_frames")

    @property
    def has_dreams(self) -> bool:
        """True: some of the first frames may be hidden too, so that even a window encoder must cope with gaps."""
        return True

    def model(self, data: Sequences) -> None:
        """Draw a field and an initial state per series, solve the equation, and emit."""
        self.bind()
        function = self.vector_field.prior()
        has_volume = self.has_path_kl or self.has_instant_encoder
        with self.series(data):
            zeros = data.values.new_zeros(self.flow.state_dim)
            initial = pyro.sample("initial", self.initial_prior.distribution(zeros))
            speed = None if self.tempo is None else self.tempo.prior(data)
            solution = self.flow(
                function,
                initial,
                self._times(data),
                speed=speed,
                has_volume=has_volume,
                inputs=self.known.for_part(self.flow, data),
            )
            path = pyro.deterministic("path", solution.path, event_dim=2)
            if has_volume:
                pyro.deterministic("volume", solution.integral, event_dim=1)
            self.observe(self.emission, self.known.beside(self.flow.position(path), self.emission, data), data)

    def guide(self, data: Sequences) -> None:
        """Draw a field from its posterior, and initial states from the encoder."""
        self.bind()
        self.vector_field.posterior()
        with self.series(data):
            pyro.sample("initial", self.encode(data))
            if self.tempo is not None:
                data = data.seen()
                self.tempo.posterior(data, self._series_times(data), *self.known.read_by(self.tempo.encoder, data))

    def encode(self, data: Sequences) -> dist.TorchDistribution:
        """Posterior of the initial state given the frames that the encoder reads: batch (series,), event (state,)."""
        data = data.seen()
        mask, times = data.entry_mask, self._series_times(data)
        prior = self.initial_prior.distribution(data.values.new_zeros(self.flow.state_dim))
        read = self.encoder(data.values, mask, times, *self.known.read_by(self.encoder, data))
        return informed(read, prior, sight(self.encoder, mask))

    def regulariser(self, data: Sequences, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[str, Tensor]:
        r"""The paper's path terms and the terms of the initial prior, (..., series) each.

        .. math::
            r_\text{path} = \sum_{t > 0} \log q(z_t) - \log p(z_t), \qquad
            r_\text{instant} = \sum_{t} \log q(z_t) - \log q_\text{enc}(z_t \mid x_t, \dots)

        Only observed times count. The instant encoder needs a whole window of frames, so the last times are left out.
        """
        prior = model_trace.nodes["initial"]
        terms = self.initial_prior.terms(prior["fn"], prior["value"])
        if not (self.has_path_kl or self.has_instant_encoder):
            return terms
        initial, path = guide_trace.nodes["initial"], model_trace.nodes["path"]["value"]
        log_initial = initial["fn"].log_prob(initial["value"])
        log_density = log_initial[..., None] - model_trace.nodes["volume"]["value"]
        observed = data.step_mask
        if self.has_path_kl:
            log_prior = self.initial_prior.distribution(path.new_zeros(self.flow.state_dim)).log_prob(path)
            terms["path_kl"] = torch.where(observed, log_density - log_prior, 0.0)[..., 1:].sum(-1)
        if self.has_instant_encoder:
            terms["instant_encoder"] = self._distance_to_encoder(data, path, log_density)
        return terms

    def check(self, data: Sequences) -> None:
        """Warn if series hide frames that a window encoder reads but have observations."""
        super().check(data)
        if self.reads_series or on_host(data.mask).all():
            return
        mask = data.entry_mask
        is_blind = ~sight(self.encoder, mask).all(-1) & mask.flatten(1).any(1)
        if bool(is_blind.any()):
            warnings.warn(
                f"{int(is_blind.sum())} of {len(data)} series hide some of the first frames, all that the encoder of "
                "this ODE2VAE reads: what it does not see of their initial state follows the prior, whatever they show "
                "later. An encoder of whole series does not lose it: "
                f"`ODE2VAE(..., encoder=RNNEncoder({self.obs_shape}, {self.flow.state_dim}))`.",
                UserWarning,
                stacklevel=5,
            )

    def coords(self, data: Sequences) -> dict[str, list]:
        """Names of the state's entries."""
        return {"state": list(self.flow.state_names)}

    def _times(self, data: Sequences) -> Tensor:
        return in_both(lambda times: self.time_step * times, self.exact_times(data))

    def _series_times(self, data: Sequences) -> Tensor:
        return in_both(lambda times: times.expand(data.num_series, -1), self._times(data))

    def _distance_to_encoder(self, data: Sequences, path: Tensor, log_density: Tensor) -> Tensor:
        """Sum of log q(z_t) - log q_enc(z_t) over observed times t whose whole window of frames is in the series."""
        length: int = self.encoder.num_frames  # type: ignore[union-attr]  # of a window, as checked when made
        if data.num_steps < length:
            return torch.zeros_like(log_density[..., 0])

        def windows(steps: Tensor) -> Tensor:
            return steps.unfold(1, length, 1).movedim(-1, 2).flatten(0, 1)

        times, inputs = windows(self._series_times(data)), map(windows, self.known.read_by(self.encoder, data))
        encoded = self.encoder(windows(data.values), windows(data.entry_mask), times, *inputs).base_dist
        starts = torch.arange(data.num_steps - length + 1, device=data.device)
        shape = (data.num_series, len(starts))
        opinion = dist.Normal(encoded.loc.unflatten(0, shape), encoded.scale.unflatten(0, shape)).to_event(1)
        gap = log_density[..., : len(starts)] - opinion.log_prob(path[..., : len(starts), :])
        counts = data.step_mask[:, : len(starts)] & (starts + length <= data.lengths[:, None])
        return torch.where(counts, gap, 0.0).sum(-1)


def _require_fitting(model: ODE2VAE) -> None:
    if model.encoder.dim != model.flow.state_dim:
        raise DataError(
            f"`encoder` must give the state of the flow, {model.flow.state_dim} entries. Got {model.encoder.dim}."
        )
    if model.has_instant_encoder and not hasattr(model.encoder, "num_frames"):
        raise DataError(
            "`has_instant_encoder` needs an `InitialStateEncoder`, or another encoder that reads a window of "
            f"`num_frames` frames. Got {type(model.encoder).__name__}. Leave one of the two out."
        )
    if model.has_path_kl and isinstance(model.initial_prior, EnergyTilt):
        raise DataError(
            "`has_path_kl` compares every state with the prior's density, which an `EnergyTilt` does not know. Use a "
            "`LearnedNormal`, or leave `has_path_kl` out."
        )


def _encoder(obs_shape: tuple[int, ...], flow: Flow, num_frames: int, input_dim: int) -> InitialStateEncoder:
    """Read the position from one frame and the derivatives from the first few; convolutional for images, else an MLP.

    A first-order state must also contain the velocity, so all of it is read from the first few frames.
    """
    trunk = ConvTrunk if len(obs_shape) == 3 else MLPTrunk

    def window(length: int, dim: int) -> FrameWindow:
        return FrameWindow(trunk(length, obs_shape), length, dim, input_dim=input_dim)

    if flow.order == 1:
        return InitialStateEncoder(window(num_frames, flow.dim))
    velocity = window(num_frames, flow.state_dim - flow.dim)
    return InitialStateEncoder(window(1, flow.dim), velocity)


def _emission(obs_shape: tuple[int, ...], dim: int, emission: Emission | None) -> Emission:
    """The default emission of other models, but for images with the paper's transposed convolutions."""
    if len(obs_shape) == 3:
        emission = BernoulliEmission() if emission is None else emission
        give_decoder(emission, lambda: ConvDecoder(dim, obs_shape))
    return frame_emission(obs_shape, dim, emission)
