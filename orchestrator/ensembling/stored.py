"""Score tables on disk, of which as many stay in memory as fit into a fixed size."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from trainables.contract.scores import Scores, load_ids

MOST_BYTES = 400_000_000
"""Of logits and labels that are kept; clips are named once for all tables of a split."""

Key = tuple[Path, int, int]


class Tables:
    """Reads score tables and keeps those that were used last."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Key, Scores] = OrderedDict()
        self._bytes = 0
        self._ids: dict[tuple[str, ...], tuple[str, ...]] = {}

    def load(self, path: Path) -> Scores:
        """What `Scores.load` reads; a file that changed is read again."""
        state = path.stat() if path.is_file() else None
        key = (path, state.st_mtime_ns, state.st_size) if state else (path, 0, 0)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = Scores.load(path)
        ids = self._ids.setdefault(found.ids, found.ids)
        scores = Scores(ids, found.logits, found.labels)
        self._kept[key] = scores
        self._bytes += _size(scores)
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return scores

    def ids(self, path: Path) -> tuple[str, ...]:
        """The clips of a table; its scores are not read."""
        ids = load_ids(path)
        return self._ids.setdefault(ids, ids)


def _size(scores: Scores) -> int:
    return scores.logits.nbytes + (0 if scores.labels is None else scores.labels.nbytes)


TABLES = Tables()
"""Those of this process."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A score table that is read when it is called."""

    path: Path

    def __call__(self) -> Scores:
        return TABLES.load(self.path)

    @property
    def ids(self) -> tuple[str, ...]:
        """Its clips; the scores are not read."""
        return TABLES.ids(self.path)
