"""A Bayesian field by a guide and by Markov chains: what is known of it where data were, and where none were."""

# %% Options
import torch
from _options import read
from matplotlib import pyplot

import pyro_seq as ps
from pyro_seq import diagnostics

options = read(__doc__)

# %% Data: 20 steps of five swings, of which 12 are seen
generator = torch.Generator().manual_seed(1)
times, start = 0.4 * torch.arange(20.0), 1.2 * torch.randn(5, 2, generator=generator)
flow = torch.linalg.matrix_exp(times[:, None, None] * torch.tensor([[0.0, 1.0], [-1.0, -0.2]]))
swings = (start @ flow[:, 0].mT)[..., None] + 0.2 * torch.randn(5, 20, 1, generator=generator)
whole = ps.Sequences(swings, times=times).to(options.device)
seen, task, few = whole.first(12), ps.Forecasting(num_observed=12), options.few(400)

# %% Model: the acceleration is linear in place and speed, with random weights; (5,) in place of () makes it a network
torch.manual_seed(0)
parts = {"vector_field": ps.BayesianMLP(2, 1, ()), "encoder": ps.RNNEncoder((1,), 2), "time_step": 0.4}
model = ps.ODE2VAE((1,), 1, emission=ps.GaussianEmission(torch.nn.Identity()), **parts).to(options.device)

# %% Fit: a guide, and chains that start at its draws
guide = ps.fit(model, seen, ps.SVI(num_steps=options.few(6_000), learning_rate=1e-2), trainer=options.trainer)
method = ps.MCMC(ps.ChEES(full_mass=True), num_samples=few, warmup_steps=few, num_chains=8, start=guide)
chains = ps.fit(model, seen, method, trainer=options.trainer)

# %% Table: forecasts, the acceleration at rest inside and outside of the places that were seen, mixing
places, units = torch.linspace(-3, 3, 25), model.emission.units.cpu()
probes = torch.stack([units(places[:, None])[:, 0], torch.zeros(25)], 1)  # in the model's own units
inside, bands = (places >= seen.values.min().cpu()) & (places <= seen.values.max().cpu()), {}
for name, fitted in (("guide", guide), ("chains", chains)):
    latents = ps.reconstruct(fitted, seen, num_samples=8 * few)
    draws = units.unit * diagnostics.field_at(model, latents, probes)[..., 0].cpu()
    low, middle, high = bands[name] = draws.quantile(torch.tensor([0.05, 0.5, 0.95]), 0)
    print(name, ps.evaluate(fitted, whole, task, num_samples=200).means())
    for place, chosen in (("inside", inside), ("outside", ~inside)):
        error = (middle + places)[chosen].square().mean().sqrt()
        print(f"  field {place}: error {error:.3f}, width {(high - low)[chosen].mean():.3f}")
print(*(f"{row.name} {row.means()}" for row in ps.evaluate_baselines(seen, whole, task)), sep="\n")
ahead = ps.forecast(chains, seen, horizon=8, num_samples=8 * few).emission_means[..., 0].cpu()
idata = ps.to_arviz(chains, seen, probes=probes[inside], extra={"ahead": (ahead, ("swing", "step"))})
print(diagnostics.summary(idata, ["field", "ahead"])[["rhat", "ess_bulk"]].agg(["min", "max"]))

# %% Picture: the field, forecasts of one swing, traces and ranks over chains at one probe
figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained")
for low, middle, high in bands.values():
    axes[0, 0].plot(places, middle, "-", places, -places, "k--")
    axes[0, 0].fill_between(places, low, high, alpha=0.3)
axes[0, 1].plot(times[12:], ahead[::few, 0].T, "C1", alpha=0.5)
axes[0, 1].plot(times, whole.values[0].cpu(), "k.")
trace = idata["posterior"]["field"].values[..., 0, 0]  # (chain, draw)
axes[1, 0].plot(trace.T, linewidth=0.5)
axes[1, 1].hist(trace.ravel().argsort().argsort().reshape(trace.shape).T, histtype="step")
titles = ("acceleration at rest: guide, chains, truth", "forecasts of the first swing", "traces", "ranks")
axes = [axis.set_title(title) for axis, title in zip(axes.flat, titles, strict=True)]
figure.savefig(options.out / "field.png", dpi=150)
