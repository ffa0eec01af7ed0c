"""The gated unit of the Latent ODE paper, from its equations, and inside the encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq.errors import DataError
from pyro_seq.nn.mean_deviation import MeanDeviationCell
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.ode_rnn import GaussianHead
from pyro_seq.ops.odeint import Euler

F64 = torch.float64
OBS, DIM, LATENT = 2, 3, 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def make_encoder(solver: Euler = Euler()) -> ps.ODERNNEncoder:
    torch.manual_seed(0)
    cell = MeanDeviationCell(2 * OBS, DIM, num_units=7)
    head = nn.Sequential(nn.Linear(2 * DIM, 6), nn.Tanh(), GaussianHead(6, LATENT))
    field = mlp((DIM, 5, DIM))
    return ps.ODERNNEncoder((OBS,), LATENT, hidden_dim=DIM, cell=cell, head=head, field=field, solver=solver).double()


def perceptron(layers: nn.Sequential, inputs: list[float]) -> list[float]:
    (a, b), (c, d) = ((layer.weight, layer.bias) for layer in (layers[0], layers[2]))
    return (c @ torch.tanh(a @ torch.tensor(inputs, dtype=F64) + b) + d).tolist()


def by_hand(cell: MeanDeviationCell, x: list[float], mean: list[float], deviation: list[float]) -> list[float]:
    """Number by number."""
    update, reset = (
        [1 / (1 + torch.tensor(-gate, dtype=F64).exp().item()) for gate in perceptron(layers, mean + deviation + x)]
        for layers in (cell.update, cell.reset)
    )
    kept = [r * m for r, m in zip(reset, mean, strict=True)] + [r * s for r, s in zip(reset, deviation, strict=True)]
    new = perceptron(cell.proposal, kept + x)
    dim = len(mean)
    means = [(1 - u) * n + u * m for u, n, m in zip(update, new[:dim], mean, strict=True)]
    return means + [abs((1 - u) * abs(n) + u * s) for u, n, s in zip(update, new[dim:], deviation, strict=True)]


@torch.no_grad()
def test_it_is_its_equations() -> None:
    cell = make_encoder().cell
    features, memory = normal(5, 2 * OBS), normal(5, 2 * DIM, seed=1)
    found = cell(features, memory)
    for row, x, before in zip(found, features.tolist(), memory.tolist(), strict=True):
        wanted = torch.tensor(by_hand(cell, x, before[:DIM], before[DIM:]), dtype=F64)
        torch.testing.assert_close(row, wanted, rtol=1e-12, atol=1e-12)
    assert bool((found[:, DIM:] >= 0).all())


@torch.no_grad()
def test_the_encoder_moves_the_mean_and_keeps_the_deviation() -> None:
    """Backwards over three steps, the middle one hidden and one entry of the first: Euler's steps and jumps by hand."""
    frames, times = normal(1, 3, OBS), torch.tensor([[0.0, 0.4, 1.0]], dtype=F64)
    mask = torch.tensor([[[True, False], [False, False], [True, True]]])
    frames = frames * mask
    encoder = make_encoder(Euler(0.25))
    x = torch.cat([frames, mask], -1)[0].tolist()
    memory = by_hand(encoder.cell, x[2], [0.0] * DIM, [0.0] * DIM)
    mean, deviation = torch.tensor(memory[:DIM], dtype=F64), memory[DIM:]
    for count, interval in ((3, 0.6), (2, 0.4)):
        for _ in range(count):
            mean = mean + interval / count * torch.tensor(perceptron(encoder.field, mean.tolist()), dtype=F64)
    memory = torch.tensor(by_hand(encoder.cell, x[0], mean.tolist(), deviation), dtype=F64)
    torch.testing.assert_close(encoder.memories(frames, mask, times)[0, -1], memory, rtol=1e-12, atol=1e-12)
    wanted, found = encoder.head(memory[None]).base_dist, encoder(frames, mask, times).base_dist
    torch.testing.assert_close(found.loc, wanted.loc, rtol=1e-12, atol=1e-12)


def test_a_model_with_the_parts_of_the_paper_is_restored_by_its_file(tmp_path) -> None:
    torch.manual_seed(0)
    encoder = make_encoder().float()
    times = torch.rand(4, 6, dtype=F64, generator=torch.Generator().manual_seed(0)).add(0.1).cumsum(-1)
    data = ps.Sequences(normal(4, 6, OBS).float(), times=times)
    method, quiet = ps.SVI(num_steps=2), ps.Trainer(progress=False, accelerator="cpu")
    posterior = ps.fit(ps.ODELEBM((OBS,), LATENT, encoder=encoder), data, method, trainer=quiet)
    ps.save(posterior, tmp_path / "file.pt")
    again = ps.load(tmp_path / "file.pt")
    there, here = (ps.reconstruct(one, data, num_samples=2).emission_means for one in (again, posterior))
    assert torch.equal(there, here)


@pytest.mark.parametrize(
    "cell", [MeanDeviationCell(OBS, DIM), nn.GRUCell(2 * OBS, DIM - 1), nn.Linear(2 * OBS, DIM)], ids=str
)
def test_cells_of_other_sizes_are_refused(cell: nn.Module) -> None:
    with pytest.raises(DataError, match=r"`cell` must have `input_size` 4, .*`hidden_size` 3"):
        ps.ODERNNEncoder((OBS,), LATENT, hidden_dim=DIM, cell=cell)
    with pytest.raises(DataError, match="must be positive. Got 4, 0 and 100"):
        MeanDeviationCell(4, 0)
