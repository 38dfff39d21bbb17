"""Looking at a store for damage, gaps and leaks. Reads every frame once; changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.contract.config import Frozen, SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.description import Joints
from trainables.data.protocols import Positions, Split
from trainables.data.store import Store

_EXAMPLES = 5

DAMAGE = ("nan", "empty", "all_zero", "unknown_label")
"""Findings that make a clip worthless; the others are things to know."""


class Finding(Frozen):
    """How many, and the ids of the first few."""

    count: int
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, ids: Sequence[str]) -> Finding:
        return cls(count=len(ids), examples=tuple(ids[:_EXAMPLES]))


class Duplicates(Frozen):
    """Clips whose joints are equal bit by bit. Inside a part: copies beyond the first; across parts: clips of the later part with a twin
    in the earlier one (train before selection before test)."""

    within_train: Finding
    within_selection: Finding
    within_test: Finding
    train_selection: Finding
    train_test: Finding
    selection_test: Finding

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name).count for name in type(self).model_fields}

    @property
    def across(self) -> int:
        """Clips that leak from one part into another."""
        return self.train_selection.count + self.train_test.count + self.selection_test.count


class ProtocolAudit(Frozen):
    """One protocol with its selection part."""

    selection_kind: str
    train: int
    selection: int
    test: int
    clean_test: int  # test clips without a twin in training or selection
    unused: Finding  # clips in no part
    shared: Finding  # clips in two parts
    missing_classes: dict[str, tuple[str, ...]]  # part (or clean_test) -> classes without a clip in it
    duplicates: Duplicates


class Audit(Frozen):
    """Everything found in one store."""

    clips: int
    nan: Finding  # NaN or infinite coordinates
    empty: Finding  # no frame
    one_frame: Finding
    all_zero: Finding  # every coordinate of every frame is 0
    zero_frames: Finding  # some frames in which every coordinate is 0
    zero_joints: Finding  # some joints at exactly (0, 0, 0) in a frame that shows others
    unknown_label: Finding  # label outside the classes
    missing_classes: tuple[str, ...]  # classes without a clip
    copies: Finding  # clips identical to an earlier one, whatever the split
    disagreeing_copies: Finding  # of these, those with another label
    protocols: dict[str, ProtocolAudit]

    def record(self) -> dict[str, object]:
        """JSON form: counts only; `duplicates` holds, over all audited protocols, the largest count of each kind."""
        protocols = {
            name: audit.model_dump(mode="json", exclude={"duplicates", "unused", "shared"})
            | {"unused": audit.unused.count, "shared": audit.shared.count, "duplicates": audit.duplicates.counts()}
            for name, audit in self.protocols.items()
        }
        counts = [audit.duplicates.counts() for audit in self.protocols.values()]
        findings = {name: value.count for name, value in self if isinstance(value, Finding)}
        return {
            "duplicates": {kind: max(count[kind] for count in counts) for kind in Duplicates.model_fields},
            "clips": self.clips,
            **findings,
            "missing_classes": list(self.missing_classes),
            "damage": self.damage(),
            "protocols": protocols,
        }

    def damage(self) -> list[str]:
        """What `--strict` refuses: worthless clips, and clips that leak from one part of a split into another."""
        found = {name: getattr(self, name).count for name in DAMAGE}
        reasons = [f"{name}: {count} clips" for name, count in found.items() if count]
        return reasons + [
            f"{name}: {audit.duplicates.across} clips have an identical clip in another part"
            for name, audit in self.protocols.items()
            if audit.duplicates.across
        ]


def audit_store(
    store: Store, protocols: Iterable[str], selection: SelectionConfig | None = None, clip_done: Callable[[], object] = lambda: None
) -> Audit:
    """Look at every clip and at the given protocols; `clip_done` is called after each clip.

    Without `selection` the default is used, or none where the store has no subjects to hold out.
    """
    store.verify()
    ids, labels, hashes = (store.column(name) for name in ("id", "label", "hash"))
    state = _clip_findings(store, clip_done)
    classes = store.info.classes
    first = _first_of_its_kind(hashes.tolist())
    copy = first != np.arange(len(ids))
    return Audit(
        clips=len(ids),
        **{name: Finding.of(ids[flags].tolist()) for name, flags in state.items()},
        unknown_label=Finding.of(ids[(labels < 0) | (labels >= len(classes))].tolist()),
        missing_classes=_missing(classes, labels),
        copies=Finding.of(ids[copy].tolist()),
        disagreeing_copies=Finding.of(ids[copy & (labels != labels[first])].tolist()),
        protocols={name: _audit_protocol(store, name, selection) for name in protocols},
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one clip's joints show."""

    nan: bool
    empty: bool
    one_frame: bool
    all_zero: bool
    zero_frames: bool
    zero_joints: bool


