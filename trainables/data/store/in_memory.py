"""A store that lies on no disk: new clips go through the batches that imported ones go through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.store.description import VERSION, Description, Joints, StoreInfo
from trainables.data.store.reading import Store

NOWHERE = Path("clips in memory")


def store_in_memory(clips: Sequence[Joints], description: Description) -> Store:
    """A store of checked clips, each (M, T, V, 3) in metres or pixels, in their order.

    They have no labels and no columns that a protocol could split by.
    """
    persons = np.array([clip.shape[0] for clip in clips], np.int64)
    length = np.array([clip.shape[1] for clip in clips], np.int64)
    count = persons * length
    rows = np.concatenate([clip.reshape(-1, *clip.shape[2:]) for clip in clips])
    info = StoreInfo.model_validate(
        {
            **{name: getattr(description, name) for name in Description.model_fields},
            "persons": max(description.persons, int(persons.max())),
            "version": VERSION,
            "storage": "float32",
            "clips": len(clips),
            "rows": len(rows),
            "checksums": {},
        }
    )
    of_clip = np.repeat(np.arange(len(clips)), count)
    columns = {
        "persons": persons,
        "length": length,
        "offset": np.cumsum(count) - count,
        "step": np.ones(len(clips)),
        "absent": np.bincount(of_clip[(rows == 0).all(axis=(1, 2))], minlength=len(clips)),
        "broken": np.bincount(
            of_clip, weights=(~np.isfinite(rows)).sum(axis=(1, 2)), minlength=len(clips)
        ).astype(np.int64),
    }
    return Store(NOWHERE, info, rows.astype(np.float32, copy=False), tuple(columns), columns)
