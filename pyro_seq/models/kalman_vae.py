"""Kalman VAE: codes of frames that follow a mixture of linear Gaussian dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pyro
import torch
from torch import Tensor

from pyro_seq._arguments import axis_sizes
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.filled_path import FilledPath
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from pyro_seq.distributions.states_given_path import StatesGivenPath
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.continuous_mixture import ContinuousDynamics
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.frame import FrameEncoder, frame_emission, frame_encoder
from pyro_seq.nn.known_inputs import KnownInputs
from pyro_seq.nn.mixture import MixedDynamics
from pyro_seq.nn.saved_state import shape_by_data


@rebuildable
class KalmanVAE(SequenceModel):
    r"""Frames encoded one by one into codes, which a hidden linear Gaussian state emits.

    Generative model::

        states_1                ~ Normal(mean, Sigma)
        states_t | states_t-1   ~ Normal(A_t states_t-1 + B_t inputs_t, Q)
        codes_t | states_t      ~ Normal(C_t states_t, R)
        x_t | codes_t           ~ emission(codes_t)
        A_t, B_t, C_t           = modes mixed by weights that depend on codes_1 ... codes_t-1

    Guide::

        codes_t | x_t           ~ Normal(encoder(x_t))          frame by frame
        codes in gaps           ~ smoother given the seen codes
        states | codes          ~ smoother, exact

    Symbols of the paper: a_t is `codes`, z_t `states`, u_t ``data.inputs`` in units of the training data, alpha_t
    the weights, gamma_t `dynamics`, K its `num_modes`.

    The states are integrated out by the Kalman filter, so the bound needs no draws of states,

    .. math::
        \log p(x) \ge E_{q(a \mid x)}\left[\sum_t \log p(x_t \mid a_t) + \log p(a) - \log q(a \mid x)\right],

    and predictions draw the states afterwards. With `has_states` the states are a separate site, drawn jointly from the
    smoother, as in the paper; the bound is the same. Times must be evenly spaced, unless the dynamics are
    `ContinuousDynamics`, whose state follows a linear stochastic differential equation between frames at any times.

    For images the paper weights the reconstruction by 0.3: ``SVI(scales={"x": 0.3})``. Vectors need the full weight:
    they have few entries, and with a smaller weight the codes collapse and the emission explains the data as noise.

    Args:
        obs_shape: Shape of one observation; (channel, height, width) gives convolutional parts.
        code_dim: Size of a code.
        state_dim: Size of the state.
        dynamics: The state-space model; by default three modes mixed by an LSTM, for evenly spaced times.
        encoder: Gaussian over the code of a frame.
        emission: Likelihood with its decoder; by default Bernoulli for images, Gaussian otherwise.
        input_dim: Size of the inputs of the data, for the default dynamics.
        has_states: Make the states a site instead of integrating them out.

    Raises:
        DataError: When a size is not positive, or sizes of the parts do not match.

    Example:
        >>> model = KalmanVAE(obs_shape=(1, 16, 16), code_dim=2, state_dim=4)
        >>> model.dynamics.num_modes
        3
        >>> KalmanVAE((2,), dynamics=ContinuousDynamics(code_dim=2, state_dim=4)).has_even_times
        False

    References:
        Fraccaro, Kamronn, Paquet, Winther, "A disentangled recognition and nonlinear dynamics model for unsupervised
        learning", NeurIPS 2017.
    """

    has_inputs: bool = True
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"codes": ("time", "code"), "states": ("time", "state")}

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        code_dim: int = 2,
        state_dim: int = 4,
        *,
        dynamics: MixedDynamics | ContinuousDynamics | None = None,
        encoder: FrameEncoder | None = None,
        emission: Emission | None = None,
        input_dim: int = 0,
        has_states: bool = False,
    ) -> None:
        super().__init__()
        self.obs_shape = axis_sizes(obs_shape, "obs_shape")
        self.dynamics = MixedDynamics(code_dim, state_dim, input_dim=input_dim) if dynamics is None else dynamics
        code_dim = self.dynamics.code_dim
        self.encoder = frame_encoder(self.obs_shape, code_dim) if encoder is None else encoder
        self.emission = frame_emission(self.obs_shape, code_dim, emission)
        if self.encoder.dim != code_dim:
            raise DataError(
                f"`encoder` must give codes of the size of the dynamics', {code_dim}. Got {self.encoder.dim}."
            )
        if self.emission.input_dim or getattr(self.encoder, "input_dim", 0):
            raise DataError(
                "`emission` and `encoder` must not read inputs: those of a KalmanVAE drive its dynamics. Got "
                f"{self.emission.input_dim} inputs of the emission and {getattr(self.encoder, 'input_dim', 0)} of the "
                "encoder. Leave them out there and pass `input_dim=`."
            )
        self.has_states = has_states
        self.known = KnownInputs(dynamics=self.dynamics, emission=self.emission)
        if self.known.units is not None:
            shape_by_data(self.known.units.units, centre=0.0, unit=1.0)  # models in earlier files use raw inputs

    @property
    def has_even_times(self) -> bool:  # type: ignore[override]
        """Whether the dynamics need evenly spaced times; those in continuous time do not."""
        return self.dynamics.has_even_times

    @property
    def reads_series(self) -> bool:
        """False: frames are read one by one."""
        return False

    def model(self, data: Sequences) -> None:
        """Draw codes from the dynamics and emit a frame from each."""
        self.bind()
        with self.series(data):
            prior = self.prior(data)
            codes = self._codes_and_states(prior, data) if self.has_states else self.sample_path("codes", prior, data)
            self.observe(self.emission, codes, data)

    def guide(self, data: Sequences) -> None:
        """Draw the codes of seen frames from the encoder, and those of hidden frames from the dynamics."""
        self.bind()
        data = data.seen()
        with self.series(data):
            codes = pyro.sample("codes", self.encode(data))
            if self.has_states:
                prior = self.prior(data)
                pyro.sample("states", StatesGivenPath(prior.given(codes), codes, valid=prior.valid))

    def prior(self, data: Sequences) -> MixedLinearGaussian:
        """Distribution of the codes of the seen steps: batch (series,), event (time, code)."""
        return MixedLinearGaussian(
            self.dynamics,
            data.num_steps,
            inputs=self._inputs(data),
            valid=self.valid(data),
            is_counted=not self.has_states,
        )

    def encode(self, data: Sequences) -> FilledPath:
        """Posterior of the codes given the seen frames: batch (series,), event (time, code)."""
        each = self.encoder(data.values, data.entry_mask)
        return FilledPath(each.loc, each.scale, data.step_mask, self.prior(data))

    def mixing_weights(self, codes: Tensor, data: Sequences | None = None) -> Tensor:
        """Weights of the modes (..., time, mode) at each step of paths of codes (..., time, code).

        Args:
            codes: Paths, starting at the first step.
            data: Data that give the times of the codes; required for dynamics in continuous time.

        Raises:
            DataError: When the times are needed and `data` is not given.
        """
        start = self.dynamics.start.expand(*codes.shape[:-2], 1, -1)
        inputs = None if data is None else self._inputs(data)
        inputs = None if inputs is None else inputs[..., : codes.shape[-2], :]
        return self.dynamics.weights(torch.cat([start, codes[..., :-1, :]], -2), inputs)

    def integrated_out(self, data: Sequences, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Joint draws of the states given the codes, for a model that integrates them out."""
        if self.has_states:
            return {}
        codes = torch.cat([latents[name] for name in ("codes", "codes_future") if name in latents], -2)
        prior = MixedLinearGaussian(self.dynamics, codes.shape[-2], inputs=self._inputs(data))
        states = StatesGivenPath(prior.given(codes), codes).rsample()
        steps = latents["codes"].shape[-2]
        future = {"states_future": states[..., steps:, :]} if "codes_future" in latents else {}
        return {"states": states[..., :steps, :], **future}

    def _inputs(self, data: Sequences) -> Tensor | None:
        """Inputs of the dynamics: standardised inputs, followed by the time gaps in continuous time."""
        inputs = self.known(data)
        if self.has_even_times:
            return inputs
        gaps = self.model_gaps(data)[..., None]
        return gaps if inputs is None else torch.cat([inputs, gaps.expand(*inputs.shape[:-1], 1)], -1)

    def _codes_and_states(self, prior: MixedLinearGaussian, data: Sequences) -> Tensor:
        """Sample codes and states as two sites; the density of the states includes that of the codes."""
        codes = pyro.sample("codes", prior)
        linear = prior.given(codes)
        states = pyro.sample("states", StatesGivenPath(linear, codes, valid=prior.valid, is_joint=True))
        if not data.horizon:
            return codes
        ahead = prior.future(codes, data.horizon, state=states[..., -1, :])
        codes_ahead = pyro.sample("codes_future", ahead)
        pyro.sample("states_future", StatesGivenPath(ahead.given(codes_ahead), codes_ahead, is_joint=True))
        return torch.cat([codes.expand(codes_ahead.shape[:-2] + codes.shape[-2:]), codes_ahead], -2)
