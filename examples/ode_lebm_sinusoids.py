"""ODE-LEBM: sine waves with half of their points hidden; chains at test time correct the encoder. Two minutes."""

# %% Options
import torch
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.training import schedules, views

options = read(__doc__)

# %% Data: waves of random frequency and level, at a hundred random times
train, _, test = ps.datasets.irregular_sinusoids(num_train=200, num_test=options.few(100))
train, test = train.to(options.device), test.to(options.device)

# %% Model: a first-order equation moves the state; the noise is small and fixed, for a large one would explain all
torch.manual_seed(0)
model = ps.ODELEBM(
    obs_shape=(1,),
    state_dim=10,
    flow=ps.Flow(10, order=1, solver=ps.RK4(step_size=1.0, is_dense=True)),
    vector_field=ps.BayesianMLP(10, 10, (50, 50), is_bayesian=False),
    encoder=ps.RNNEncoder((1,), 10),
    emission=ps.GaussianEmission(ps.MLPDecoder(10, (1,), ()), initial_scale=0.1),
).to(options.device)
model.emission.log_scale.requires_grad_(False)

# %% Fit: by the bound, then by chains; on other points of each wave at every step: 40, 50 and 60 in turn
method = ps.MaximumLikelihood(
    num_steps=options.few(3_100),
    warmup_steps=options.few(3_000, smoke=2),
    batch_size=50,
    kernel=ps.Langevin(start="guide"),
    chain_steps=5,
    guide_loss="draws",
    learning_rate=5e-3,
    schedule=schedules.Cosine(3_100, warmup=100, final=0.02),
    clip_norm=5.0,
    views=[views.GrowingLength(25, full_at=1_500), views.RandomSteps(lambda step: 40 + 10 * (step % 3))],
)
posterior = ps.fit(model, train, method, trainer=options.trainer)

# %% Score: half of the points are hidden; the encoder alone, then chains that start at the best of its draws
task, kernel = ps.Imputation(fraction=0.5), ps.Langevin(start="guide", num_candidates=64)
chains = ps.ChainPosterior(model, kernel, num_steps=options.few(60), num_chains=8)
ways = {"encoder": ps.GuidePosterior(model), "chains": chains}
scores = [ps.evaluate(way, test, task)._replace(name=name) for name, way in ways.items()]
for row in scores + ps.evaluate_baselines(train, test, task):
    print(f"{row.name:24}", {name: round(value, 4) for name, value in row.means().items()})

# %% Picture: the first wave as each of the two sees it
for name, way in ways.items():
    prediction = ps.reconstruct(way, task.given(test))
    figure = diagnostics.plot_forecast_fan(prediction, task.given(test), names=[name])
    figure.set_size_inches(7, 3.2)
    figure.savefig(options.out / f"{name}.png", dpi=150)
