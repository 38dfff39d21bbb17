"""The rows of chosen clips as one tensor, where the device can reach them.

Knows stores and devices, nothing of transforms.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.contract.errors import UserError
from trainables.data.store.description import Units
from trainables.data.store.reading import Store

Ints = npt.NDArray[np.int64]
Residence = Literal["auto", "device", "host", "mmap"]

# of the memory of a GPU that a trial may still take, for joints unless they are asked for
RESIDENT_SHARE = 0.4
CHUNK = 1 << 18  # rows copied to a GPU at a time


@dataclass(frozen=True, eq=False, slots=True)
class Ragged:
    """Clip i of those chosen is rows start[i] + m * length[i] + t of `rows`, person m, frame t;
    arrays are (n,) where nothing else is said.
    """

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


def load_ragged(
    store: Store, indices: Ints, device: torch.device, residence: Residence = "auto"
) -> Ragged:
    """The clips at `indices` for batches on `device`, kept where `residence` says.

    mmap: the memory map itself, whose pages all processes share; host: a copy of these clips in
    main memory; device: the same in the memory of the device, which for a CPU is main memory; auto:
    on a GPU device if it fits into `RESIDENT_SHARE`, else mmap.

    UserError names clips without a frame or with a number that is not finite, for which no
    transform has an answer, and a GPU that is too small.
    """
    _check_clips(store, indices)
    start, length, persons = (values[indices] for values in store.extents)
    mapped = Ragged(_map_rows(store), store.units[indices], start, length, persons, indices)
    place = settle(
        residence,
        int((length * persons).sum()) * mapped.rows.shape[1] * mapped.rows.element_size(),
        device,
    )
    return mapped if place is None else compact(mapped, place)


def settle(residence: Residence, needed: int, device: torch.device) -> torch.device | None:
    """Where a copy of `needed` bytes goes for a trial on `device`; None: there is none, the memory
    map is read.
    """
    if residence == "mmap" or (residence == "auto" and device.type != "cuda"):
        return None
    if residence == "host" or device.type != "cuda":
        return torch.device("cpu")
    left = memory_left(device)
    if residence == "auto":
        return device if needed <= RESIDENT_SHARE * left else None
    if needed > left:
        raise UserError(
            f"data.residence: device needs {needed / 1e9:.2f} GB for the joints, this trial has"
            f" {left / 1e9:.2f} GB of the GPU left; use auto, host or mmap, or a store of int16"
        )
    return device


def memory_left(device: torch.device) -> int:
    """Bytes of a GPU that this process may still take: what is free, within its own share, and what
    it holds without using it.
    """
    free, total = torch.cuda.mem_get_info(device)
    held, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    share = int(torch.cuda.get_per_process_memory_fraction(device) * total)
    return max(0, min(free + held, share) - used)


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


def _check_clips(store: Store, indices: Ints) -> None:
    unusable = (store.column("length")[indices] == 0) | (store.column("broken")[indices] > 0)
    if unusable.any():
        names = store.column("id")[indices[unusable]]
        raise UserError.of(
            f"{store.path}: clip '{name}' must have at least one frame and finite joints; see 'data"
            " audit'"
            for name in names
        )


def _map_rows(store: Store) -> Tensor:
    """The store's joints (rows, V * 3), not copied: every process
    of the machine shares the pages.
    """
    with warnings.catch_warnings():
        # The map is read-only and so is everything done with this tensor: it is indexed, never
        # written.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(store.joints.reshape(len(store.joints), -1))
