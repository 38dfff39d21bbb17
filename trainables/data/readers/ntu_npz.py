"""NTU RGB+D as the .npz archive that CTR-GCN's preparation saves, read block by block whatever its
size. Knows nothing of stores.

x_train, x_test: (N, T, 150) joints, padded with zeros to T = 300 frames; columns are actor, joint,
coordinate. y_train, y_test: (N, K) one-hot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainables.contract.archives import ArrayArchive
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import ArrayHead, read_text
from trainables.contract.names import listed, shown
from trainables.data.readers.checks import Problems, checked_classes
from trainables.data.readers.ntu import named_clip, ntu_description
from trainables.data.readers.ntu_names import (
    EXAMPLE,
    NtuName,
    Release,
    actions,
    parse_name,
    protocols,
    saved_order,
)
from trainables.data.readers.skeleton_file import JOINTS
from trainables.data.store.description import Clip, Description, Joints, Recordings
from trainables.data.store.protocols import ProtocolRule

Protocol = Literal["xsub", "xview", "xset", "split"]

PARTS = ("train", "test")
ACTORS = 2
BLOCK = 1 << 23  # bytes of an array in memory at a time
_FILE_NAMES: tuple[tuple[str, Protocol], ...] = (
    ("cs|csub|xsub", "xsub"),
    ("cv|xview", "xview"),
    ("cset|xset", "xset"),
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of x_train or x_test, as it goes into a store."""

    id: str
    label: int
    name: NtuName | None


def read_ntu_npz(
    src: Path, *, protocol: Protocol | None = None, names: Path | None = None
) -> Recordings:
    """Every row of the archive, called train_0, train_1, ..., test_0, ... as CTR-GCN's feeder calls
    them.

    No protocol: the one that the file's name says. With `names`, the list of sample names that the
    archive was made from, rows bear these names and all that they say.
    """
    with ArrayArchive(src) as archive:
        notes = _check_members(archive)
        heads = {part: archive.head(f"x_{part}") for part in PARTS}
        labels, classes = _labels(archive)
        _check_shapes(src, heads, labels)
    protocol = protocol or _protocol_of(src.stem.lower())
    if names is None:
        rows = {
            part: [_Row(f"{part}_{i}", int(label), None) for i, label in enumerate(labels[part])]
            for part in PARTS
        }
        notes.append(
            "rows have no subjects: data.selection.kind clip and none work, subject does not"
            " (--names FILE gives every row its name)"
        )
        description = _nameless(protocol, classes)
    else:
        rows, release = _named(names, protocol, labels, classes)
        description = ntu_description(release, kind="ntu-npz", protocol=protocol, names=names.name)
    return Recordings(description, _clips(src, rows), sum(map(len, rows.values())), notes)


def _protocol_of(stem: str) -> Protocol:
    """What the preparation scripts mean by file names such as ntu60_cs or ntu120_cset."""
    return next(
        (
            protocol
            for words, protocol in _FILE_NAMES
            if re.search(rf"(?<![a-z])({words})(?![a-z])", stem)
        ),
        "split",
    )


def _nameless(protocol: Protocol, classes: int) -> Description:
    known = classes in (60, 120)
    return Description(
        name=f"ntu{classes}",
        layout="ntu25",
        classes=actions()[:classes] if known else tuple(map(str, range(classes))),
        persons=ACTORS,
        pipeline="ctr",
        protocols={protocol: ProtocolRule(column="split", train=("train",), test=("test",))},
        provenance={"kind": "ntu-npz", "protocol": protocol},
    )


def _named(
    file: Path, protocol: Protocol, labels: dict[str, npt.NDArray[np.int64]], classes: int
) -> tuple[dict[str, list[_Row]], Release]:
    """The rows with their names; UserError when number or label of any row disagrees."""
    release: Release = 120 if classes == 120 else 60
    rules = protocols(release)
    if classes != release or protocol not in rules:
        known = {60: "xsub or xview", 120: "xsub or xset"}
        raise UserError(
            f"--names: needs 60 classes and --protocol {known[60]}, or 120 and {known[120]}; got"
            f" {classes} and '{protocol}'"
        )
    texts, named = _read_names(file)
    rows: dict[str, list[_Row]] = {}
    problems = Problems()
    for part, order in saved_order(named, rules[protocol]).items():
        if len(order) != len(labels[part]):
            problems.add(
                f"{file}: must name the {len(labels[part])} rows of x_{part}, but {len(order)}"
                f" names are of that part of {protocol}"
            )
            continue
        rows[part] = [_Row(texts[place], named[place].label, named[place]) for place in order]
        wrong = [i for i, row in enumerate(rows[part]) if row.label != labels[part][i]]
        if wrong:
            row, label = rows[part][wrong[0]], labels[part][wrong[0]]
            first = f"first row {wrong[0]}: {row.id} is of class {row.label}, y_{part} says {label}"
            problems.add(
                f"{file}: must give every row of y_{part} its class, but {len(wrong)} of"
                f" {len(order)} differ, {first}"
            )
    problems.raise_any()
    return rows, release


