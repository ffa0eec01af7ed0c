"""The annual flow of the Nile, the standard example of texts on state-space models."""

from __future__ import annotations

import torch

from pyro_seq.data import Sequences

_FIRST_YEAR = 1871
_FLOWS = (
    1120, 1160,  963, 1210, 1160, 1160,  813, 1230, 1370, 1140,
     995,  935, 1110,  994, 1020,  960, 1180,  799,  958, 1140,
    1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100,  774,  840,
     874,  694,  940,  833,  701,  916,  692, 1020, 1050,  969,
     831,  726,  456,  824,  702, 1120, 1100,  832,  764,  821,
     768,  845,  864,  862,  698,  845,  744,  796, 1040,  759,
     781,  865,  845,  944,  984,  897,  822, 1010,  771,  676,
     649,  846,  812,  742,  801, 1040,  860,  874,  848,  890,
     744,  749,  838, 1050,  918,  986,  797,  923,  975,  815,
    1020,  906,  901, 1170,  912,  746,  919,  718,  714,  740,
)  # fmt: skip


def nile(*, dtype: torch.dtype = torch.float64) -> Sequences:
    """Flow of the Nile at Aswan in 10^8 cubic metres per year, 1871 to 1970.

    One series of a hundred years, without missing values. The flow fell by about a quarter in 1899, when work on the
    first dam at Aswan began. Maximum likelihood variances of the local-level model, with a diffuse start, are 15098.5
    (observation) and 1469.2 (level).

    Args:
        dtype: Floating type of the values.

    Returns:
        Values (series 1, time 100, obs 1), with the years as times.

    Example:
        >>> nile().values[0, :3, 0]
        tensor([1120., 1160.,  963.], dtype=torch.float64)

    References:
        Data in the public domain. Cobb, "The problem of the Nile: conditional solution to a change-point problem",
        Biometrika, 1978. Durbin, Koopman, "Time Series Analysis by State Space Methods", 2012, chapter 2.
    """
    years = torch.arange(_FIRST_YEAR, _FIRST_YEAR + len(_FLOWS), dtype=torch.float64)
    return Sequences(torch.tensor(_FLOWS, dtype=dtype)[None, :, None], times=years)
