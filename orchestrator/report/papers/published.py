"""The figures that the papers print, carried in published.csv, and where they are from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("published.csv")

SOURCES: dict[str, str] = {
    "HPI-GCN": (
        "J. Wang, Z. Li, B. Liu, H. Cai, M. Saada, Q. Meng: High-Performance Inference Graph"
        " Convolutional Networks for Skeleton-Based Action Recognition. arXiv:2305.18710v3, 2025."
        " Tables 1 to 5, and the results in the README of github.com/lizaowo/HPI-GCN"
    ),
    "Sparse ST-GCN": (
        "J. Xie, Y. Zhao, Y. Meng, H. Zhao, A. Nguyen, Y. Zheng: Are Spatial-Temporal Graph"
        " Convolution Networks for Human Action Recognition Over-Parameterized?"
        " arXiv:2505.10679, 2025. Tables 1 to 3"
    ),
}
"""Paper -> authors, title, year, and the parts whose figures are carried."""

Whose = Literal["published", "ours", "ours - published"]


@dataclass(frozen=True, slots=True)
class Data:
    """A data set and a protocol, as the papers call them, or as a store does."""

    name: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.name} {self.protocol}".strip()


TEST_CLIPS: dict[Data, int] = {
    Data("NTU RGB+D 60", "X-sub"): 16_487,
    Data("NTU RGB+D 60", "X-view"): 18_932,
    Data("NTU RGB+D 120", "X-sub"): 50_919,
    Data("NTU RGB+D 120", "X-set"): 59_477,
}
"""Clips of the test split, without the recordings that the data set's authors list as missing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a table; accuracies in per cent, their errors and gains in points."""

    value: float
    error: float | None = None  # one standard error
    gain: float | None = None  # over the dense network; as it is printed, until it is recomputed
    gain_error: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one network, or ensemble, on one data set."""

    method: str
    streams: str  # joint, 2-stream, 4-stream, 6-stream; "as cited" or "" where a paper says no more
    level: str  # dense, 0.6, ..., or assemble: four levels together
    data: Data
    # top1, latency_ms (64 clips), gmacs, params_m, kept (of the maskable weights of one network)
    figures: Mapping[str, Figure]
    whose: Whose = "published"
    row: str = ""  # of ours: its name in the evaluation
    network: tuple[str, ...] = ()  # of ours: in what the network is not the published one
    masks: tuple[str, ...] = ()  # of ours: the same of its masks and weights
    trained: frozenset[tuple[int, int]] = field(default_factory=frozenset)  # (frames, epochs)


def load_published() -> dict[tuple[str, str], list[Entry]]:
    """(paper, table) -> its entries, in the order of the table.

    Sizes that a paper gives for all data sets, or for all networks, are with each of them.
    """
    found: dict[tuple[str, str], dict[tuple[str, str, str, Data], Entry]] = {}
    everywhere: list[tuple[dict[str, str], Figure]] = []
    with FILE.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            table = (row["paper"], row["table"])
            figure = Figure(float(row["value"]), note=row["note"])
            name = row["figure"]
            if not row["protocol"]:
                everywhere.append((row, figure))
                continue
            data = Data(row["data"], row["protocol"])
            key = (row["method"], row["streams"], row["level"], data)
            entries = found.setdefault(table, {})
            known = entries.get(key) or Entry(*key, figures={})
            if name == "printed_delta":  # stands behind the accuracy it belongs to
                name, figure = "top1", replace(known.figures["top1"], gain=figure.value)
            entries[key] = replace(known, figures={**known.figures, name: figure})
    for row, figure in everywhere:
        entries = found[row["paper"], row["table"]]
        for key, entry in entries.items():
            if row["method"] in ("", entry.method) and row["level"] == entry.level:
                entries[key] = replace(entry, figures={**entry.figures, row["figure"]: figure})
    return {table: list(entries.values()) for table, entries in found.items()}