def _look(joints: Joints) -> _Look:
    """(M, T, V, 3); a frame counts as zero when all persons in it are."""
    zero = (joints == 0).all(axis=-1)  # (M, T, V)
    absent = zero.all(axis=-1)  # (M, T): this person is not in this frame
    frames = absent.all(axis=0)  # (T,)
    return _Look(
        nan=not bool(np.isfinite(joints).all()),
        empty=joints.shape[1] == 0,
        one_frame=joints.shape[1] == 1,
        all_zero=joints.shape[1] > 0 and bool(frames.all()),
        zero_frames=bool(frames.any()) and not bool(frames.all()),
        zero_joints=bool((zero & ~absent[..., None]).any()),
    )


def _clip_findings(store: Store, clip_done: Callable[[], object]) -> dict[str, Positions]:
    """Finding -> which clips have it, as flags in the order of the store."""
    looks = []
    for position in range(store.info.clips):
        looks.append(_look(store.clip(position)))
        clip_done()
    return {name: np.array([getattr(look, name) for look in looks], dtype=np.bool_) for name in _Look.__slots__}


def _audit_protocol(store: Store, protocol: str, selection: SelectionConfig | None) -> ProtocolAudit:
    kind, split = _split(store, protocol, selection)
    ids, labels, hashes = (store.column(name) for name in ("id", "label", "hash"))
    parts = {"train": split.train, "selection": split.selection, "test": split.test}
    clean = split.test[store.clean_test(split)]
    uses = np.zeros(len(ids), dtype=np.int64)
    for positions in parts.values():
        uses[positions] += 1
    return ProtocolAudit(
        selection_kind=kind,
        **{name: len(positions) for name, positions in parts.items()},
        clean_test=len(clean),
        unused=Finding.of(ids[uses == 0].tolist()),
        shared=Finding.of(ids[uses > 1].tolist()),
        missing_classes={
            name: _missing(store.info.classes, labels[positions])
            for name, positions in (parts | {"clean_test": clean}).items()
            if len(positions)
        },
        duplicates=_duplicates(ids.tolist(), hashes.tolist(), split),
    )


def _split(store: Store, protocol: str, selection: SelectionConfig | None) -> tuple[str, Split]:
    """The split and the kind of selection it has."""
    if selection is not None:
        return selection.kind, store.split(protocol, selection)
    default = SelectionConfig()
    try:
        return default.kind, store.split(protocol, default)
    except UserError:  # no subjects to hold out: look at what is left
        none = SelectionConfig(kind="none")
        return none.kind, store.split(protocol, none)


def _duplicates(ids: list[str], hashes: list[str], split: Split) -> Duplicates:
    def within(positions: Positions) -> Finding:
        first = _first_of_its_kind([hashes[i] for i in positions])
        return Finding.of([ids[i] for place, i in enumerate(positions) if first[place] != place])

    def across(earlier: Positions, later: Positions) -> Finding:
        seen = {hashes[i] for i in earlier}
        return Finding.of([ids[i] for i in later if hashes[i] in seen])

    return Duplicates(
        within_train=within(split.train),
        within_selection=within(split.selection),
        within_test=within(split.test),
        train_selection=across(split.train, split.selection),
        train_test=across(split.train, split.test),
        selection_test=across(split.selection, split.test),
    )


def _first_of_its_kind(hashes: list[str]) -> Positions:
    """For each entry the place of the first equal one."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(value, place) for place, value in enumerate(hashes)], dtype=np.int64)


def _missing(classes: tuple[str, ...], labels: Iterable[int]) -> tuple[str, ...]:
    present = Counter(int(label) for label in labels)
    return tuple(name for k, name in enumerate(classes) if not present[k])
