"""SRVP: a digit that bounces off in random directions; five frames seen, many futures for the next ten.

The future is not known, so that the mean of all is a blur: what counts is the best of many draws. Two minutes on one
CPU thread.
"""

# %% Options
import functools

import torch
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics, metrics
from pyro_seq.training import schedules

options = read(__doc__)

# %% Data: digits of 8 x 8 in frames of 16 x 16, made while training and without an end
train, _, test = ps.datasets.moving_digits(
    source=ps.datasets.BundledDigits(8), num_digits=1, size=16, time_step=0.5, num_test_steps=15, num_test=48
)
test = test[:].to(options.device)
print(train, test, sep="\n")

# %% Model: a state that moves by residuals under noise drawn once a frame, and a content that stays
torch.manual_seed(0)
model = ps.SRVP(
    (1, 16, 16),
    state_dim=16,
    noise_dim=8,
    content_dim=64,
    num_frames=5,
    hidden_dim=128,
    emission=ps.PixelEmission(scale=0.15),
    architecture=ps.DCGAN(channels=(16, 32), code_dim=64),
).to(options.device)

# %% Fit
num_steps = options.few(2_000)
schedule = schedules.FlatThenLinear(num_steps // 2, num_steps // 2)
method = ps.SVI(num_steps=num_steps, batch_size=16, learning_rate=2e-3, schedule=schedule, scales={"residual": 1.0})
posterior = ps.fit(model, train, method, trainer=options.trainer)

# %% Score: the best of fifty futures; a frame met exactly has no finite ratio, and counts 40 dB
psnr = ps.VideoMetric(functools.partial(metrics.psnr, cap=40.0), is_larger_better=True)
chosen, task = {"psnr": psnr, "ssim": ps.VideoMetric(metrics.ssim, is_larger_better=True)}, ps.Forecasting(5)
rows = [ps.evaluate_video(posterior, test, task, metrics=chosen, num_samples=options.few(50))]
for row in rows + ps.evaluate_video_baselines(train[:128].to(options.device), test, task, metrics=chosen):
    print(f"{row.name:24}", {name: f"{mean:.3f} +- {half:.3f}" for name, (mean, half) in row.means().items()})

# %% Picture: the truth, the best and the worst of the draws, and two at random
future = ps.forecast(posterior, test.first(5), horizon=10, num_samples=50)
frames = diagnostics.sample_rows(future, test.take_steps(torch.arange(5, 15)), series=0)
diagnostics.plot_sequences(frames, times=future.times).savefig(options.out / "futures.png", dpi=150)
print(f"written to {options.out / 'futures.png'}")
