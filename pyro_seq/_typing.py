"""The dimension vocabulary of the library and array types that use it.

Axes always come in the order ``(*sample, series, time, *obs)``:

==========  =====================================================================
axis        meaning
==========  =====================================================================
sample      draws of a posterior or of a predictive distribution
chain       independent Markov chains
series      independent sequences
time        steps of a sequence, the horizon included where there is one
obs         one or more axes of a single observation, such as channel, row, column
state       coordinates of a latent state
input       known exogenous variables
==========  =====================================================================
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

Values: TypeAlias = Float[Tensor, "series time *obs"]
StepMask: TypeAlias = Bool[Tensor, "series time"]
EntryMask: TypeAlias = Bool[Tensor, "series time *obs"]
Times: TypeAlias = Float[Tensor, " time"] | Float[Tensor, "series time"]
Inputs: TypeAlias = Float[Tensor, "series time input"]
StatePath: TypeAlias = Float[Tensor, "*sample series time state"]
