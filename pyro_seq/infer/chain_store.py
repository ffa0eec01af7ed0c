"""``ChainStore``: the state of the posterior chains of every training series between visits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq._host import on_host
from pyro_seq._nonfinite import is_chanced

_GAIN = 0.5  # change of the log step size per unit of acceptance


class ChainStore(nn.Module):
    r"""Step sizes of each training series and, if chains are persistent, the chains' positions.

    Step sizes are adapted to the acceptance at each visit,

    .. math::
        \log s_i \leftarrow \log s_i + \tfrac12 (\bar\alpha_i - \delta)

    where the mean over a batch changes the step sizes of all series, so that rarely visited series do not lag behind.
    The state consists of buffers and is therefore part of a checkpoint.

    Args:
        num_series: Number of training series.
        num_chains: Chains per series.
        num_entries: Length of a chain's vector; with 0 positions are not kept.
        step_size: Initial step size.
        dtype: Data type of the vectors.
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
        self._known = torch.zeros(num_series, dtype=torch.bool)  # series known to have all chains started

    def take(self, index: Tensor, fresh: Tensor) -> Tensor:
        """Positions (chain, series, entry) of the chains of the series at `index`; `fresh` for those not started."""
        return torch.where(self.is_started[index].mT[..., None], self.values[index].movedim(0, 1), fresh)

    def all_started(self, index: Tensor) -> bool:
        """Whether all chains of the series at `index` have positions; queries the device only for unknown ones."""
        if not bool(self._known[on_host(index)].all()):
            self._known[on_host(index)] = on_host(self.is_started[index].all(1))
        return bool(self._known[on_host(index)].all())

    def put(self, index: Tensor, values: Tensor, is_good: Tensor) -> None:
        """Store positions (chain, series, entry); chains that are not `is_good` (chain, series) restart next time."""
        values, has_place = torch.where(is_good[..., None], values, 0).movedim(0, 1), is_good.mT
        if is_chanced():  # if any chain failed, the step is repeated from the old positions
            values = torch.where(is_good.all(), values, self.values[index])
            has_place = torch.where(is_good.all(), has_place, self.is_started[index])
        self.values[index], self.is_started[index] = values, has_place
        self._known[on_host(index)] = True if is_chanced() else on_host(is_good.all(0))

    def step_sizes(self, index: Tensor) -> Tensor:
        """Step sizes of the series at `index`."""
        return self.log_step_size[index].exp()

    def adapt(self, index: Tensor, surplus: Tensor) -> None:
        """Adapt step sizes to the observed minus the target acceptance (series,) of one visit."""
        change = _GAIN * surplus
        common = change.mean()
        self.log_step_size += common
        self.log_step_size[index] += change - common
