"""Two processes on the CPU train like one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI

SCRIPT = """
import os, sys
sys.path.insert(0, {here!r})
import toy, torch
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training.trainer import Trainer

class Quiet(toy.Lines):
    # without noise, gradients of two processes and of one can be compared
    def guide(self, data):
        with torch.no_grad():
            self.encoder.weight[2:].zero_(); self.encoder.bias[2:] = -40.0; self.drift_log_scale.fill_(-40.0)
        super().guide(data)

class Noisy(toy.Lines):
    draws = []
    def guide(self, data):
        super().guide(data)
        self.draws.append(torch.randn(()).item())

folder = {out!r} + "/run"
trainer = Trainer(devices={devices}, accelerator="cpu", strategy={strategy!r}, progress=False, directory=folder)
torch.manual_seed(0)
model = Quiet()
method = SVI(num_steps=6, batch_size=5, learning_rate=1e-4, optimizer=torch.optim.SGD)
posterior = fit(model, toy.make_data(), method, trainer=trainer)
normalised = toy.Lines()
normalised.encoder = torch.nn.Sequential(torch.nn.BatchNorm1d(2 * toy.SEEN), normalised.encoder)
noisy = Noisy()
for other in (normalised, noisy):
    trainer = Trainer(devices={devices}, accelerator="cpu", progress=False)
    fit(other, toy.make_data(), SVI(num_steps=2), trainer=trainer)
rank = os.environ.get("LOCAL_RANK", "0")
states = dict(model.state_dict()), dict(normalised.state_dict())
torch.save([states[0], posterior.history, noisy.draws, states[1]], {out!r} + f"/rank{{rank}}.pt")
"""


def run(tmp_path: Path, devices: int) -> list:
    folder = tmp_path / str(devices)
    folder.mkdir()
    file = folder / "script.py"
    here = str(Path(__file__).parents[1])
    strategy = "ddp" if devices > 1 else "auto"
    file.write_text(SCRIPT.format(here=here, devices=devices, strategy=strategy, out=str(folder)))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(file)], env=environment, check=True, timeout=240)
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    [single] = run(tmp_path, 1)
    first, second = run(tmp_path, 2)
    for name, value in single[0].items():
        assert torch.equal(first[0][name], second[0][name])
        torch.testing.assert_close(first[0][name], value, rtol=1e-5, atol=1e-6)
    assert first[1] == second[1] and first[1].keys() == single[1].keys()  # means over both
    for name, figures in single[1].items():
        assert first[1][name] == pytest.approx(figures, rel=1e-4)
    assert first[3].keys() == second[3].keys()
    assert all(torch.equal(value, second[3][name]) for name, value in first[3].items())  # running statistics too
    assert first[2] != second[2]  # noise differs between devices
    assert sorted(path.name for path in (tmp_path / "2" / "run").iterdir()) == ["checkpoint.pt", "metrics.csv"]


DIES = """
import os, sys
sys.path.insert(0, {here!r})
import toy
import lightning.pytorch as lightning
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training.trainer import Trainer

class Dies(lightning.Callback):
    def on_train_batch_end(self, trainer, engine, *_):
        if engine.steps_done == 3 and trainer.global_rank == 1:
            os._exit(7)

trainer = Trainer(devices=2, accelerator="cpu", strategy="ddp", progress=False, callbacks=[Dies()])
fit(toy.make_lines(), toy.make_data(), SVI(num_steps=10**6, batch_size=4), trainer=trainer)
"""


@pytest.mark.slow
def test_the_end_of_one_process_is_the_end_of_the_other(tmp_path):
    """With an error, and soon: it does not wait for gradients that never come."""
    file = tmp_path / "script.py"
    file.write_text(DIES.format(here=str(Path(__file__).parents[1])))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(file)], env=environment, timeout=200, check=False, capture_output=True)
    assert done.returncode != 0


@pytest.mark.gpu
def test_gpu_trains_and_gives_the_model_back(toy):
    from pyro_seq.training.trainer import Trainer

    data, model = toy.make_data(), toy.make_lines()
    posterior = fit(model, data, SVI(num_steps=20, batch_size=4), trainer=Trainer(progress=False, accelerator="gpu"))
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    posterior.draws(data, 2)
    model.cuda()
    fit(model, data.to("cuda"), SVI(num_steps=5), trainer=Trainer(progress=False))
    assert {p.device.type for p in model.parameters()} == {"cuda"}
