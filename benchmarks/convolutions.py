"""SRVP's tuned convolutions and normalisations on a processor, beside torch's own: layer by layer, and whole steps.

The layers are those of a training step of SRVP for which there is a tuned routine, with the images that reach them: at
the paper's size (64 x 64) and at that of the example (32 x 32), 16 clips of 15 frames, DCGAN networks. "Not taken"
marks where the library calls torch. Each is run forward and backward. Torch's own are the same layers on the same
images, channels last, with the routine switched off; there its normalisation loses digits, so steps are timed with its
channels first, too. Values and gradients must agree in double precision before anything is timed.

Ratios are torch's time on the processor over the tuned routine's, medians of interleaved repeats on one thread; above 1
the tuned routine is faster. Errors are relative to double precision, the larger of values and gradients.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._measure import device_name, folder, gap, interleave, options, require_equal
from benchmarks._srvp_baseline import Sizes
from benchmarks._srvp_task import Task
from pyro_seq.nn import normalised
from pyro_seq.nn.image_coding import Convolution
from pyro_seq.nn.normalised import Rectified
from pyro_seq.nn.tuned.columns import Window

SIZES = {"64 x 64": Sizes(), "32 x 32": Sizes((1, 32, 32), (16, 32, 64), 64, 16, 8, 64, 5, 128)}
PRECISIONS = ("float32", "bfloat16")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
DOUBLE = 1e-10
SWITCHES = {
    "gathered": (Window, "is_better_gathered"),
    "spread": (Window, "is_better_spread"),
    "normalised": (normalised, "is_better_in_one_pass"),
}


@dataclass(frozen=True)
class Ratio:
    """How much longer torch takes, and in single precision how far either is from the value in double precision."""

    name: str
    precision: str
    ratio: float
    error: float | None = None
    error_of_torch: float | None = None


def main() -> None:
    quick = options("convolutions", __doc__).quick
    num_series, num_steps = (4, 6) if quick else (16, 15)
    rows: list[Ratio] = []
    for size, sizes in SIZES.items():
        check_step(sizes)
        for precision in PRECISIONS:
            task = Task(sizes, num_series, num_steps, is_mixed=precision == "bfloat16")
            rows += layer_rows(size, precision, task, 2 if quick else 5)
            rows += step_rows(size, precision, task, 2 if quick else 5)
    report(rows)


@contextmanager
def taken(is_taken: bool, *kinds: str) -> Iterator[None]:
    """Tuned routines of those kinds are always taken, or never."""
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(mock.patch.object(*SWITCHES[kind], lambda *_: is_taken))
        yield


def layer_rows(size: str, precision: str, task: Task, repeats: int) -> list[Ratio]:
    """Forward and backward of each layer of a training step that takes a tuned routine."""
    rows = []
    for kind, is_taken, layer, images in layers(task):
        shape = " x ".join(str(length) for length in images.shape)
        name = f"{size}, {kind}, {shape}{_target(layer)}" + ("" if is_taken else ", not taken")
        slope = random_slope(layer, images)
        exact = copy.deepcopy(layer).double()
        few = exact, images[:16].double(), slope[:16].double()
        require_equal(name, *(run(*few, kind, is_tuned) for is_tuned in (True, False)), DOUBLE)
        errors: list[float] = []
        if precision == "float32":
            true = run(exact, images.double(), slope.double(), kind, True)
            errors = [gap(run(layer, images, slope, kind, is_tuned), true) for is_tuned in (True, False)]
        with autocast(precision):
            call = partial(run, layer, images, slope.to(layer(images).dtype), kind)
            times = interleave({"tuned": partial(call, True), "torch": partial(call, False)}, repeats)
        rows.append(Ratio(name, precision, times["torch"].cpu / times["tuned"].cpu, *errors))
        print(_line(rows[-1]), flush=True)
    return rows


def step_rows(size: str, precision: str, task: Task, repeats: int) -> list[Ratio]:
    """A training step with torch's own in place of some routines."""
    sides: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "all": lambda: taken(False, *SWITCHES),
        "convolutions": lambda: taken(False, "gathered", "spread"),
        "normalised": lambda: taken(False, "normalised"),
        "normalised with its channels first": channels_first,
    }
    calls = {side: partial(_within, make, task) for side, make in {"": nullcontext, **sides}.items()}
    times = interleave(calls, repeats)
    rows = [Ratio(f"{size}, training step, {side}", precision, times[side].cpu / times[""].cpu) for side in sides]
    for row in rows:
        print(_line(row), flush=True)
    return rows


