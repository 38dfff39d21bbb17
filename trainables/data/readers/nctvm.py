"""Any data set as the arrays of ST-GCN and 2s-AGCN: joints (N, C, T, V, M), padded with zeros, and
a pickle of names and labels for each part. Knows nothing of stores.

S. Yan, Y. Xiong, D. Lin, "Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action
Recognition", AAAI 2018. L. Shi, Y. Zhang, J. Cheng, H. Lu, "Two-Stream Adaptive Graph Convolutional
Networks for Skeleton-Based Action Recognition", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import Array, read_array, read_pickle, reading
from trainables.contract.names import name_problem, shown
from trainables.data.readers.checks import (
    Problems,
    checked_classes,
    checked_joints,
    class_names,
    from_zero,
)
from trainables.data.readers.detected import hide_unseen
from trainables.data.readers.ntu import named_clip
from trainables.data.readers.ntu_names import NtuName, actions, parse_name
from trainables.data.store.description import (
    Channels,
    Clip,
    Description,
    Joints,
    Pipeline,
    Recordings,
    describe_layout,
)
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import Layout

_PARTS = ("train", "val")
_ARRAYS = ("{part}_data_joint.npy", "{part}_data.npy")  # of 2s-AGCN, of ST-GCN
_SUFFIXES = (".skeleton", ".json")  # of the files that ST-GCN's and 2s-AGCN's names are of
_NUMBERS: dict[Channels, tuple[int, ...]] = {"xyz": (2, 3), "xy": (2,), "xyc": (3,)}


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """One part of the data set; the array is a memory map."""

    file: Path
    array: Array
    names: tuple[str, ...]
    labels: tuple[int, ...]


def read_nctvm(
    src: Path,
    layout: Layout,
    *,
    protocol: str = "split",
    channels: Channels = "xyz",
    classes: Path | None = None,
    labels_from: int | None = None,
) -> Recordings:
    """The clips of `train_data_joint.npy` (or `train_data.npy`) and `val_...` in `src`, with the
    names and labels of `train_label.pkl` and `val_label.pkl`: a pair of two lists.

    `train` trains and `val` tests. A clip ends with its last frame that is not zero. classes: a
    text file with one name per line. labels_from: the number of the first class, 0 or 1; None
    where a label is 0, or names of NTU RGB+D or of `classes` say what the numbers mean.
    """
    parts = {part: _part(src, part) for part in _PARTS}
    problems = Problems()
    for part in parts.values():
        try:
            check_shape(part.file, part.array, layout, channels)
        except UserError as error:
            problems.add(str(error))
        _check_labels(part, problems)
    twice = sorted(set(parts["train"].names) & set(parts["val"].names))
    if twice:
        problems.add(f"{src}: a clip must be in one part, {shown(twice[0])} is in both")
    problems.raise_any()
    labels = [label for part in parts.values() for label in part.labels]
    checked_classes(str(src), max(labels) - (labels_from or 0))
    known = [parse_name(name) for part in parts.values() for name in part.names]
    first = 0 if labels_from is None and (classes or _agree(known, labels)) else labels_from
    labels = from_zero(src, labels, first)
    count, ntu = max(labels) + 1, _agree(known, labels)
    parts = {
        name: replace(part, labels=tuple(from_zero(src, part.labels, first or 0)))
        for name, part in parts.items()
    }
    pipeline: Pipeline = "ctr" if channels == "xyz" else "pyskl"
    description = Description(
        name=src.resolve().name,
        layout=describe_layout(layout),
        classes=(
            class_names(classes, count)
            if classes is not None
            else actions()[: 60 if count <= 60 else 120]
            if ntu
            else tuple(map(str, range(count)))
        ),
        channels=channels,
        persons=max(part.array.shape[4] for part in parts.values()),
        pipeline=pipeline,
        protocols={protocol: ProtocolRule(column="split", train=("train",), test=("val",))},
        provenance={"kind": "nctvm", "arrays": [part.file.name for part in parts.values()]},
    )
    return Recordings(description, _clips(parts, layout, channels), len(labels))


def _agree(names: Sequence[NtuName | None], labels: Sequence[int]) -> bool:
    """Whether every clip has a name of NTU RGB+D with the action of its 0-based label."""
    return all(
        name is not None and name.label == label for name, label in zip(names, labels, strict=True)
    )


def _part(src: Path, part: str) -> _Part:
    files = [src / name.format(part=part) for name in _ARRAYS]
    with reading(src, "a folder of arrays"):
        present = [file for file in files if file.is_file()]
    if len(present) != 1:
        state = "both are there" if present else "neither is there"
        raise UserError(f"{src}: must hold {files[0].name} or {files[1].name}, but {state}")
    names, labels = _names_and_labels(src / f"{part}_label.pkl")
    return _Part(present[0], read_array(present[0], mapped=True), names, labels)


def _names_and_labels(file: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    content = read_pickle(file)
    if (
        not isinstance(content, tuple | list)
        or len(content) != 2
        or not all(isinstance(part, tuple | list | np.ndarray) for part in content)
    ):
        raise UserError(f"{file}: must be a pair of names and labels, got {shown(content)}")
    names, labels = (list(part) for part in content)
    problems = Problems()
    if len(names) != len(labels) or not names:
        problems.add(f"{file}: must have a label for each name, got {len(labels)} for {len(names)}")
    for place, (name, label) in enumerate(zip(names, labels, strict=False)):
        if not isinstance(name, str) or (rule := name_problem(name)):
            rule = rule if isinstance(name, str) else f"must be text, got {shown(name)}"
            problems.add(f"{file}: name {place} {rule}")
        if not isinstance(label, int | np.integer) or isinstance(label, bool) or label < 0:
            problems.add(
                f"{file}: label {place} must be a whole number from 0 on, got {shown(label)}"
            )
    problems.raise_any()
    plain = tuple(PurePath(name).stem if name.endswith(_SUFFIXES) else str(name) for name in names)
    if len(set(plain)) != len(plain):
        raise UserError(
            f"{file}: every clip must be there once, got {len(plain) - len(set(plain))} again"
        )
    return plain, tuple(map(int, labels))


def check_shape(place: Path | str, array: Any, layout: Layout, channels: Channels) -> None:
    """UserError unless the array is of clips (N, C, T, V, M), none of these 0."""
    shape, numbers = array.shape, _NUMBERS[channels]
    if (
        array.dtype.kind not in "fiu"
        or len(shape) != 5
        or shape[1] not in numbers
        or shape[3] != layout.size
        or not all(shape)
    ):
        raise UserError(
            f"{place}: must be numbers (clips, {' or '.join(map(str, numbers))}, frames,"
            f" {layout.size}, persons) for layout '{layout.name}' and channels {channels}, got"
            f" {array.dtype} {shape}"
        )


def _check_labels(part: _Part, problems: Problems) -> None:
    if len(part.names) != len(part.array):
        problems.add(
            f"{part.file}: must have a clip for each of {len(part.names)} labels, got"
            f" {len(part.array)}"
        )


def _clips(parts: dict[str, _Part], layout: Layout, channels: Channels) -> Iterator[Clip]:
    """Every clip, one in memory at a time; all problems together at the end."""
    problems = Problems()
    for kind, part in parts.items():
        for i, (name, label) in enumerate(zip(part.names, part.labels, strict=True)):
            try:
                joints = clip_joints(f"{part.file}[{i}]", part.array[i], layout, channels)
            except UserError as error:
                problems.add(str(error))
                continue
            ntu = parse_name(name)
            yield (
                Clip(name, label, joints, extra={"split": kind})
                if ntu is None
                else replace(named_clip(name, ntu, joints, split=kind), label=label)
            )
    problems.raise_any()


def clip_joints(place: str, array: Any, layout: Layout, channels: Channels) -> Joints:
    """(C, T, V, M) as checked joints (M, T, V, 3), without the frames after the last one that is
    not zero.
    """
    shown_frames = np.flatnonzero(array.any(axis=(0, 2, 3)))
    frames = int(shown_frames[-1]) + 1 if len(shown_frames) else 1
    moved = np.asarray(array[:, :frames]).transpose(3, 1, 2, 0)  # (M, T, V, C)
    if moved.shape[-1] == 2:
        moved = np.concatenate([moved, np.zeros_like(moved[..., :1])], axis=-1)
    joints = checked_joints(place, np.ascontiguousarray(moved), layout.size)
    return hide_unseen(joints) if channels == "xyc" else joints
