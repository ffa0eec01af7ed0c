"""``ChainPosterior``: a model whose latents are inferred by new Langevin chains for any data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import UnsupportedError
from pyro_seq.infer.chains import ChainRun
from pyro_seq.infer.joint_target import langevin_target
from pyro_seq.infer.langevin import Langevin
from pyro_seq.model import SequenceModel
from pyro_seq.ops.langevin import MALA, ULA
from pyro_seq.posterior import history_text, in_short, reading

_SAMPLERS = {"MALA": MALA, "ULA": ULA}


@dataclass(eq=False, repr=False)
class ChainPosterior:
    """Posterior by chains that run on any data when draws are requested: inference at test time without a guide.

    The parameters are fixed. Each series has separate chains, given its seen steps only, so series of another data set,
    with other times and gaps, are inferred like training series. Latents that all series share, such as the weights of
    a Bayesian field, are drawn by the guide once per chain, and the chain targets the posterior given them.

    Cost: ``num_steps`` gradients per call of a verb, and more if a chain must give more than one draw.

    Args:
        model: The trained model.
        kernel: How chains start and step.
        num_steps: Steps before the first draw; step sizes adapt in them.
        num_chains: Independent chains per series; draws are divided among them, `spacing` steps apart. Use many if
            series share latents, because these are drawn once per chain.
        spacing: Steps between two draws of a chain.
        history: Training statistics by name.
        status: How training ended.
    """

    model: SequenceModel
    kernel: Langevin = Langevin()
    num_steps: int = 200
    num_chains: int = 4
    spacing: int = 5
    history: dict[str, list[float]] = field(default_factory=dict)
    status: str = "completed"

    def __repr__(self) -> str:
        return in_short(self, f"{self.num_chains} chains of {self.num_steps} steps", history_text(self.history))

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""Latent sites given ``data.seen()``: (sample, series, \*event), global ones (sample, 1, \*event).

        Draws are ordered by chain.
        """
        num_chains, length = self._shares(num_samples)
        kernel = replace(self.kernel, thinning=self.spacing)
        with reading(self.model), isolated_rng(seed):
            plan = ChainRun(length, self.num_steps, num_chains, seed, draws_shared=True)
            chains = kernel.chains(self.model, data.seen(), plan)
        flat = {name: value.flatten(0, 1)[:num_samples] for name, value in chains.sites.items()}
        return {name: value[:, None] if name in chains.global_sites else value for name, value in flat.items()}

    def shared_draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        """The shared latents of `draws`, (sample, 1, event), obtained without running chains."""
        num_chains, length = self._shares(num_samples)
        with reading(self.model), isolated_rng(seed):
            shared = langevin_target(self.model, data.seen(), num_chains).shared
        return {name: value.repeat_interleave(length, 0)[:num_samples] for name, value in shared.items()}

    def _shares(self, num_samples: int) -> tuple[int, int]:
        """Number of chains needed for `num_samples` draws, and draws per chain."""
        num_chains = min(self.num_chains, num_samples)
        return num_chains, -(-num_samples // num_chains)

    def options(self) -> dict[str, Any]:
        """Everything except the model, as plain data for a file."""
        kind = type(self.kernel.sampler)
        if _SAMPLERS.get(kind.__name__) is not kind:
            raise UnsupportedError(
                f"A file holds the samplers {sorted(_SAMPLERS)}. Got {kind.__name__}. Replace it by one of them before "
                "saving, or save the model's `state_dict()`."
            )
        start = self.kernel.start
        return {
            "sampler": {"kind": kind.__name__} | asdict(self.kernel.sampler),  # type: ignore[call-overload]
            "start": start if isinstance(start, str) else dict(start),
            "num_candidates": self.kernel.num_candidates,
            "has_scale": self.kernel.has_scale,
            "num_steps": self.num_steps,
            "num_chains": self.num_chains,
            "spacing": self.spacing,
            "history": self.history,
            "status": self.status,
        }

    @classmethod
    def from_options(cls, model: SequenceModel, options: Mapping[str, Any]) -> ChainPosterior:
        """Build the posterior from its `options`."""
        sampler = dict(options["sampler"])
        of_kernel = {name: options[name] for name in ("start", "num_candidates", "has_scale") if name in options}
        kernel = Langevin(_SAMPLERS[sampler.pop("kind")](**sampler), **of_kernel)
        names = ("num_steps", "num_chains", "spacing", "history", "status")
        return cls(model, kernel, **{name: options[name] for name in names})
