"""The table of ODE2VAE says what was run, and says it as the files of results do."""

from __future__ import annotations

import json

import pytest

from benchmarks.tables import ode2vae
from benchmarks.tables._page import PAGE, README

KEPT = [data for data in ode2vae.TITLES if ode2vae.path_of(data).exists()]


@pytest.mark.parametrize("data", KEPT)
def test_the_page_shows_what_the_file_holds(data):
    page, record = PAGE.read_text(), ode2vae.record_of(data)
    for line in (*ode2vae.table(record, data), *ode2vae.section(data)):
        assert line in page
    for row in record["rows"]:
        assert f"{row['mse']:.4f}" in page and f"{row['crps']:.4f}" in page


@pytest.mark.parametrize("data", KEPT)
def test_seeds_are_counted(data):
    record = json.loads(ode2vae.path_of(data).read_text())
    own = record["rows"][0]
    said = ode2vae.seeds_of(record["seconds"])
    if len(record["seconds"]) > 1:
        assert f"{len(record['seconds'])} seeds; ± is the standard deviation over the seeds" in said
        assert len(own["mse_by_seed"]) == len(record["seconds"]) and "mse_sd" in own
    else:
        assert said.startswith("One seed") and "mse_sd" not in own


def test_walking_rows_name_their_field():
    readme = README.read_text()
    for data in [data for data in KEPT if data.startswith("mocap")]:
        assert data in ode2vae.FIELDS
        assert f"| `--data {data}` | {ode2vae.FIELDS[data]} |" in readme
        assert f"ODE2VAE, {ode2vae.FIELDS[data]} field" in "\n".join(ode2vae.section(data))
