"""What a strategy is given: the sources of one ensemble with their selection scores, aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False, slots=True)
class Sources:
    """The sources of one ensemble, S of them, on the N selection clips of a store of K classes.

    Row i of every source is the clip `ids[i]`. Where nothing was held out (the papers' protocol) N
    is 0. The arrays are read-only. Of the test split nothing is here.
    """

    members: tuple[str, ...]  # names, (S,): cells, or earlier ensembles
    values: npt.NDArray[np.float32]  # (S, N, K) logits
    labels: npt.NDArray[np.int64]  # (N,) class numbers
    ids: tuple[str, ...]  # (N,)
    given: Mapping[str, float]  # member -> weight of the sweep file; empty where it names none
