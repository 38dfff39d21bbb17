"""What a store holds, as one JSON-able record. Reads the clips table, not the joints."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.store.reading import Store

MOST_BINS = 12
PARTS = ("train", "selection", "test")


def summarise(store: Store) -> dict[str, Any]:
    """Counts, lengths, splits and origin of a store."""
    info, layout = store.info, store.layout
    labels, lengths = store.column("label").tolist(), store.column("length")
    parts = {name: _parts(store, name) for name in info.protocols}
    classes = [info.classes[label] if 0 <= label < len(info.classes) else None for label in labels]
    clips = Counter(classes)
    return {
        "name": info.name,
        "path": str(store.path),
        "layout": layout.name,
        "joints": layout.size,
        "channels": info.channels,
        "storage": info.storage,
        "pipeline": info.pipeline,
        "persons": info.persons,
        "clips": info.clips,
        "rows": info.rows,
        "classes": {name: clips[name] for name in info.classes},
        "length": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
        },
        "lengths": length_bins(lengths),
        "persons_per_clip": {
            str(number): count
            for number, count in sorted(Counter(store.column("persons").tolist()).items())
        },
        "subjects": _distinct(store, "subject"),
        "cameras": _distinct(store, "camera"),
        "protocols": {name: _sizes(own) for name, own in parts.items()},
        "counts": {
            "class": _counts(classes, list(info.classes), parts),
            "subject": _counts(
                store.column("subject").tolist(), _distinct(store, "subject"), parts
            ),
            "camera": _counts(store.column("camera").tolist(), _distinct(store, "camera"), parts),
        },
        "bytes": sum(file.stat().st_size for file in store.path.iterdir() if file.is_file()),
        "provenance": info.provenance,
    }


def length_bins(lengths: npt.NDArray[np.int64]) -> list[dict[str, int]]:
    """How many clips have how many frames: {"from", "to" (both included), "clips"}, at most
    `MOST_BINS` of one round width and one for the rest.

    The width is 1, 2 or 5 times a power of ten, chosen for all but the longest hundredth of the
    clips, so that one very long clip does not push all others into a single bin.
    """
    usual = int(np.quantile(lengths, 0.99, method="inverted_cdf"))
    widths = (factor * 10**power for power in range(19) for factor in (1, 2, 5))
    width = next(width for width in widths if usual // width - lengths.min() // width < MOST_BINS)
    start, end = int(lengths.min()) // width * width, (usual // width + 1) * width
    bins = [{"from": low, "to": low + width - 1, "clips": 0} for low in range(start, end, width)]
    for place, count in Counter(((np.minimum(lengths, end) - start) // width).tolist()).items():
        if place < len(bins):
            bins[place]["clips"] = count
        else:
            bins.append({"from": end, "to": int(lengths.max()), "clips": count})
    return bins


def _distinct(store: Store, column: str) -> list[Any]:
    """The values of a column, sorted; empty where the data set does not know them."""
    return sorted(
        {value for value in store.column(column).tolist() if value is not None},
        key=lambda value: (isinstance(value, str), value),
    )


def _parts(store: Store, protocol: str) -> list[str | None]:
    """The part each clip is in before anything is held out, None where in none; `selection` is the
    data set's own validation part.
    """
    rule = store.rule(protocol)
    part = {value: name for name in PARTS for value in getattr(rule, name)}
    return [part.get(value) for value in store.column(rule.column).tolist()]


def _sizes(parts: list[str | None]) -> dict[str, int]:
    count = Counter(parts)
    return {part: count[part] for part in PARTS}


def _counts(
    values: list[Any], groups: list[Any], parts: dict[str, list[str | None]]
) -> dict[str, dict[str, Any]]:
    """group -> how many clips, and how many in each part of each protocol; values: the group of
    each clip.
    """
    whole = Counter(values)
    inside = {protocol: Counter(zip(values, own, strict=True)) for protocol, own in parts.items()}
    return {
        str(group): {
            "clips": whole[group],
            "protocols": {
                protocol: {part: count[group, part] for part in PARTS}
                for protocol, count in inside.items()
            },
        }
        for group in groups
    }
