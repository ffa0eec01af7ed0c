"""``ChainPosterior``: a model whose latents are inferred anew, by Langevin chains, for whatever data it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.infer.chains import ChainPlan, reading
from pyro_seq.infer.langevin import Langevin
from pyro_seq.model import SequenceModel


@dataclass(eq=False)
class ChainPosterior:
    """Posterior by chains that run on any data when draws are asked for: inference at test time without a guide.

    The parameters stay as they are. Each series has chains of its own, given its seen steps only, so that a series of
    another data set, with other times and other gaps, is inferred like those of training.

    Cost: ``num_steps`` gradients, and more where a chain must give more draws than one, for every call of a verb.

    Args:
        model: The trained model; no latents that all series share.
        kernel: How chains start and step.
        num_steps: Steps before the first draw; step sizes are adapted in them.
        num_chains: Independent chains of each series. Draws are shared out among them, `spacing` steps apart.
        spacing: Steps between two draws of a chain.
        history: Figures of training by name.
        status: How training ended.
    """

    model: SequenceModel
    kernel: Langevin = Langevin()
    num_steps: int = 200
    num_chains: int = 4
    spacing: int = 5
    history: dict[str, list[float]] = field(default_factory=dict)
    status: str = "completed"

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""Latent sites given ``data.seen()``, (sample, series, \*event); one chain's draws follow another's."""
        num_chains = min(self.num_chains, num_samples)
        length = -(-num_samples // num_chains)
        kernel = replace(self.kernel, thinning=self.spacing)
        with reading(self.model), isolated_rng(seed):
            chains = kernel.chains(self.model, data.seen(), ChainPlan(length, self.num_steps, num_chains, seed))
        return {name: value.flatten(0, 1)[:num_samples] for name, value in chains.sites.items()}