def _read_names(file: Path) -> tuple[list[str], list[NtuName]]:
    texts = read_text(file, f"a list of names such as {EXAMPLE}").split()
    problems = Problems()
    named: list[NtuName] = []
    for line, text in enumerate(texts, 1):
        name = parse_name(text)
        if name is None:
            problems.add(f"{file}: name {line} must look like {EXAMPLE}, got {shown(text)}")
        else:
            named.append(name)
    if len(set(texts)) != len(texts):
        problems.add(
            f"{file}: every name must be there once, got {len(texts) - len(set(texts))} again"
        )
    problems.raise_any()
    return texts, named


def _clips(src: Path, rows: dict[str, list[_Row]]) -> Iterator[Clip]:
    """Every row, in the order of the archive; all problems together at the end."""
    problems = Problems()
    with ArrayArchive(src) as archive:
        for part in PARTS:
            for i, (row, frames) in enumerate(
                zip(rows[part], _each_row(archive, part), strict=True)
            ):
                place, broken = (
                    f"{src}[x_{part}][{i}]",
                    frames.size - int(np.isfinite(frames).sum()),
                )
                joints = _joints(frames)
                if broken:
                    problems.add(
                        f"{place}: every coordinate must be finite, got {broken} that are NaN,"
                        " infinite or too large"
                    )
                elif not joints.shape[1]:
                    problems.add(f"{place}: must have a frame that is not zero, got none")
                elif row.name is None:
                    yield Clip(row.id, row.label, joints, extra={"split": part})
                else:
                    yield named_clip(row.id, row.name, joints, split=part)
    problems.raise_any()


def _joints(frames: Joints) -> Joints:
    """The first n of the frames (T, 150) as (2, n, 25, 3), n being the number of frames in which
    something is not zero.

    This is what CTR-GCN's feeder takes a clip to be. Where zero frames stand between others, its
    crops never see as many at the end.
    """
    valid = int(frames.any(axis=1).sum())
    return np.ascontiguousarray(
        frames[:valid].reshape(valid, ACTORS, JOINTS, 3).transpose(1, 0, 2, 3)
    )


def _each_row(archive: ArrayArchive, part: str) -> Iterator[Joints]:
    """The frames (T, 150) of every row."""
    for block in archive.blocks(f"x_{part}", BLOCK):
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
            rows = block.astype(np.float32, copy=False)
        yield from rows


def _labels(archive: ArrayArchive) -> tuple[dict[str, npt.NDArray[np.int64]], int]:
    """The class of every row and the number of classes."""
    labels, classes = {}, {}
    for part in PARTS:
        place, head = archive.place(f"y_{part}"), archive.head(f"y_{part}")
        if len(head.shape) != 2 or not all(head.shape) or head.dtype.kind not in "fiub":
            raise UserError(
                f"{place}: must be one-hot numbers (rows, classes), got {head.dtype} {head.shape}"
            )
        classes[part] = checked_classes(place, head.shape[1] - 1)
        wrong, found = [], []
        for hot in archive.blocks(f"y_{part}", BLOCK):
            wrong.append((np.count_nonzero(hot, axis=1) != 1) | (hot.max(axis=1) != 1))
            found.append(hot.argmax(axis=1).astype(np.int64))
        labels[part], unsound = np.concatenate(found), np.flatnonzero(np.concatenate(wrong))
        if len(unsound):
            raise UserError(
                f"{place}: every row must be zero but for a single 1, {len(unsound)} are not,"
                f" the first is row {unsound[0]}"
            )
    if classes["train"] != classes["test"]:
        raise UserError(
            f"{archive.file}: y_train and y_test must have the same number of classes, got"
            f" {classes['train']} and {classes['test']}"
        )
    return labels, classes["train"]


def _check_members(archive: ArrayArchive) -> list[str]:
    """That the four arrays are there; a note about others."""
    wanted = [f"{kind}_{part}" for part in PARTS for kind in "xy"]
    missing = [name for name in wanted if name not in archive.names]
    if missing:
        raise UserError(
            f"{archive.file}: must hold {', '.join(wanted)}, lacks {', '.join(missing)}, has"
            f" {listed(archive.names)}"
        )
    others = [name for name in archive.names if name not in wanted]
    return [f"{listed(others)} in the archive not read"] if others else []


def _check_shapes(
    src: Path, heads: dict[str, ArrayHead], labels: dict[str, npt.NDArray[np.int64]]
) -> None:
    problems = Problems()
    columns = ACTORS * JOINTS * 3
    for part, head in heads.items():
        if (
            len(head.shape) != 3
            or head.shape[2] != columns
            or not all(head.shape)
            or head.dtype.kind != "f"
        ):
            problems.add(
                f"{src}[x_{part}]: must be floating-point numbers (rows, frames, {columns}), got"
                f" {head.dtype} {head.shape}"
            )
        elif head.shape[0] != len(labels[part]):
            problems.add(
                f"{src}: x_{part} and y_{part} must have the same number of rows, got"
                f" {head.shape[0]} and {len(labels[part])}"
            )
    problems.raise_any()
