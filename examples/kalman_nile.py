"""The flow of the Nile: seventy years tell a level that drifts; what will the next thirty bring?

A linear Gaussian state-space model whose likelihood is exact: the states are integrated out, and NUTS samples the two
standard deviations that are left. A minute on one CPU thread.
"""

# %% Options
import pyro
import pyro.distributions as dist
import torch
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.ops.kalman import LinearGaussianParameters

options = read(__doc__)


# %% Model: x_t = level_t + noise, level_t = level_t-1 + drift; nothing is known of where the level starts
class LocalLevel(ps.SequenceModel):
    """A level that drifts; the only latents are the two standard deviations."""

    dims = {"scales": ("component",)}  # noqa: RUF012
    is_conditional = True  # nothing can be drawn before something is seen
    obs_shape = (1,)

    def model(self, data: ps.Sequences) -> None:
        """Scales of noise and drift, then the flow."""
        self.bind()
        one = torch.ones(1, 1).to(data.values)
        scales = pyro.sample("scales", dist.HalfNormal(200 * one[0].expand(2)).to_event(1))
        noise, drift = scales.square()[..., None, None].split(1, -3)  # (..., time 1, 1, 1): the same at all times
        parameters = LinearGaussianParameters(one, drift, one, noise, one[0], noise[..., 0, :, :], diffuse=one[0] > 0)
        path = LinearGaussian(parameters, data.num_steps, mask=data.entry_mask)
        with self.series(data):
            pyro.sample("x", path, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", path.future(data.values, data.horizon))


# %% Fit
data = ps.datasets.nile().to(options.device)
method = ps.MCMC(ps.NUTS(), num_samples=options.few(600), warmup_steps=options.few(200), num_chains=2)
posterior = ps.fit(LocalLevel(), data.first(70), method, trainer=options.trainer)
idata = diagnostics.to_arviz(posterior, data.first(70), groups=["posterior"])
print(diagnostics.summary(idata, ["scales"]).round(3).to_string())

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
