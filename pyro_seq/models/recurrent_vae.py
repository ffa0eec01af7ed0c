"""``RecurrentVAE``: an auto-encoder of single frames with a recurrent network that predicts the next code."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import pyro
import pyro.distributions as dist
import torch

from pyro_seq._arguments import axis_sizes
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.recurrent import RecurrentPath, StepPredictor
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.frame import FrameEncoder, frame_emission, frame_encoder
from pyro_seq.nn.known_inputs import KnownInputs
from pyro_seq.nn.recurrent import LSTMTransition

_NUM_ADAPTED = 256  # series, spread over the data, from which the unit of codes is taken


class CodeTransition(StepPredictor, Protocol):
    """Module that gives the distributions of the first code and of later ones, such as `LSTMTransition`.

    If its attribute `input_dim` is not 0, it reads inputs.
    """

    code_dim: int

    def adapt_codes(self, codes: Sequences) -> None:
        """Take units from codes (series, time, code)."""
        ...

    def initial(self, num_series: int) -> dist.Normal:
        """Distribution of the first code, batch shape (series, code)."""
        ...


@rebuildable
class RecurrentVAE(SequenceModel):
    r"""An auto-encoder of single frames with a recurrent network over its codes: the baselines AE-RNN and VAE-RNN.

    Generative model::

        codes_1             ~ Normal(m_1, s_1)              N(0, I) until the transition is trained
        codes_t | <t        ~ Normal(LSTM(codes_<t, inputs_<=t), s)     one site for the whole path
        x_t | codes_t       ~ emission(codes_t)

    Guide::

        codes_t | x_t       ~ Normal(encoder(x_t))          where a frame is seen
        codes_t | <t        ~ Normal(LSTM(codes_<t), s)     where it is hidden

    Symbols of the paper: a_t is `codes`, q(a_t | x_t) `encoder`, p(x_t | a_t) `emission`.

    In forecasts the network's input is its own output; in imputation it is the code of the frame if the frame is seen,
    and its own output otherwise. A hidden frame is therefore filled from earlier frames only (filtering). Times must be
    evenly spaced: put irregular frames on a grid, with the steps between them hidden.

    Train it in two phases, as in the paper; freeze parts as usual in torch, and `fit` leaves them unchanged.

    1. Train encoder and emission on single frames, each as a separate series, with the transition frozen. The prior of
       a code is then N(0, I). For AE-RNN bound the encoder's variance to almost zero and remove the divergence from
       the objective; for VAE-RNN leave both unchanged.
    2. Train the transition on whole sequences, with encoder and emission frozen. As the codes are now fixed, `fit`
       adapts the transition to their units, which are arbitrary in an auto-encoder without divergence.

    Trained in one phase, it maximises a bound on the evidence of whole sequences; that is neither of the baselines.

    Args:
        obs_shape: Shape of one observation; (channel, height, width) gives convolutional parts.
        code_dim: Size of a code.
        hidden_dim: Size of the recurrent network's hidden state.
        maximum_variance: Upper bound on the variance of the default encoder: 1, the prior's variance, for VAE-RNN;
            almost zero, such as 1e-6, for AE-RNN.
        encoder: Gaussian over the code of a frame.
        emission: Likelihood with its decoder; by default Bernoulli for images, Gaussian otherwise.
        transition: Distributions of the first code and of later ones; an `LSTMTransition` by default.
        input_dim: Size of the inputs of the data, for the default transition and encoder. An emission with an
            `InputDecoder` reads them too.

    Raises:
        DataError: When a size is not positive, or code sizes of the parts do not match.

    Example:
        An AE-RNN in its two phases; for a VAE-RNN omit `maximum_variance` and `scales`.

        >>> from pyro_seq import SVI, Sequences, fit
        >>> train = Sequences(torch.rand(4, 6, 3))
        >>> model = RecurrentVAE((3,), 2, maximum_variance=1e-6)
        >>> _ = model.transition.requires_grad_(False)
        >>> _ = fit(model, train.windows(1), SVI(num_steps=2, scales={"codes": 0.0}))
        >>> _ = model.requires_grad_(False).transition.requires_grad_(True)
        >>> posterior = fit(model, train, SVI(num_steps=2))

    References:
        Fraccaro, Kamronn, Paquet, Winther, "A disentangled recognition and nonlinear dynamics model for unsupervised
        learning", NeurIPS 2017, section 5.1.
    """

    has_inputs: bool = True
    has_even_times: ClassVar[bool] = True
    needs_steps: ClassVar[bool] = False
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"codes": ("time", "code")}

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        code_dim: int = 2,
        *,
        hidden_dim: int = 64,
        maximum_variance: float = 1.0,
        encoder: FrameEncoder | None = None,
        emission: Emission | None = None,
        transition: CodeTransition | None = None,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        if code_dim < 1 or not maximum_variance > 0:
            raise DataError(
                f"`code_dim` and `maximum_variance` must be positive. Got {code_dim} and {maximum_variance}."
            )
        self.obs_shape = axis_sizes(obs_shape, "obs_shape")
        if encoder is None:
            input_dim = input_dim or getattr(transition, "input_dim", 0) or getattr(emission, "input_dim", 0)
            encoder = frame_encoder(self.obs_shape, code_dim, maximum_variance, input_dim)
        self.encoder = encoder
        self.emission = frame_emission(self.obs_shape, code_dim, emission)
        if transition is None:
            transition = LSTMTransition(code_dim, hidden_dim, input_dim=input_dim)
        self.transition: Any = transition
        self.known = KnownInputs(encoder, transition=transition, emission=self.emission)
        if not self.encoder.dim == self.transition.code_dim == code_dim:
            raise DataError(
                f"`encoder` and `transition` must have codes of size `code_dim` = {code_dim}. Got {self.encoder.dim} "
                f"and {self.transition.code_dim}."
            )

    @property
    def reads_series(self) -> bool:
        """False: frames are read one by one."""
        return False

    def model(self, data: Sequences) -> None:
        """Draw the codes of all steps one after another, and emit a frame from each."""
        self.bind()
        with self.series(data):
            path = self.sample_path("codes", self.prior(data), data)
            self.observe(self.emission, self.known.beside(path, self.emission, data), data)

    def guide(self, data: Sequences) -> None:
        """Encode the seen frames one by one, and predict the codes of hidden frames from the codes before them."""
        self.bind()
        data = data.seen()
        with self.series(data):
            pyro.sample("codes", self.encode(data))

    def prior(self, data: Sequences) -> RecurrentPath:
        """Distribution of the codes at the seen steps before any frame is seen, batch (series,), event (time, code)."""
        initial = self.transition.initial(data.num_series)
        inputs = self.known.for_part(self.transition, data)
        return RecurrentPath(initial, self.transition, data.num_steps, valid=self.valid(data), inputs=inputs)

    def encode(self, data: Sequences) -> RecurrentPath:
        """Distribution of the codes given the seen frames, batch (series,), event (time, code)."""
        data = data.seen()
        initial, steps = self.transition.initial(data.num_series), data.num_steps
        encoded = self.encoder(data.values, data.entry_mask, *self.known.read_by(self.encoder, data))
        return RecurrentPath(
            initial,
            self.transition,
            steps,
            valid=self.valid(data),
            encoded=encoded,
            seen=data.step_mask,
            inputs=self.known.for_part(self.transition, data),
        )

    def adapt(self, data: Sequences) -> None:
        """Take the units of time and values from the training data, and the unit of codes from a frozen encoder."""
        super().adapt(data)
        self._adapt_codes(data)

    def take_units(self, data: Sequences, *, again: bool = False) -> None:
        """Take units like every model, and the unit of codes once the encoder is frozen, possibly in a later fit."""
        super().take_units(data, again=again)
        if not getattr(self.transition, "has_units", False):
            self._adapt_codes(data)

    def _adapt_codes(self, data: Sequences) -> None:
        if any(parameter.requires_grad for parameter in self.encoder.parameters()):
            return
        some = data.seen()[:: -(-data.num_series // _NUM_ADAPTED)]
        with torch.no_grad():
            codes = self.encoder(some.values, some.entry_mask, *self.known.read_by(self.encoder, some)).loc
        self.transition.adapt_codes(Sequences(codes, some.step_mask))
