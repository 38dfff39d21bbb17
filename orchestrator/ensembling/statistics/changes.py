"""What one classifier gets right and another does not, class by class, and which confusions have
become rarer or more frequent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassChange:
    """One class: how many of its clips each of two classifiers gets right."""

    label: int
    clips: int
    first: int  # clips the first one has right
    second: int
    first_only: int  # clips that only the first one has right
    second_only: int

    @property
    def difference(self) -> float:
        """In the accuracy of the class, first minus second."""
        return (self.first - self.second) / self.clips


@dataclass(frozen=True, slots=True)
class ConfusionChange:
    """How often clips of one class are taken for another."""

    label: int
    taken_for: int
    first: int  # clips, by the first classifier
    second: int


def class_changes(first: IntArray, second: IntArray, labels: IntArray) -> list[ClassChange]:
    """Every class that occurs, in its order; first, second, labels: (N,) class numbers."""
    one, other = first == labels, second == labels
    kinds = (np.ones(len(labels)), one, other, one & ~other, ~one & other)
    counts = np.stack([np.bincount(labels, weights=kind) for kind in kinds]).astype(np.int64)
    return [
        ClassChange(label, *counts[:, label].tolist())
        for label in np.flatnonzero(counts[0]).tolist()
    ]


def confusion_changes(
    first: IntArray, second: IntArray, labels: IntArray, classes: int
) -> list[ConfusionChange]:
    """Every confusion that one makes more often than the other, the greatest change first."""
    ours, theirs = (
        np.bincount(labels * classes + firsts, minlength=classes * classes)
        for firsts in (first, second)
    )
    pairs = [
        ConfusionChange(pair // classes, pair % classes, int(ours[pair]), int(theirs[pair]))
        for pair in np.flatnonzero(ours != theirs).tolist()
        if pair // classes != pair % classes
    ]
    return sorted(
        pairs, key=lambda each: (-abs(each.first - each.second), each.label, each.taken_for)
    )
