"""DynamicFactors: intensive-care stays in clinical units, most entries missing. Fill the gaps, forecast. Half a minute.

`--data physionet`: 1000 real stays of the PhysioNet challenge of 2012, whose folder PYRO_SEQ_DATA names; two minutes.
"""

# %% Options
import pandas as pd
import torch
from _options import read

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.training import schedules

options = read(__doc__, data=("simulated", "physionet"))

# %% Data: tables with a row for each stay and time, NaN where nothing was measured; numbers as they are on a chart
if options.data == "simulated":
    splits = ps.datasets.intensive_care_stays(num_validation=0, num_test=options.few(100))
    names, static = list(splits.test.labels.variables[:6]), list(splits.test.labels.static)
    shown, units = names, "1/min, mmHg, °C, , mmol/l, 1000/µl"
else:
    splits = ps.datasets.physionet_2012(minutes_per_step=60, num_series=options.few(1000, 40), normalise=False)
    names, static = list(splits.test.labels.variables[5:]), []
    shown, units = ["HR", "MAP", "Temp", "GCS", "Glucose", "Urine"], "1/min, mmHg, °C, , mg/dl, ml"
roles = {"series": "series", "time": "time", "values": names, "static": static}
train, test = (ps.Sequences.from_dataframe(splits[part].to_dataframe(), **roles).to(options.device) for part in (0, 2))
if static:
    train, test = train.with_static_as_inputs(), test.with_static_as_inputs()

# %% Fit: each variable has its own unit, and the posterior is exact, so that there is little to choose
torch.manual_seed(0)
model = ps.DynamicFactors(test.obs_shape, 6 if static else 12, input_dim=len(static)).to(options.device)
steps = options.few(100)
method = ps.SVI(num_steps=steps, batch_size=64, learning_rate=0.05, schedule=schedules.Cosine(steps))
posterior = ps.fit(model, train, method, trainer=options.trainer)

# %% Score by variable, in its own unit: three in ten measurements hidden, then the second half of each stay
gaps = ps.Imputation(0.3, num_kept=0, is_by_entry=True)
for task in (gaps, ps.Forecasting(test.num_steps // 2)):
    scores, rivals = ps.evaluate(posterior, test, task), ps.evaluate_baselines(train, test, task)
    table = {row.name: row.table()["rmse"] for row in rivals if row.name != "nearest training series"}
    own = scores.table()
    table |= {"RMSE": own["rmse"], "CRPS": own["crps"], "90 % holds": own["coverage_90"]}
    print(task, pd.DataFrame(table).set_axis(names).round(3).to_string(), sep="\n")

# %% Picture: one stay; dots were seen, rings were hidden
stay = int(gaps.scored(test).flatten(1).sum(1).argmax())
given, hidden = gaps.given(test)[[stay]], gaps.scored(test)[stay].cpu()
entries = [names.index(name) for name in shown]
titles = [
    f"{name.replace('_', ' ')}{unit and f' ({unit})'}" for name, unit in zip(shown, units.split(", "), strict=True)
]
chart = ps.reconstruct(posterior, given, num_samples=500)
figure = diagnostics.plot_forecast_fan(chart, given, entries=entries, names=titles, unit="h")
for panel, entry in zip(figure.axes, entries, strict=True):
    where = hidden[:, entry]
    panel.plot(given.times[0].cpu()[where], test.values[stay, :, entry].cpu()[where], "o", mfc="w", mec="k", ms=3)
figure.savefig(options.out / "stay.png", dpi=150)
print(f"written to {options.out / 'stay.png'}")
