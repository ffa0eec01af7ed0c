"""The flow of the Nile: seventy years tell a level that drifts; what will the next thirty bring?

A structural time series whose likelihood is exact: the states are integrated out, and NUTS samples the two standard
deviations that are left. A minute on one CPU thread.
"""

# %% Options
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.nn.components import Level

options = read(__doc__)


# %% Fit: flow_t = level_t + noise, level_t = level_t-1 + drift; nothing is known of where the level starts
data = ps.datasets.nile().to(options.device)
method = ps.MCMC(ps.NUTS(full_mass=True), num_samples=options.few(600), warmup_steps=options.few(200), num_chains=2)
model = ps.StructuralSeries(Level()).to(data.values)
posterior = ps.fit(model, data.first(70), method, trainer=options.trainer)
idata = diagnostics.to_arviz(posterior, data.first(70), groups=["posterior"])
print(diagnostics.summary(idata, ["level_scale", "noise_scale"]).round(3).to_string())

# %% Score
task = ps.Forecasting(num_observed=70)
for row in [ps.evaluate(posterior, data, task, num_samples=1_000), *ps.evaluate_baselines(data.first(70), data, task)]:
    print(f"{row.name:16}", {name: round(value, 3) for name, value in row.means().items()})

# %% Picture
prediction = ps.forecast(posterior, data.first(70), times=data.times[70:], num_samples=1_000)
figure = diagnostics.plot_forecast_fan(prediction, data, num_observed=70, names=["flow"], value_label="10$^8$ m$^3$")
figure.set_size_inches(7, 3.2)
figure.savefig(options.out / "forecast.png", dpi=150)
print(f"written to {options.out / 'forecast.png'}")
