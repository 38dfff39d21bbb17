"""The rows of chosen clips as one tensor, where the device can reach them. Knows stores and devices, nothing of transforms."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.contract.errors import UserError
from trainables.data.description import Joints, Units
from trainables.data.store import Store

Ints = npt.NDArray[np.int64]

RESIDENT_SHARE = 0.4  # of the free memory of a GPU that joints may take
CHUNK = 1 << 18  # rows copied to a GPU at a time


@dataclass(frozen=True, eq=False, slots=True)
class Ragged:
    """Clip i of those chosen is rows start[i] + m * length[i] + t of `rows`, person m, frame t; arrays are (n,) where nothing else is said."""

    rows: Tensor  # (R, V * 3), float32 or int16
    units: Units  # (n, 3): what a 1 in `rows` means for each of a joint's three numbers
    start: Ints
    length: Ints
    persons: Ints
    position: Ints  # in the store

    def rows_of(self, clip: int) -> slice:
        """The rows of one clip."""
        begin = int(self.start[clip])
        return slice(begin, begin + int(self.length[clip] * self.persons[clip]))


def load_ragged(store: Store, indices: Ints, device: torch.device) -> Ragged:
    """The clips at `indices`: the memory map itself on a CPU; on a GPU a copy in its memory if it fits, else the memory map.

    UserError names clips without a frame or with a number that is not finite: no transform has an answer for those.
    """
    _check_clips(store, indices)
    length, persons = (store.column(name)[indices] for name in ("length", "persons"))
    mapped = Ragged(_map_rows(store), store.units[indices], store.column("offset")[indices], length, persons, indices)
    if device.type != "cuda":
        return mapped
    count = length * persons
    needed = int(count.sum()) * mapped.rows.shape[1] * mapped.rows.element_size()
    if needed > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return mapped
    return compact(mapped, device)


def compact(mapped: Ragged, device: torch.device) -> Ragged:
    """A copy on `device` that holds the rows of the chosen clips and no others."""
    count = mapped.length * mapped.persons
    start = np.cumsum(count) - count
    wanted = np.repeat(mapped.start - start, count) + np.arange(count.sum())
    rows = torch.empty(len(wanted), mapped.rows.shape[1], dtype=mapped.rows.dtype, device=device)
    for begin in range(0, len(wanted), CHUNK):
        chunk = torch.from_numpy(wanted[begin : begin + CHUNK])
        rows[begin : begin + CHUNK] = mapped.rows.index_select(0, chunk).to(device)
    return Ragged(rows, mapped.units, start, mapped.length, mapped.persons, mapped.position)


def each_clip(store: Store, indices: Ints) -> Iterator[Joints]:
    """The joints (M, T, V, 3) of each clip at `indices`, in their order; views of the memory map."""
    for index in indices:
        yield store.clip(int(index))


def _check_clips(store: Store, indices: Ints) -> None:
    unusable = (store.column("length")[indices] == 0) | (store.column("broken")[indices] > 0)
    if unusable.any():
        names = store.column("id")[indices[unusable]]
        raise UserError.of(f"{store.path}: clip '{name}' must have at least one frame and finite joints; see 'data audit'" for name in names)


def _map_rows(store: Store) -> Tensor:
    """The store's joints (rows, V * 3), not copied: every process of the machine shares the pages."""
    with warnings.catch_warnings():
        # The map is read-only and so is everything done with this tensor: it is indexed, never written.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(store.joints.reshape(len(store.joints), -1))
