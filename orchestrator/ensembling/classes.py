"""What classifiers say clip by clip and class by class: the first choices, the accuracy of each
class, what is taken for what, and the clips that are wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError

IntArray = npt.NDArray[np.int64]
LABEL = "label"


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """The class that each of several networks or ensembles gives its highest score, clip by clip,
    beside the right one.
    """

    ids: tuple[str, ...]  # (N,)
    labels: IntArray  # (N,)
    classes: tuple[str, ...]  # names, (K,)
    firsts: Mapping[str, IntArray]  # name of a network or ensemble -> (N,)

    def save(self, path: Path) -> None:
        """Write columns id, label and one per network (16 bits each), atomically."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {f"first:{name}": found.astype(np.int16) for name, found in self.firsts.items()}
        table = pa.table({"id": list(self.ids), LABEL: self.labels.astype(np.int16), **columns})
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({"classes": json.dumps(self.classes)}), sink)
        write_atomic(path, sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """What `save` wrote."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            return cls(
                tuple(table["id"].to_pylist()),
                table[LABEL].to_numpy().astype(np.int64),
                tuple(json.loads(table.schema.metadata[b"classes"])),
                {
                    name.removeprefix("first:"): table[name].to_numpy().astype(np.int64)
                    for name in table.column_names
                    if name.startswith("first:")
                },
            )
        except (OSError, pa.ArrowInvalid, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a readable table of predictions: {error}") from error

    def confusion(self, name: str) -> IntArray:
        """(K, K): how many clips of the class of the row were taken for that of the column."""
        return confusion(self.firsts[name], self.labels, len(self.classes))

    def by_class(self, name: str) -> list[ClassAccuracy]:
        """The classes that occur, in their order."""
        counts = self.confusion(name)
        return [
            self._of_class(counts, label) for label in np.flatnonzero(counts.sum(axis=1)).tolist()
        ]

    def _of_class(self, counts: IntArray, label: int) -> ClassAccuracy:
        others = counts[label].copy()
        others[label] = 0
        most = int(others.argmax())
        return ClassAccuracy(
            label=label,
            name=self.classes[label],
            clips=int(counts[label].sum()),
            right=int(counts[label, label]),
            taken_for=self.classes[most] if others[most] else None,
            taken=int(others[most]),
        )

    def confusions(self, name: str) -> list[tuple[int, int, int]]:
        """(class, taken for, clips) of what is taken for something else, most frequent first."""
        counts = self.confusion(name)
        np.fill_diagonal(counts, 0)
        pairs = [(int(a), int(b), int(counts[a, b])) for a, b in np.argwhere(counts)]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))

    def misclassified(self, name: str) -> list[tuple[str, int, int]]:
        """(clip, class, taken for) of the clips that are wrong, in the order of the table."""
        first = self.firsts[name]
        return [
            (self.ids[row], int(self.labels[row]), int(first[row]))
            for row in np.flatnonzero(first != self.labels)
        ]

    def to_json(self, name: str) -> dict[str, Any]:
        """Of one network or ensemble: classes, confusion matrix and misclassified clips."""
        return {
            "classes": [found.to_json() for found in self.by_class(name)],
            "confusion": self.confusion(name).tolist(),
            "misclassified": [
                {"id": clip, "class": self.classes[label], "taken_for": self.classes[first]}
                for clip, label, first in self.misclassified(name)
            ],
        }


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """How one class fares."""

    label: int
    name: str
    clips: int
    right: int
    taken_for: str | None  # the class it is most often taken for; None where it always is right
    taken: int  # how often

    @property
    def accuracy(self) -> float:
        return self.right / self.clips

    def to_json(self) -> dict[str, Any]:
        return {
            "class": self.name,
            "number": self.label,
            "clips": self.clips,
            "right": self.right,
            "accuracy": self.accuracy,
            "taken_for": self.taken_for,
            "taken": self.taken,
        }


def confusion(firsts: IntArray, labels: IntArray, classes: int) -> IntArray:
    """(K, K) counts: class of the row, taken for the class of the column."""
    counts = np.bincount(labels * classes + firsts, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)
