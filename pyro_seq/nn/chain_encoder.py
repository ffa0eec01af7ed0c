"""Causal encoder of the first state and the noise of a chain from the codes of frames."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._host import on_host
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.fused import run_recurrent
from pyro_seq.nn.known_inputs import keep_input_dim
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.transition import softplus_normal


@rebuildable
class ChainEncoder(nn.Module):
    r"""Gaussians over the first state, from the first k frames, and over each frame's noise, from the frames up to it.

    .. math::
        q(y_1 \mid x) = N\left(m(c_{1:k}),\ s(c_{1:k})^2\right), \qquad
        q(z_t \mid x) = N\left(m(h_t),\ s(h_t)^2\right), \quad h_t = \mathrm{LSTM}(c_t, h_{t-1})

    An unseen frame has the code of the last seen one, or zeros before the first. If none of the first k frames was
    seen, the model uses its prior for the first state.

    Args:
        code_dim: Size of the code c of a frame.
        state_dim: Size of the state y.
        noise_dim: Size of the noise z; 0 without any.
        num_frames: Number k of frames from which the first state is inferred.
        hidden_dim: Width of the layers and of the memory h.
        input_dim: Size of the inputs, which are read together with each code.

    References:
        Franceschi, Delasalles, Chen, Lamprier, Gallinari, "Stochastic latent residual video prediction", ICML 2020.
    """

    input_dim: int = 0

    def __init__(
        self,
        code_dim: int,
        state_dim: int,
        noise_dim: int,
        num_frames: int = 5,
        *,
        hidden_dim: int = 256,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        self.code_dim, self.state_dim, self.noise_dim, self.num_frames = code_dim, state_dim, noise_dim, num_frames
        keep_input_dim(self, input_dim)
        size = code_dim + input_dim
        self.first = mlp((size * num_frames, hidden_dim, hidden_dim, 2 * state_dim), nn.ReLU)
        if noise_dim:
            self.lstm = nn.LSTM(size, hidden_dim, batch_first=True)
            self.head = nn.Linear(hidden_dim, 2 * noise_dim)

    def initial(self, codes: Tensor, seen: Tensor, *inputs: Tensor) -> dist.TorchDistribution:
        """Distribution of the first state, batch (series,), event (state,), from codes (series, time, code)."""
        steps = torch.arange(self.num_frames, device=codes.device).clamp(max=codes.shape[1] - 1)
        read = softplus_normal(self.first(_steps(codes, seen, *inputs)[:, steps].flatten(1)).to(codes.dtype))
        return read.to_event(1)

    def noise(self, codes: Tensor, seen: Tensor, *inputs: Tensor) -> dist.Normal:
        """Distribution of the noise that leads to each frame, batch (series, time, noise)."""
        features, _ = run_recurrent(self.lstm, _steps(codes, seen, *inputs))
        return softplus_normal(self.head(features).to(codes.dtype))


def _steps(codes: Tensor, seen: Tensor, *inputs: Tensor) -> Tensor:
    """Held codes, joined with the inputs (series, time, input); later inputs are those of the last seen step."""
    held = hold(codes, seen)
    if not inputs:
        return held
    steps = torch.arange(seen.shape[1], device=seen.device)
    last = (seen * steps).amax(1, keepdim=True)
    known = inputs[0].gather(1, torch.minimum(steps, last)[..., None].expand(-1, -1, inputs[0].shape[-1]))
    return torch.cat([held, known.to(held.dtype)], -1)


def hold(codes: Tensor, seen: Tensor) -> Tensor:
    """Codes (series, time, code); a hidden frame has the code of the last `seen` one, or zeros before the first."""
    if bool(on_host(seen).all()):
        return codes
    steps = torch.arange(1, seen.shape[1] + 1, device=seen.device)
    last = (seen * steps).cummax(1).values
    held = codes.gather(1, (last - 1).clamp(min=0)[..., None].expand_as(codes))
    return torch.where((last > 0)[..., None], held, 0.0)
