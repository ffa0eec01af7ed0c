"""ODE2VAE: see five frames of a turning digit, forecast the other eleven with their uncertainty.

Fits by variational inference, scores beside what needs no model, draws a forecast. A minute on one CPU thread.
"""

# %% Options
import torch
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.training import schedules, views

options = read(__doc__)

# %% Data: digits of 8 x 8 pixels that turn once in 16 frames, from any angle
train, _, test = ps.datasets.rotating_digits(digits=range(10), num_train=1_400, num_test=200)
train, test = train.to(options.device), test.to(options.device)
print(train, test, sep="\n")

# %% Model: a latent position and velocity, moved by a Bayesian neural network, seen through a decoder
torch.manual_seed(0)
emission = ps.GaussianEmission(ps.MLPDecoder(16, (1, 8, 8), hidden_dims=(128,)))
model = ps.ODE2VAE(obs_shape=(1, 8, 8), state_dim=16, emission=emission, time_step=0.4).to(options.device)

# %% Fit: a turn ends where it began, so that any frame may come first
method = ps.SVI(
    num_steps=options.few(3_000),
    batch_size=50,
    learning_rate=3e-3,
    schedule=schedules.Cosine(3_000, warmup=200),
    clip_norm=5.0,
    average=0.995,
    views=[views.CyclicShift()],
)
posterior = ps.fit(model, train, method, trainer=options.trainer)

# %% Score: error, CRPS and coverage on digits that training never saw
task = ps.Forecasting(num_observed=5)
for row in [ps.evaluate(posterior, test, task), *ps.evaluate_baselines(train, test, task)]:
    print(f"{row.name:24}", {name: round(value, 4) for name, value in row.means().items()})

# %% Picture: truth, mean, three draws, and where they differ
prediction = ps.forecast(posterior, test.first(5), horizon=11, num_samples=100)
rows = diagnostics.frame_rows(prediction, test.take_steps(torch.arange(5, 16)), series=0)
diagnostics.plot_sequences(rows, times=prediction.times).savefig(options.out / "forecast.png", dpi=150)
print(f"written to {options.out / 'forecast.png'}")
