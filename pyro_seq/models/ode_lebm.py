"""ODELEBM: a neural ordinary differential equation from an initial state with an energy-based prior."""

from __future__ import annotations

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
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.bayesian import BayesianMLP, FieldFunction, VectorField
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.encoder import SeriesEncoder
from pyro_seq.nn.flow import Flow, SteeredFunction
from pyro_seq.nn.frame import frame_emission
from pyro_seq.nn.informed import informed, sight
from pyro_seq.nn.initial_prior import InitialPrior, StandardNormal
from pyro_seq.nn.known_inputs import KnownInputs
from pyro_seq.ops.odeint import RK4, Dopri5


@rebuildable
class ODELEBM(SequenceModel):
    r"""Sequences that follow a neural ordinary differential equation from an initial state with a learned prior.

    Generative model::

        initial = (state, static, dynamic)  ~ exp(-energy) Normal(0, I)     one joint energy; without one, Normal(0, I)
        path            = solution of  s' = f(s, inputs, dynamic),  s = state first at every time stamp
        x_t | path_t    ~ emission(decoder(s_t, static))

    Guide, with an encoder::

        initial | x     ~ Normal(encoder(x_0 ... x_T))                      reads the observed steps backwards in time

    Symbols of the paper: z_t0 the state, z_s `static`, z_d `dynamic`, h_gamma `vector_field`, g_beta the decoder in
    `emission`, f_alpha minus the energy in `initial_prior`, sigma the emission's scale.

    The latents of a series form one vector, which Langevin chains infer without a guide; only `SVI` needs an encoder.
    With a Gaussian prior and an encoder this is the Latent ODE. Properties that are constant along a series enter in
    two ways: the static part, such as appearance, changes the emission; the dynamic part, such as friction, changes how
    the state moves.

    Known inputs, ``data.inputs``, drive the field if the flow has an `input_dim`, and enter the emission if its decoder
    is an `InputDecoder`; an encoder then reads them too.

    Args:
        obs_shape: Shape of one observation; (channel, height, width) gives a convolutional decoder.
        state_dim: Size of the position; the state is `flow.order` times as large.
        static_dim: Size of the part that enters the emission.
        dynamic_dim: Size of the part that enters the field.
        flow: Order and solver of the equation; of first order by default. If it has no solver, it takes Runge-Kutta
            steps of at most `time_step`, a typical training interval, so that a state does not depend on the other
            requested times. Cost per interval: one step if times are even, about two if they are random, and on average
            at most 17 for any training data. Where time stamps are crowded, steps on a separate grid are cheaper:
            ``Flow(q, order=1, solver=RK4(step_size=0.4, is_dense=True))``.
        vector_field: Function of the state and the dynamic part; by default a network with two hidden layers of 50.
        initial_prior: Prior of the joint vector: `StandardNormal` by default, `LearnedNormal`, or an energy in an
            `EnergyTilt`.
        encoder: Posterior of the joint vector, such as `RNNEncoder` or `ODERNNEncoder`; without one there is no guide.
        emission: Likelihood with a decoder of position and static part; by default Bernoulli for images, else Gaussian.
        time_step: Model time of a typical interval between two time stamps.
        has_restart_term: Train intermediate states to be valid initial states of the rest of the series; forecasts far
            beyond the training length need it. It counts under `SVI`, and in `MaximumLikelihood` only if named, as in
            ``MaximumLikelihood(scales={"restart": 1.0})``. See `regulariser`.

    Raises:
        DataError: When a size is out of range, or the encoder's size does not match.
        UnsupportedError: When the solver of the flow is adaptive.

    Example:
        >>> model = ODELEBM(obs_shape=(2,), state_dim=3, static_dim=1)
        >>> model.dim, model.has_guide
        (4, False)

    References:
        Cheng, Kong, Xie, Lee, Wu, Yang, "Latent space energy-based neural ODEs", 2024.
        Rubanova, Chen, Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019.
    """

    has_inputs: bool = True
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "weights": ("weight",),
        "initial": ("latent",),
        "static": ("static",),
        "dynamic": ("dynamic",),
        "path": ("time", "state"),
    }
    renamed_parts: ClassVar[dict[str, str]] = {"energy.": "initial_prior."}

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        state_dim: int = 8,
        *,
        static_dim: int = 0,
        dynamic_dim: int = 0,
        flow: Flow | None = None,
        vector_field: VectorField | None = None,
        initial_prior: InitialPrior | None = None,
        encoder: SeriesEncoder | None = None,
        emission: Emission | None = None,
        time_step: float = 0.1,
        has_restart_term: bool = False,
    ) -> None:
        super().__init__()
        if state_dim < 1 or static_dim < 0 or dynamic_dim < 0 or not time_step > 0:
            raise DataError(
                "`state_dim` and `time_step` must be positive, `static_dim` and `dynamic_dim` not negative. "
                f"Got {state_dim}, {time_step}, {static_dim} and {dynamic_dim}."
            )
        self.obs_shape = axis_sizes(obs_shape, "obs_shape")
        self.flow = Flow(state_dim, order=1) if flow is None else flow
        _refuse_adaptive(self.flow)
        if self.flow.solver is None:
            self.flow.solver = RK4(step_size=time_step)
        self.static_dim, self.dynamic_dim, self.time_step = static_dim, dynamic_dim, time_step
        size = self.flow.state_dim + self.flow.input_dim + dynamic_dim
        network = BayesianMLP(size, self.flow.dim, is_bayesian=False) if vector_field is None else vector_field
        self.flow.require_field(network, dynamic_dim)
        self.vector_field: VectorField = network
        self.initial_prior = StandardNormal() if initial_prior is None else initial_prior
        if has_restart_term and encoder is None:
            raise DataError("`has_restart_term` compares states with what `encoder` reads. Got no encoder. Pass one.")
        self.encoder, self.has_restart_term = encoder, has_restart_term
        self.has_guide = encoder is not None
        self.emission = frame_emission(self.obs_shape, self.flow.dim + static_dim, emission)
        self.known = KnownInputs(encoder, flow=self.flow, emission=self.emission)
        if encoder is not None and encoder.dim != self.dim:
            raise DataError(
                f"`encoder` must give the joint vector of state {self.flow.state_dim}, static part {static_dim} and "
                f"dynamic part {dynamic_dim}, together {self.dim}. Got an encoder of {encoder.dim}."
            )

    @property
    def dim(self) -> int:
        """Size of the joint vector: state, static and dynamic part."""
        return self.flow.state_dim + self.static_dim + self.dynamic_dim

    def model(self, data: Sequences) -> None:
        """Draw the joint vector of each series, solve the equation from its state, and emit."""
        self.bind()
        function = self.vector_field.prior()
        with self.series(data):
            initial = pyro.sample("initial", self.prior(data))
            state, static, dynamic = initial.split((self.flow.state_dim, self.static_dim, self.dynamic_dim), -1)
            if self.static_dim:
                static = pyro.deterministic("static", static, event_dim=1)
            if self.dynamic_dim:
                dynamic = pyro.deterministic("dynamic", dynamic, event_dim=1)
            steered = self._steered(function, dynamic)
            solution = self.flow(steered, state, self._times(data), inputs=self.known.for_part(self.flow, data))
            path = pyro.deterministic("path", solution.path, event_dim=2)
            self.observe(self.emission, self.known.beside(self._look(path, static), self.emission, data), data)

    def guide(self, data: Sequences) -> None:
        """Draw the joint vector from the encoder."""
        self.bind()
        self.vector_field.posterior()
        with self.series(data):
            pyro.sample("initial", self.encode(data))

    def prior(self, data: Sequences) -> dist.TorchDistribution:
        """Distribution of the joint vector of a series, (latent,): energy-based or Gaussian."""
        return self.initial_prior.distribution(data.values.new_zeros(self.dim))

    def encode(self, data: Sequences) -> dist.TorchDistribution:
        """Posterior of the joint vector given the seen steps: batch (series,), event (latent,)."""
        if self.encoder is None:
            raise UnsupportedError(
                "This model has no encoder, hence no guide. `SVI` needs one, `ODELEBM(..., encoder=RNNEncoder(...))`. "
                "Methods that run Langevin chains do not: `MaximumLikelihood(...)` and `MCMC(Langevin(), ...)`."
            )
        data = data.seen()
        mask, times = data.entry_mask, in_both(lambda times: times.expand(data.num_series, -1), self._times(data))
        read = self.encoder(data.values, mask, times, *self.known.read_by(self.encoder, data))
        return informed(read, self.prior(data), sight(self.encoder, mask))

    def regulariser(self, data: Sequences, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[str, Tensor]:
        r"""Training terms, (..., series) each, if switched on: ``restart`` and ``energy_penalty``.

        .. math::
            r_\text{restart} = \log q(z_0 \mid x) - \int_{t_0}^{t_k} \mathrm{tr}\, \frac{\partial f}{\partial z}\, dt
            - \log q(z_k \mid x_k, x_{k+1}, \dots), \qquad k \text{ random in the first half}

        A Monte Carlo estimate of the divergence of the posterior, transported to step k, from the encoder's posterior
        at step k given the rest of the series. Every intermediate state then follows the same law as an initial state,
        and a forecast beyond the training length meets states known from training. It resembles ODE2VAE's instant
        encoder, with the whole rest of the series in place of a window. At draws of chains, whose density is unknown,
        the first term is left out; it does not depend on any parameter there.
        """
        terms, site = {}, model_trace.nodes["initial"]
        if self.has_restart_term:
            terms["restart"] = self._restart(data, model_trace, guide_trace)
        return terms | self.initial_prior.terms(site["fn"], site["value"])

    def coords(self, data: Sequences) -> dict[str, list]:
        """Names of the entries of the state and of the joint vector."""
        parts = (("static", self.static_dim), ("dynamic", self.dynamic_dim))
        names = [f"{part}_{i}" for part, size in parts for i in range(size)]
        return {"state": list(self.flow.state_names), "latent": [*self.flow.state_names, *names]}

    def _times(self, data: Sequences) -> Tensor:
        return in_both(lambda times: self.time_step * times, self.exact_times(data))

    def _restart(self, data: Sequences, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> Tensor:
        """Log density (..., series) of the joint vector at a random step, minus the encoder's given the rest."""
        site = guide_trace.nodes["initial"]
        initial, length = site["value"], int(on_host(data.lengths).max())
        if length < 2:
            return initial.new_zeros(initial.shape[:-1])
        step = int(torch.randint(1, max(2, length // 2), ()))
        with poutine.block():
            function = poutine.replay(self.vector_field.prior, trace=model_trace)()
        state, static, dynamic = initial.split((self.flow.state_dim, self.static_dim, self.dynamic_dim), -1)
        times, inputs = self._times(data), self.known.for_part(self.flow, data)
        inputs = None if inputs is None else inputs[:, : step + 1]
        steered = self._steered(function, dynamic)
        moved = self.flow(steered, state, times[..., : step + 1], has_volume=True, inputs=inputs)
        assert moved.integral is not None and self.encoder is not None
        later = torch.cat([moved.path[..., -1, :], static, dynamic], -1)
        mask, times = data.entry_mask[:, step:], times.expand(data.num_series, -1)[:, step:]
        read = [known[:, step:] for known in self.known.read_by(self.encoder, data)]
        opinion = self.encoder(data.values[:, step:], mask, times, *read).log_prob(later)
        is_drawn_by_guide = not site["is_observed"]
        drawn = site["fn"].log_prob(initial) if is_drawn_by_guide else 0.0
        return torch.where(mask.flatten(1).any(1), drawn - moved.integral[..., -1] - opinion, 0.0)

    def _steered(self, function: FieldFunction, dynamic: Tensor) -> FieldFunction:
        return SteeredFunction(function, dynamic) if self.dynamic_dim else function

    def _look(self, states: Tensor, static: Tensor) -> Tensor:
        """Position and static part, (..., time, dim)."""
        position = self.flow.position(states)
        if not self.static_dim:
            return position
        return torch.cat([position, static[..., None, :].expand(*position.shape[:-1], -1)], -1)


def _refuse_adaptive(flow: Flow) -> None:
    if isinstance(flow.solver, Dopri5):
        raise UnsupportedError(
            "`flow` must have a fixed-step solver. Got Dopri5, whose steps follow the error of the whole batch: chains "
            "of one series would depend on those of the others, and one that runs away would stop them all. Use "
            "RK4(step_size=...)."
        )
