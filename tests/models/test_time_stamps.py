"""Time stamps that only double precision tells apart, through every model that reads them."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError
from pyro_seq.nn.conv import ConvDecoder, ConvTrunk
from pyro_seq.nn.subpixel import SubPixelDecoder

QUIET = ps.Trainer(progress=False)
START = 1.7e9
STAMPS = {
    "bursts of a millisecond, once an hour": [h * 3600 + 0.001 * i for h in range(0, 25, 6) for i in range(4)],
    "pairs a minute apart": np.cumsum(np.where(np.arange(24) % 2 == 0, 1e-3, 60.0)),
    "a second time a year later": np.concatenate([np.arange(8.0), 3.15e7 + np.arange(8.0)]),
    "since 1970": START + np.cumsum(np.where(np.arange(15) % 3 == 0, 0.01, 900.0)),
}
BURSTS = ("bursts of a millisecond, once an hour", "a second time a year later")
MODELS = {
    "ODE2VAE": lambda: ps.ODE2VAE((1,), 2),
    "RNNEncoder": lambda: ps.ODELEBM((1,), 2, encoder=ps.RNNEncoder((1,), 2)),
    "ODERNNEncoder": lambda: ps.ODELEBM((1,), 2, encoder=ps.ODERNNEncoder((1,), 2)),
    "images": lambda: ps.ODE2VAE((1, 8, 8), 2),
}


def data_at(times, obs_shape=(1,), num_series: int = 2) -> ps.Sequences:
    generator = torch.Generator().manual_seed(0)
    return ps.Sequences(torch.rand(num_series, len(times), *obs_shape, generator=generator), times=times)


@pytest.mark.parametrize("stamps", STAMPS)
@pytest.mark.parametrize("name", MODELS)
def test_models_in_single_precision_take_them(name: str, stamps: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    data = data_at(STAMPS[stamps], model.obs_shape)
    with pytest.warns(UserWarning, match="unit of time is now") if stamps in BURSTS else nullcontext():
        posterior = ps.fit(model, data, ps.SVI(num_steps=1), trainer=QUIET)
    assert posterior.status == "completed"
    assert ps.reconstruct(posterior, data, num_samples=2).samples.isfinite().all()


def test_differences_are_formed_before_they_are_converted() -> None:
    """Two steps a millisecond apart, after 25 hours: in single precision they are one."""
    times = torch.tensor([0.0, 9e4, 9e4 + 1e-3], dtype=torch.float64)
    gaps = ps.ODE2VAE((1,), 2).exact_times(data_at(times)).diff()
    torch.testing.assert_close(gaps[1], torch.tensor(1e-3, dtype=torch.float64), rtol=1e-6, atol=0)
    seen: list[torch.Tensor] = []

    class Spy(ps.RNNEncoder):
        def forward(self, frames, mask, times):
            seen.append(times)
            return super().forward(frames, mask, times)

    model = ps.ODELEBM((1,), 2, encoder=Spy((1,), 2), time_step=1.0)
    model.encode(data_at(times))
    assert seen[0].dtype == torch.float64 and float(seen[0][0].diff()[-1]) == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("rate", [10.0, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("name", ["KalmanVAE", "RecurrentVAE", "SRVP"])
def test_even_stamps_are_even_however_they_are_rounded(name: str, rate: float) -> None:
    """Seconds since 1970 are rounded to 2.4e-7."""
    times = START + np.arange(12) / rate
    if name == "SRVP":
        small = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: torch.nn.GroupNorm(1, channels))
        model = ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=4, num_frames=3, hidden_dim=8, architecture=small)
    else:
        model = getattr(ps, name)((2,))
    data = data_at(times, model.obs_shape)
    model.adapt(data)
    model.check(data)
    uneven = times.copy()
    uneven[5] += 0.05 / rate
    if rate < 1e5:  # there 0.05 of a step is within the rounding
        with pytest.raises(DataError, match="evenly spaced"):
            model.check(data_at(uneven, model.obs_shape))


@pytest.mark.parametrize(
    "make", [lambda shape: ConvTrunk(1, shape), lambda s: ConvDecoder(2, s), lambda s: SubPixelDecoder(2, s)]
)
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 24, 1), (8, 8, 4)])
def test_frames_that_end_with_their_channels_are_refused(make, shape: tuple[int, ...]) -> None:
    with pytest.raises(ps.errors.ShapeError, match=r"looks like \(height, width, channel\).*movedim\(-1, -3\)"):
        make(shape)
    make((shape[-1], *shape[:-1]))


@pytest.mark.parametrize("model", [ps.ODE2VAE, ps.ODELEBM, ps.KalmanVAE, ps.RecurrentVAE])
def test_no_model_takes_rows_for_channels(model) -> None:
    with pytest.raises(ps.errors.ShapeError, match="looks like"):
        model((16, 16, 3))
    for shape in ((16, 4, 4), (3, 16, 16), (1, 8, 8)):
        assert model(shape).obs_shape == shape


@pytest.mark.parametrize("model", [ps.ODE2VAE, ps.ODELEBM, ps.KalmanVAE, ps.RecurrentVAE, ps.SRVP])
@pytest.mark.parametrize("shape", [2, (), (0,), (2.5,), "2", None])
def test_the_shape_of_an_observation_is_a_sequence_of_sizes(model, shape) -> None:
    with pytest.raises(ps.DataError, match="`obs_shape` must be"):
        model(shape)
