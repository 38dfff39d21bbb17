"""Looking at a store for damage, gaps and leaks. Reads every frame once; changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainables.contract.config import Frozen, SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.inspection.near_copies import DIMENSIONS, Sketch, near_groups, sketch
from trainables.data.store.description import Channels, Joints
from trainables.data.store.protocols import Column, Positions, Split
from trainables.data.store.reading import Store

_EXAMPLES = 5
SelectionKind = Literal["subject", "clip", "protocol", "none"]
_PER_UNIT: dict[Channels, float] = {"xyz": 1e-3, "xyc": 1.0, "xy": 1.0}
_UNIT: dict[Channels, str] = {"xyz": "mm", "xyc": "px", "xy": "px"}
_PAIRS = (("train", "selection"), ("train", "test"), ("selection", "test"))
NEAR = 1.0
"""Tolerance of near copies, mm or pixels: far above rounding (int16 is off by 0.05 mm), far below
two takes of one movement (cm).
"""

DAMAGE = ("nan", "empty", "all_zero", "unknown_label")
"""Findings that make a clip worthless; the others are things to know."""


class Finding(Frozen):
    """The ids of all clips (or subjects) that have it."""

    ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, ids: Sequence[str]) -> Finding:
        return cls(ids=tuple(ids))

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def examples(self) -> tuple[str, ...]:
        """The first few."""
        return self.ids[:_EXAMPLES]


class Duplicates(Frozen):
    """Clips with a twin. Inside a part: those beyond the first; across parts: clips of the later
    part with a twin in the earlier one (train before selection before test).
    """

    within_train: Finding
    within_selection: Finding
    within_test: Finding
    train_selection: Finding
    train_test: Finding
    selection_test: Finding

    def findings(self) -> dict[str, Finding]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def counts(self) -> dict[str, int]:
        return {name: finding.count for name, finding in self.findings().items()}

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
    # part (or clean_test) -> classes without a clip in it
    missing_classes: dict[str, tuple[str, ...]]
    duplicates: Duplicates  # equal bit by bit
    # the same motion placed differently; without those that count as duplicates
    near_duplicates: Duplicates
    # pair of parts -> subjects with clips in both; empty where subjects are not known
    shared_subjects: dict[str, Finding]


class Audit(Frozen):
    """Everything found in one store."""

    clips: int
    nan: Finding  # NaN or infinite coordinates
    empty: Finding  # no frame
    one_frame: Finding
    all_zero: Finding  # every coordinate of every frame is 0
    zero_frames: Finding  # some frames in which every coordinate is 0
    # some joints at zero, not found, in a frame that shows others; not the origin, where centred
    # clips have one
    zero_joints: Finding
    unknown_label: Finding  # label outside the classes
    missing_classes: tuple[str, ...]  # classes without a clip
    copies: Finding  # clips identical to an earlier one, whatever the split
    disagreeing_copies: Finding  # of these, those with another label
    # how far near copies may be from one another, in `unit`: root mean square over all joints and
    # frames
    near: float
    unit: str  # mm or px
    near_copies: Finding  # clips that are an earlier one placed differently, and identical to none
    disagreeing_near_copies: Finding  # of these, those with another label
    protocols: dict[str, ProtocolAudit]
    # protocols without a training or a test clip, as in a part of a data set -> what they lack
    unusable: dict[str, str]

    def record(self) -> dict[str, object]:
        """JSON form: counts, and below `ids` the clips behind every count that is not 0;
        `duplicates` and `near_duplicates` hold, over all audited protocols, the largest count of
        each kind.
        """
        protocols = {
            name: audit.model_dump(
                mode="json",
                exclude={"duplicates", "near_duplicates", "shared_subjects", "unused", "shared"},
            )
            | {"unused": audit.unused.count, "shared": audit.shared.count}
            | {
                "duplicates": audit.duplicates.counts(),
                "near_duplicates": audit.near_duplicates.counts(),
            }
            | {
                "shared_subjects": {
                    pair: finding.count for pair, finding in audit.shared_subjects.items()
                },
                "ids": _ids(
                    {"unused": audit.unused, "shared": audit.shared}
                    | {f"duplicates.{k}": v for k, v in audit.duplicates.findings().items()}
                    | {
                        f"near_duplicates.{k}": v
                        for k, v in audit.near_duplicates.findings().items()
                    }
                ),
            }
            for name, audit in self.protocols.items()
        }
        findings = {name: value.count for name, value in self if isinstance(value, Finding)}
        return {
            "duplicates": _largest([audit.duplicates for audit in self.protocols.values()]),
            "near_duplicates": _largest(
                [audit.near_duplicates for audit in self.protocols.values()]
            ),
            "near": self.near,
            "unit": self.unit,
            "clips": self.clips,
            **findings,
            "missing_classes": list(self.missing_classes),
            "damage": self.damage(),
            "protocols": protocols,
            "unusable": self.unusable,
            "ids": _ids({name: value for name, value in self if isinstance(value, Finding)}),
        }

    def damage(self) -> list[str]:
        """What `--strict` refuses: worthless clips, and clips that leak from one part of a split
        into another.
        """
        counts = {name: getattr(self, name).count for name in DAMAGE}
        reasons = [f"{name}: {count} clips" for name, count in counts.items() if count]
        for name, audit in self.protocols.items():
            for count, twin in (
                (audit.duplicates.across, "an identical clip"),
                (audit.near_duplicates.across, "a near copy"),
            ):
                if count:
                    reasons.append(f"{name}: {count} clips have {twin} in another part")
        return reasons


def _ids(findings: Mapping[str, Finding]) -> dict[str, list[str]]:
    """Finding -> the ids of its clips, of those that have some."""
    return {name: list(finding.ids) for name, finding in findings.items() if finding.count}


def _largest(found: Sequence[Duplicates]) -> dict[str, int]:
    counts = [duplicates.counts() for duplicates in found]
    return {
        kind: max((count[kind] for count in counts), default=0) for kind in Duplicates.model_fields
    }


def audit_store(
    store: Store,
    protocols: Iterable[str] | None = None,
    selection: SelectionConfig | None = None,
    *,
    near: float = NEAR,
    clip_done: Callable[[], object] = lambda: None,
) -> Audit:
    """Look at every clip and at the given protocols; without them at all that have clips.

    `clip_done` is called after each clip.

    Without `selection` the part that a protocol has to choose on is held out (kind `protocol`),
    where it has none whole subjects, and nothing where nobody knows them.
    near: tolerance of near copies, in millimetres where joints are positions, in pixels where they
    are places in an image.
    """
    if not 0 < near < np.inf:
        raise UserError(f"near must be a positive number, got {near:g}")
    store.verify()
    unusable = {} if protocols is not None else _unusable(store)
    chosen = (
        protocols
        if protocols is not None
        else [name for name in store.info.protocols if name not in unusable]
    )
    channels, classes = store.info.channels, store.info.classes
    ids, labels, hashes = (store.column(name) for name in ("id", "label", "hash"))
    first = _first_of_its_kind(hashes.tolist())
    state, sketches = _read_clips(store, first, clip_done)
    near_first = near_groups(
        first, sketches, store.clip, DIMENSIONS[channels], near * _PER_UNIT[channels]
    )
    copy = first != np.arange(len(ids))
    near_copy = ~copy & (near_first != np.arange(len(ids)))
    return Audit(
        clips=len(ids),
        **{name: Finding.of(ids[flags].tolist()) for name, flags in state.items()},
        unknown_label=Finding.of(ids[(labels < 0) | (labels >= len(classes))].tolist()),
        missing_classes=_missing(classes, labels),
        copies=Finding.of(ids[copy].tolist()),
        disagreeing_copies=Finding.of(ids[copy & (labels != labels[first])].tolist()),
        near=near,
        unit=_UNIT[channels],
        near_copies=Finding.of(ids[near_copy].tolist()),
        disagreeing_near_copies=Finding.of(
            ids[near_copy & (labels != labels[near_first])].tolist()
        ),
        protocols={
            name: _audit_protocol(store, name, selection, first, near_first) for name in chosen
        },
        unusable=unusable,
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


def _look(joints: Joints, origin: int, *, flat: bool) -> _Look:
    """(M, T, V, 3); a frame counts as zero when all persons in it are. flat: joints not found keep
    a confidence, as their third number.
    """
    # moveaxis alone would take as long as all the rest
    x, y, z = (joints[..., number] for number in range(3))
    zero = (x == 0) & (y == 0) & (z == 0)  # (M, T, V)
    absent = zero.all(axis=-1)  # (M, T): this person is not in this frame
    frames = absent.all(axis=0)  # (T,)
    return _Look(
        nan=not bool(np.isfinite(joints).all()),
        empty=joints.shape[1] == 0,
        one_frame=joints.shape[1] == 1,
        all_zero=joints.shape[1] > 0 and bool(frames.all()),
        zero_frames=bool(frames.any()) and not bool(frames.all()),
        zero_joints=bool(
            (
                np.delete((x == 0) & (y == 0) if flat else zero, [] if flat else origin, axis=-1)
                & ~absent[..., None]
            ).any()
        ),
    )


def _read_clips(
    store: Store, first: Positions, clip_done: Callable[[], object]
) -> tuple[dict[str, Positions], dict[int, Sketch]]:
    """Finding -> which clips have it, as flags in the order of the store; and sketches of the clips
    that are copies of no earlier one.
    """
    looks, sketches = [], {}
    for position in range(store.info.clips):
        joints = store.clip(position)
        looks.append(_look(joints, store.layout.origin, flat=store.info.channels != "xyz"))
        if first[position] == position and not looks[-1].nan:
            sketched = sketch(joints, DIMENSIONS[store.info.channels])
            if sketched is not None:
                sketches[position] = sketched
        clip_done()
    return {
        name: np.array([getattr(look, name) for look in looks], dtype=np.bool_)
        for name in _Look.__slots__
    }, sketches


def _audit_protocol(
    store: Store,
    protocol: str,
    selection: SelectionConfig | None,
    first: Positions,
    near_first: Positions,
) -> ProtocolAudit:
    """first, near_first: for each clip the first one that is identical, or the same motion."""
    kind, split = _split(store, protocol, selection)
    ids, labels = store.column("id"), store.column("label")
    parts = {"train": split.train, "selection": split.selection, "test": split.test}
    clean = split.test[store.clean_test(split)]
    exact, near = _twins(first, parts), _twins(near_first, parts)
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
        duplicates=Duplicates(
            **{kind: Finding.of(ids[twins].tolist()) for kind, twins in exact.items()}
        ),
        near_duplicates=Duplicates(
            **{
                kind: Finding.of(ids[np.setdiff1d(twins, exact[kind])].tolist())
                for kind, twins in near.items()
            }
        ),
        shared_subjects=_shared_subjects(store.column("subject"), parts),
    )


def _unusable(store: Store) -> dict[str, str]:
    reasons = {}
    for name in store.info.protocols:
        try:
            store.split(name, SelectionConfig(kind="none"))
        except UserError as error:
            reasons[name] = str(error).removeprefix(f"protocol '{name}': ")
    return reasons


def _split(store: Store, protocol: str, selection: SelectionConfig | None) -> tuple[str, Split]:
    """The split and the kind of selection it has."""
    if selection is not None:
        return selection.kind, store.split(protocol, selection)
    own: tuple[SelectionKind, ...] = ("protocol",) if store.rule(protocol).selection else ()
    for kind in (*own, SelectionConfig().kind):
        with suppress(UserError):  # no clips of that part, no subjects to hold out
            return kind, store.split(protocol, SelectionConfig(kind=kind))
    return "none", store.split(protocol, SelectionConfig(kind="none"))


def _twins(group: Positions, parts: Mapping[str, Positions]) -> dict[str, Positions]:
    """Clips with another of their group in a part, for each field of `Duplicates`; ascending."""
    twins = {}
    for part, positions in parts.items():
        _, firsts = np.unique(group[positions], return_index=True)
        twins[f"within_{part}"] = np.delete(positions, firsts)
    for earlier, later in _PAIRS:
        twins[f"{earlier}_{later}"] = parts[later][
            np.isin(group[parts[later]], group[parts[earlier]])
        ]
    return twins


def _shared_subjects(subjects: Column, parts: Mapping[str, Positions]) -> dict[str, Finding]:
    """Subjects with clips in both parts of a pair; nothing where no clip says who is in it."""
    known = {
        part: {subject for subject in subjects[positions].tolist() if subject is not None}
        for part, positions in parts.items()
    }
    if not any(known.values()):
        return {}
    return {
        f"{a}_{b}": Finding.of([str(subject) for subject in sorted(known[a] & known[b])])
        for a, b in _PAIRS
    }


def _first_of_its_kind(hashes: list[str]) -> Positions:
    """For each entry the place of the first equal one."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(value, place) for place, value in enumerate(hashes)], dtype=np.int64
    )


def _missing(classes: tuple[str, ...], labels: Iterable[int]) -> tuple[str, ...]:
    present = Counter(int(label) for label in labels)
    return tuple(name for k, name in enumerate(classes) if not present[k])
