"""What every example takes from the command line: a short run, a device, a folder for the picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch

import pyro_seq as ps


class Options(NamedTuple):
    """The three options, and the data where there is a choice.

    Attributes:
        smoke: Whether to take a few steps only, to see that everything runs.
        device: Where the model and the data live, ``"cpu"`` or ``"cuda"``.
        out: Folder for the picture; it exists.
        data: Which of several data sets.
    """

    smoke: bool
    device: str
    out: Path
    data: str = ""

    def few(self, number: int, smoke: int = 4) -> int:
        """The number, or the other one in a smoke run."""
        return smoke if self.smoke else number

    @property
    def trainer(self) -> ps.Trainer:
        """Trains on the device."""
        return ps.Trainer(accelerator=self.device)


def read(explanation: str | None, data: tuple[str, ...] = ()) -> Options:
    """The options of the command line; in a notebook the defaults. The first of several data sets is the default."""
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=explanation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if has_gpu else "cpu")
    parser.add_argument("--out", type=Path, default=Path("results") / Path(sys.argv[0]).stem, help="for the picture")
    if data:
        parser.add_argument("--data", choices=data, default=data[0])
    options = parser.parse_args([] if "ipykernel" in sys.modules else None)
    torch.set_num_threads(1)  # the tensors are small: threads would get in each other's way
    options.out.mkdir(parents=True, exist_ok=True)
    return Options(**vars(options))
