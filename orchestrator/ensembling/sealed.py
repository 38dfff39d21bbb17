"""The only place where test labels are read: once per final evaluation, and written down in the
journal when it happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.ensembling.evaluate import BoolArray, IntArray
from orchestrator.ensembling.members import Division
from orchestrator.record.folder import store_digest
from orchestrator.record.journal import Journal
from trainables.contract.addresses import is_address
from trainables.contract.errors import UserError
from trainables.data.store.cache import open_outline
from trainables.data.store.reading import Store


@dataclass(frozen=True, eq=False, slots=True)
class TestLabels:
    """Labels (N,) of the test clips in the order of the ids asked for, and which clips have no copy
    in training or selection; the subject of each as a number, None where not all are known.
    """

    labels: IntArray
    clean: BoolArray
    subjects: IntArray | None
    classes: tuple[str, ...]  # names
    dataset: str
    checksums: Mapping[str, str]  # of the store's files

    @property
    def clean_part(self) -> BoolArray | None:
        """`clean` where it makes a difference; None when all clips are clean, or none is."""
        return None if self.clean.all() or not self.clean.any() else self.clean


@dataclass(frozen=True, eq=False, slots=True)
class SealedTest:
    """The test splits of some divisions, checked, with their labels unread."""

    _opened: Sequence[tuple[Division, Store, IntArray, BoolArray]]

    @property
    def clean(self) -> dict[Division, BoolArray]:
        """(N,) of every division: which of its clips have no copy in training or selection."""
        return {division: clean for division, _, _, clean in self._opened}

    def read(self, journal: Journal, purpose: str) -> dict[Division, TestLabels]:
        """Break the seal: the labels of every division's test clips, and one `test_read` event for
        all of them, which is written before a label is seen.
        """
        if not self._opened:
            return {}
        journal.append(
            "test_read",
            purpose=purpose,
            divisions=[division.model_dump(mode="json") for division, *_ in self._opened],
        )
        return {
            division: TestLabels(
                store.column("label")[positions].astype(np.int64),
                clean,
                _subjects(store, positions),
                tuple(store.info.classes),
                store.info.name,
                store.info.checksums,
            )
            for division, store, positions, clean in self._opened
        }


def checked_test(wanted: Mapping[Division, tuple[str, ...]]) -> SealedTest:
    """The test clips `ids` of every division, with the seal unbroken and nothing written; UserError
    for everything that can be wrong with them.
    """
    opened: list[tuple[Division, Store, IntArray, BoolArray]] = []
    for division, ids in wanted.items():
        store = open_outline(division.store)
        split = store.split(division.protocol, division.selection)
        names = [str(name) for name in store.column("id")[split.test]]
        if sorted(names) != sorted(ids):
            raise UserError(
                f"{division.store}: the scores must be of the test clips of protocol"
                f" '{division.protocol}', got {len(ids)} scores, {len(set(ids) & set(names))} of"
                f" them among the {len(names)} test clips"
            )
        where = {name: row for row, name in enumerate(names)}
        order = np.array([where[name] for name in ids], dtype=np.int64)
        opened.append((division, store, split.test[order], store.clean_test(split)[order]))
    return SealedTest(tuple(opened))


def _subjects(store: Store, positions: IntArray) -> IntArray | None:
    names = [str(name) for name in store.column("subject")[positions] if name is not None]
    if len(names) < len(positions):
        return None
    numbers: IntArray = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return numbers


def unchanged(stores: Mapping[str, str]) -> bool:
    """Whether the stores, with the digests of when their labels were read, are as they were.

    A store that is not on this machine, or at an address, counts as unchanged: what was found with
    it stays readable without it.
    """
    return all(
        is_address(location) or store_digest(location) in (None, digest)
        for location, digest in stores.items()
    )
