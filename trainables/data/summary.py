"""What a store holds, as one JSON-able record. Reads the clips table, not the joints."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainables.contract.config import SelectionConfig
from trainables.data.store import Store


def summarise(store: Store) -> dict[str, Any]:
    """Counts, lengths, splits and origin of a store."""
    info = store.info
    labels, lengths = store.column("label"), store.column("length")
    counts = np.bincount(labels, minlength=len(info.classes)).tolist()
    return {
        "name": info.name,
        "path": str(store.path),
        "layout": store.layout.name,
        "joints": store.layout.size,
        "pipeline": info.pipeline,
        "storage": info.storage,
        "persons": info.persons,
        "clips": info.clips,
        "rows": info.rows,
        "classes": {name: counts[k] for k, name in enumerate(info.classes)},
        "length": {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())},
        "subjects": _distinct(store, "subject"),
        "cameras": _distinct(store, "camera"),
        "protocols": {name: _sizes(store, name) for name in info.protocols},
        "bytes": sum(file.stat().st_size for file in store.path.iterdir() if file.is_file()),
        "provenance": info.provenance,
    }


def _distinct(store: Store, column: str) -> list[Any]:
    """The values of a column, sorted; empty where the data set does not know them."""
    return sorted({value for value in store.column(column).tolist() if value is not None}, key=lambda value: (isinstance(value, str), value))


def _sizes(store: Store, protocol: str) -> dict[str, int]:
    """Clips of each part before anything is held out; `selection` is the data set's own validation part."""
    split = store.split(protocol, SelectionConfig(kind="none"))
    own = store.split(protocol, SelectionConfig(kind="protocol")).selection if store.rule(protocol).selection else ()
    return {"train": len(split.train), "selection": len(own), "test": len(split.test)}