def _within(replaced: Callable[[], AbstractContextManager[object]], task: Task) -> None:
    with replaced():
        task.library()


def channels_first() -> AbstractContextManager[object]:
    """Torch's own normalisation in the layout in which it loses no digits."""

    def forward(layer: Rectified, images: Tensor) -> Tensor:
        result = functional.leaky_relu(layer.norm(images.contiguous()), layer.slope)
        return result.contiguous(memory_format=torch.channels_last)

    return mock.patch.object(Rectified, "forward", forward)


def check_step(sizes: Sizes) -> None:
    """Stop unless loss and gradients of a step are the same with torch's own."""
    found = []
    for kinds in ((), tuple(SWITCHES)):
        task = Task(sizes, 4, 6, dtype=torch.float64)
        with taken(False, *kinds), torch.random.fork_rng():
            torch.manual_seed(1)
            loss = task.library()
        found.append([loss, *(own.grad for own, *_ in task.pairs if own.grad is not None)])
    require_equal("training step", *found, DOUBLE)


def layers(task: Task) -> list[tuple[str, bool, nn.Module, Tensor]]:
    """Kind of the routine, whether it is taken, a copy of the layer and the images that reach it, in a step's order."""
    found: list[tuple[str, bool, nn.Module, Tensor]] = []

    def record(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        images = arguments[0]
        if isinstance(layer, Rectified):
            is_taken = normalised.is_better_in_one_pass(layer.norm, images)
            found.append(("normalised", is_taken, layer, images.detach().clone()))
        elif isinstance(layer, Convolution) and min(images.shape[2:]) <= (4 if layer.is_transposed else 8):
            window = Window(layer.weight.shape[1], layer.stride, layer.padding)
            kind = "spread" if layer.is_transposed else "gathered"
            found.append((kind, getattr(window, SWITCHES[kind][1])(images), layer, images.detach().clone()))

    hooks = [layer.register_forward_pre_hook(record) for layer in task.model.modules()]
    task.library()
    for hook in hooks:
        hook.remove()
    return [(kind, is_taken, copy.deepcopy(layer), images) for kind, is_taken, layer, images in found]


def random_slope(layer: nn.Module, images: Tensor) -> Tensor:
    """A gradient of the layer's result."""
    shape = copy.deepcopy(layer)(images.float()).shape
    slope = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return slope.contiguous(memory_format=torch.channels_last)


def run(layer: nn.Module, images: Tensor, slope: Tensor, kind: str, is_tuned: bool) -> list[Tensor]:
    """Values and gradients of the layer, by the tuned routine of that kind or by torch's own."""
    images = images.detach().requires_grad_()
    with taken(is_tuned, kind):
        result = layer(images)
    return [result, *torch.autograd.grad(result, [images, *layer.parameters()], slope)]


def autocast(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()


def report(rows: list[Ratio]) -> None:
    """Write ``convolutions.json``, and say where it was measured."""
    facts = {
        "torch": torch.__version__,
        "device": device_name(),
        "flags": processor_flags(),
        "threads": torch.get_num_threads(),
        "command": " ".join(["python -m benchmarks.convolutions", *sys.argv[1:]]),
    }
    path = folder() / "convolutions.json"
    path.write_text(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print(
        f"torch {facts['torch']}, {facts['device']}, {' '.join(processor_flags())}, {facts['threads']} thread. {path}"
    )


def processor_flags() -> list[str]:
    """Those of `FLAGS` that the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    found = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in FLAGS if flag in found]


def _target(layer: nn.Module) -> str:
    return f" to {layer.weight.shape[3 if layer.is_transposed else 0]}" if isinstance(layer, Convolution) else ""


def _line(row: Ratio) -> str:
    errors = "" if row.error is None else f"   error {row.error:.0e}, torch's {row.error_of_torch:.0e}"
    return f"{row.name:60s}{row.precision:10s}{row.ratio:6.2f}{errors}"


if __name__ == "__main__":
    main()
