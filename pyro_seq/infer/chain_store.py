"""``ChainStore``: what the posterior chains of every training series remember from one visit to the next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq._host import on_host
from pyro_seq._nonfinite import is_chanced

_GAIN = 0.5  # of a step size on the log scale, at full distance from the wanted acceptance


class ChainStore(nn.Module):
    r"""Step sizes and, where chains are persistent, their places, of each series of a training set.

    Step sizes follow the acceptance of each visit,

    .. math::
        \log s_i \leftarrow \log s_i + \tfrac12 (\bar\alpha_i - \delta)

    where the mean over a batch moves the step sizes of all series, so that those seen rarely are not left behind. All
    of it is buffers, and so part of a checkpoint.

    Args:
        num_series: Series of the training set.
        num_chains: Chains of each.
        num_entries: Numbers in a chain's vector; 0 keeps no places.
        step_size: First step size.
        dtype: Of the vectors.
    """

    values: Tensor
    is_started: Tensor
    log_step_size: Tensor

    def __init__(
        self, num_series: int, num_chains: int, num_entries: int, *, step_size: float, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(num_series, num_chains, num_entries, dtype=dtype))
        self.register_buffer("is_started", torch.zeros(num_series, num_chains, dtype=torch.bool))
        size = torch.as_tensor(step_size, dtype=dtype).log()
        self.register_buffer("log_step_size", size.expand(num_series).clone())
        self._known = torch.zeros(num_series, dtype=torch.bool)  # of which series the host knows that all have started

    def take(self, index: Tensor, fresh: Tensor) -> Tensor:
        """Where the chains of the series at `index` go on, (chain, series, entry); `fresh` fills in for new ones."""
        return torch.where(self.is_started[index].mT[..., None], self.values[index].movedim(0, 1), fresh)

    def all_started(self, index: Tensor) -> bool:
        """Whether all chains of the series at `index` have places; asks the device for those it does not know only."""
        if not bool(self._known[on_host(index)].all()):
            self._known[on_host(index)] = on_host(self.is_started[index].all(1))
        return bool(self._known[on_host(index)].all())

    def put(self, index: Tensor, values: Tensor, is_good: Tensor) -> None:
        """Keep places (chain, series, entry); chains that are not good (chain, series) start anew next time."""
        values, has_place = torch.where(is_good[..., None], values, 0).movedim(0, 1), is_good.mT
        if is_chanced():  # with any that is not good the step is taken again, from where they were
            values = torch.where(is_good.all(), values, self.values[index])
            has_place = torch.where(is_good.all(), has_place, self.is_started[index])
        self.values[index], self.is_started[index] = values, has_place
        self._known[on_host(index)] = True if is_chanced() else on_host(is_good.all(0))

    def step_sizes(self, index: Tensor) -> Tensor:
        """Step sizes of the series at `index`."""
        return self.log_step_size[index].exp()

    def adapt(self, index: Tensor, surplus: Tensor) -> None:
        """Take in the seen minus the wanted acceptance (series,) of one visit."""
        change = _GAIN * surplus
        common = change.mean()
        self.log_step_size += common
        self.log_step_size[index] += change - common
