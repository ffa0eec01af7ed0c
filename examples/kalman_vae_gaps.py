"""Kalman VAE: fill in the pictures of a driven pendulum that were not seen.

Pictures become codes, codes follow a linear Gaussian state whose modes are mixed, and the smoother fills the gaps from
both sides. A minute on one CPU thread.
"""

# %% Options
import torch
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.training import schedules

options = read(__doc__)

# %% Data: 15 pictures of 16 x 16 pixels a series; the torque that drives the pendulum is known and comes as inputs
train, _, test = ps.datasets.torque_pendulum(num_validation=0, num_test=100)
train, test = train.to(options.device), test.to(options.device)
print(train, test, sep="\n")

# %% Model: two numbers tell where the bob is; four linear ways to move cover the circle
torch.manual_seed(0)
model = ps.KalmanVAE(
    train.obs_shape,
    dynamics=ps.MixedDynamics(code_dim=2, state_dim=3, num_modes=4, input_dim=1),
    encoder=ps.FrameEncoder(ps.MLPTrunk(1, train.obs_shape), 2),
    emission=ps.GaussianEmission(ps.MLPDecoder(2, train.obs_shape)),
).to(options.device)

# %% Fit: as in the paper, the pictures weigh 0.3, so that the codes learn to move
method = ps.SVI(
    num_steps=options.few(1_000),
    batch_size=50,
    learning_rate=7e-3,
    schedule=schedules.Cosine(1_000, warmup=50),
    clip_norm=150.0,
    scales={"x": 0.3},
)
posterior = ps.fit(model, train, method, trainer=options.trainer)

# %% Score: the hidden half of the pictures of other series
task = ps.Imputation(fraction=0.5)
for row in [ps.evaluate(posterior, test, task), *ps.evaluate_baselines(train, test, task)]:
    print(f"{row.name:24}", {name: round(value, 4) for name, value in row.means().items()})

# %% Picture: what was seen, the truth, the mean that fills the gaps, three draws, and where they differ
given = task.given(test)
rows = {"seen": given.values[0].masked_fill(~given.entry_mask[0], torch.nan)}
rows |= diagnostics.frame_rows(ps.impute(posterior, given, num_samples=100), test)
diagnostics.plot_sequences(rows).savefig(options.out / "gaps.png", dpi=150)
print(f"written to {options.out / 'gaps.png'}")
