"""The table of SRVP: what is read from a record, and how it is written."""

from __future__ import annotations

import copy

import pytest

from benchmarks.tables import _page
from benchmarks.tables import srvp as table


def scores(psnr: float, ssim: float, horizons: tuple[int, ...]) -> dict:
    return {
        metric: {which: {str(horizon): [mean, 0.01] for horizon in horizons} for which in ("best", "mean")}
        for metric, mean in (("psnr", psnr), ("ssim", ssim))
    }


def record(horizons: tuple[int, ...], names: dict[str, tuple[float, float]]) -> dict:
    facts = {
        "num_digits": 2,
        "digit_size": 12,
        "size": 32,
        "steps": 10,
        "num_test": 4,
        "samples": 3,
        "repeated": 0.02,
        "seconds": 300,
    }
    cost = {"seconds": 120, "processor_seconds": 60, "parameters": 7}
    return facts | {
        "command": "python -m benchmarks.studies.srvp",
        "horizons": list(horizons),
        "costs": {name: cost for name in names},
        "scores": {name: scores(*pair, horizons) for name, pair in (names | {"last frame": (9.0, 0.2)}).items()},
        "frame_rates": {"trained rate": [15.0, 0.1], "doubled, between": [14.0, 0.1]},
    }


STOCHASTIC = record((20,), {"SRVP": (15.0, 0.5), "SRVP without noise": (14.0, 0.4)})
DETERMINISTIC = record((20, 95), {"SRVP": (13.0, 0.6), "MLP transition": (14.0, 0.5), "GRU transition": (12.0, 0.4)})


def test_rows_hold_means_and_intervals() -> None:
    lines = table.stochastic_section(STOCHASTIC)
    assert "| SRVP | 15.00 ± 0.01 | 15.00 ± 0.01 | 0.5000 ± 0.0100 | 0.5000 ± 0.0100 |" in lines
    assert "| doubled, between | 14.00 ± 0.10 |" in lines
    assert any("SRVP 1.0 (2.0)" in line for line in lines)
    assert any("2.0 % of" in line and "1.2 dB higher" in line for line in lines)
    assert "| last frame | 9.00 ± 0.01 | 0.2000 ± 0.0100 |" in table.summary(STOCHASTIC)


def test_ablation_stands_beside_the_published_figures_and_names_the_order_found() -> None:
    lines = table.ablation_section(DETERMINISTIC)
    (row,) = [line for line in lines if line.startswith("| MLP transition")]
    assert row.endswith("| 14.32 ± 0.06 | 0.6895 ± 0.0023 |") and row.count("14.00 ± 0.01") == 2
    assert "* PSNR, 95 frames: MLP transition, SRVP, GRU transition" in lines
    assert "* SSIM, 20 frames: SRVP, MLP transition, GRU transition" in lines
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert len(widths) == 1


def test_order_does_not_depend_on_the_order_of_the_record() -> None:
    turned = copy.deepcopy(DETERMINISTIC)
    turned["costs"] = dict(reversed(turned["costs"].items()))
    assert table.order(turned, "psnr", "20") == table.order(DETERMINISTIC, "psnr", "20")


@pytest.mark.parametrize("page", [_page.PAGE, _page.README], ids=["results", "readme"])
def test_pages_have_a_place_for_the_table(page) -> None:
    text = page.read_text()
    assert text.count("<!-- srvp -->") == text.count("<!-- end of srvp -->") == 1
