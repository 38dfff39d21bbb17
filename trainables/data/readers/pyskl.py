"""Annotation files of PYSKL: one pickle with the clips of a data set and its splits.

Knows nothing of stores.

H. Duan, J. Wang, K. Chen, D. Lin, "PYSKL: Towards Good Practices for Skeleton Action Recognition",
ACM Multimedia 2022. The format is that of its tools/data/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from trainables.contract.config import Frozen
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_pickle
from trainables.contract.names import name_problem, shown
from trainables.data.readers.checks import Problems, checked_classes, class_names, from_zero
from trainables.data.readers.detected import as_imported
from trainables.data.readers.ntu import named_clip
from trainables.data.readers.ntu_names import actions, parse_name
from trainables.data.readers.pyskl_joints import (
    BOX_THRESHOLD,
    Annotation,
    RawFiles,
    boxes,
    form,
    read_joints,
)
from trainables.data.readers.pyskl_splits import Splits, read_splits
from trainables.data.store.description import (
    Channels,
    Clip,
    Description,
    Recordings,
    describe_layout,
)
from trainables.layouts import LAYOUTS, Layout

_GUESSED: dict[tuple[Channels, int], str] = {
    ("xyz", 25): "ntu25",
    ("xy", 17): "coco17",
    ("xyc", 17): "coco17",
    ("xy", 18): "openpose18",
    ("xyc", 18): "openpose18",
}


class PysklOptions(Frozen):
    """How the clips of an annotation file become those of a store."""

    max_persons: int = Field(default=2, ge=1)  # per clip; of a compressed clip per frame
    drop_confidence: bool = False
    # compressed clips: boxes below it do not count; None: BOX_THRESHOLD
    box_threshold: float | None = Field(default=None, ge=0, le=1)
    # compressed clips with fewer frames with a box do not train
    valid_ratio: float | None = Field(default=None, ge=0, le=1)
    # the number of the first class; None where a label is 0 or names say what the numbers mean
    labels_from: int | None = Field(default=None, ge=0, le=1)

    @property
    def threshold(self) -> float:
        return BOX_THRESHOLD if self.box_threshold is None else self.box_threshold


def read_pyskl(
    file: Path,
    options: PysklOptions,
    *,
    test: Path | None = None,
    layout: Layout | None = None,
    classes: Path | None = None,
    raw_root: Path | None = None,
) -> Recordings:
    """The clips of {"split": {name: ids}, "annotations": [...]}, or of a bare list of annotations
    that trains and another, `test`.

    layout: None where 25 joints in space (NTU), or 17 (COCO) or 18 (OpenPose) in the image, say
    which it is. classes: a text file with one name per line. raw_root: folder of the files of
    joints that annotations name, where that is not the folder of `file`.
    """
    everything, all_splits = _read(file, test)
    everything = _counted_from_zero(file, everything, options.labels_from, named=bool(classes))
    annotations, splits, notes = _selected(file, everything, all_splits, options)
    raw = RawFiles(raw_root)
    channels, layout = _form(annotations, layout, raw)
    if options.drop_confidence and channels != "xyc":
        raise UserError(
            f"{file}: --drop-confidence needs joints with a confidence, these have channels"
            f" {channels}"
        )
    description = Description(
        name=file.stem,
        layout=describe_layout(layout),
        classes=_class_names(classes, annotations),
        channels="xy" if options.drop_confidence else channels,
        persons=options.max_persons,
        pipeline="pyskl",
        protocols=splits.rules,
        provenance={
            "kind": "pyskl",
            "annotations": file.name,
            **options.model_dump(exclude_defaults=True),
            **notes,
        },
    )
    bare = len(description.classes) - len({annotation.label for annotation in annotations})
    if classes is not None and bare:
        notes["named classes without a clip"] = bare
    said = tuple(f"{what}: {value}" for what, value in notes.items())
    return Recordings(
        description,
        _clips(annotations, splits, options, channels, layout, raw),
        len(annotations),
        said,
    )


def _read(file: Path, test: Path | None) -> tuple[list[Annotation], Splits]:
    """All annotations and their splits, every problem of names and labels at once; those of one
    file of joints stand together.
    """
    contents = [(source, read_pickle(source)) for source in (file, test) if source is not None]
    splits = contents[0][1].get("split") if isinstance(contents[0][1], dict) else None
    if (splits is None) == (test is None):
        rule = (
            "must name the annotations that test, this file has no splits"
            if test is None
            else "is for files without splits, this one has some"
        )
        raise UserError(f"{file}: --test {rule}")
    if splits is not None and not isinstance(splits, dict):
        raise UserError(
            f"{file}: split must be a record of lists of clips, got {type(splits).__name__}"
        )
    problems, seen = Problems(), dict[str, str]()
    by_source = [_annotations(source, content, seen, problems) for source, content in contents]
    problems.raise_any()
    if splits is None:
        splits = {
            part: [annotation.id for annotation in annotations]
            for part, annotations in zip(("train", "test"), by_source, strict=True)
        }
    parts = read_splits(str(file), splits, seen, problems)
    problems.raise_any()
    return (
        sorted(
            (annotation for annotations in by_source for annotation in annotations),
            key=lambda annotation: str(annotation.record.get("raw_file", "")),
        ),
        parts,
    )


def _annotations(
    file: Path, content: Any, seen: dict[str, str], problems: Problems
) -> list[Annotation]:
    """The records of one file whose name and label are sound; `seen` gains their names."""
    records = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(records, list) or not records:
        raise UserError(
            f"{file}: must hold a list of annotations, got"
            f" {'an empty one' if records == [] else type(records).__name__}"
        )
    annotations = []
    for number, record in enumerate(records):
        place = f"{file}: annotations[{number}]"
        name, label = (
            (record.get("frame_dir"), record.get("label"))
            if isinstance(record, dict)
            else (None, None)
        )
        if not isinstance(name, str) or not name:
            problems.add(
                f"{place}: must be a record with the clip's name as frame_dir, got {shown(name)}"
            )
        elif rule := name_problem(name):
            problems.add(f"{place}: frame_dir {rule}")
        elif not isinstance(label, int | np.integer) or isinstance(label, bool) or label < 0:
            problems.add(
                f"{place}: label of '{name}' must be a whole number from 0 on, got {shown(label)}"
            )
        elif name in seen:
            problems.add(f"{place}: clip '{name}' is there already, {seen[name]}")
        else:
            seen[str(name)] = place
            annotations.append(Annotation(str(name), int(label), record, file))
    return annotations


def _selected(
    file: Path, annotations: list[Annotation], splits: Splits, options: PysklOptions
) -> tuple[list[Annotation], Splits, dict[str, int | str]]:
    """The annotations to store, their splits, and what to say of the others."""
    empty, short = _weak(file, annotations, options)
    used = splits.without_training(short)
    short = {name for name in short if splits.hold(name) and not used.hold(name)}
    ids = {annotation.id for annotation in annotations} - empty - short
    for protocol, rule in used.rules.items():
        for part in (*rule.train, *rule.selection, *rule.test):
            if not any(
                kind == part and name in ids for name, kind in used.part[rule.column].items()
            ):
                reason = (
                    f"{len(empty)} clips have no box of score {options.threshold:g} and"
                    f" {len(short)} too few frames"
                )
                raise UserError(
                    f"{file}: protocol '{protocol}' must keep at least one {part} clip, got none:"
                    f" {reason}"
                )
    notes: dict[str, int | str] = {
        "clips in no split, stored without a part": sum(not used.hold(name) for name in ids),
        f"clips without a box of score {options.threshold:g}, left out": len(empty),
        "training clips with too few frames, left out": len(short),
        "splits that make no protocol, ignored": ", ".join(used.unused),
    }
    kept = [annotation for annotation in annotations if annotation.id in ids]
    return kept, used, {what: value for what, value in notes.items() if value}


def _weak(
    file: Path, annotations: list[Annotation], options: PysklOptions
) -> tuple[set[str], set[str]]:
    """Compressed clips without any box that counts, and those in which fewer than `valid_ratio` of
    the frames have one.
    """
    compressed = [annotation for annotation in annotations if annotation.compressed]
    if options.valid_ratio is not None and not compressed:
        raise UserError(f"{file}: --valid-ratio needs compressed clips (frame_inds), there is none")
    if options.box_threshold is not None and not any(
        "box_score" in annotation.record for annotation in compressed
    ):
        raise UserError(
            f"{file}: --box-threshold needs compressed clips with box_score, there is none"
        )
    problems, empty, short = Problems(), set[str](), set[str]()
    for annotation in compressed:
        try:
            boxed = boxes(annotation, options.threshold)
        except UserError as error:
            problems.add(str(error))
            continue
        if not boxed.frames:
            empty.add(annotation.id)
        elif (
            options.valid_ratio is not None
            and boxed.frames / boxed.total_frames < options.valid_ratio
        ):
            short.add(annotation.id)
    problems.raise_any()
    return empty, short


def _form(
    annotations: list[Annotation], layout: Layout | None, raw: RawFiles
) -> tuple[Channels, Layout]:
    """Channels and layout of the first clip that has a known form; whether all have the same is
    seen when they are read.
    """
    problems, channels, joints = Problems(), "", 0
    for annotation in annotations:
        try:
            channels, joints = form(annotation, raw)
        except UserError as error:
            problems.add(str(error))
            continue
        if layout is not None:
            return channels, layout
        if (channels, joints) in _GUESSED:
            return channels, LAYOUTS[_GUESSED[channels, joints]]
    problems.raise_any()
    known = "25 joints in space, or 17 or 18 in the image"
    raise UserError(
        f"{annotations[0].file}: poses must have {known}, unless --layout names their skeleton; got"
        f" {joints} and channels {channels}"
    )


def _clips(
    annotations: list[Annotation],
    splits: Splits,
    options: PysklOptions,
    channels: Channels,
    layout: Layout,
    raw: RawFiles,
) -> Iterator[Clip]:
    """Every clip; all problems together at the end."""
    problems = Problems()
    for annotation in annotations:
        try:
            channels_of_clip, _ = form(annotation, raw)
            if channels_of_clip != channels:
                raise UserError(
                    f"{annotation.place}: joints must have channels {channels}, as those of other"
                    f" clips, got {channels_of_clip}"
                )
            joints = read_joints(
                annotation, raw, layout.size, options.threshold, options.max_persons
            )
        except UserError as error:
            problems.add(str(error))
            continue
        joints = as_imported(
            joints, channels, options.max_persons, drop_confidence=options.drop_confidence
        )
        extra: dict[str, int | str | None] = {
            column: part.get(annotation.id) for column, part in splits.part.items()
        }
        ntu = parse_name(annotation.id)
        clip = (
            named_clip(annotation.id, ntu, joints, **extra)
            if ntu
            else Clip(annotation.id, 0, joints, extra=extra)
        )
        yield replace(clip, label=annotation.label)
    problems.raise_any()


def _counted_from_zero(
    file: Path, annotations: list[Annotation], first: int | None, *, named: bool
) -> list[Annotation]:
    """The annotations with labels from 0. named: a file names the classes, as clips of NTU RGB+D
    do themselves.
    """
    if first is None and (named or _are_ntu(annotations)):
        return annotations
    labels = from_zero(file, [annotation.label for annotation in annotations], first)
    return [
        replace(annotation, label=label)
        for annotation, label in zip(annotations, labels, strict=True)
    ]


def _are_ntu(annotations: list[Annotation]) -> bool:
    """Whether every clip has a name of NTU RGB+D with the action of its 0-based label."""
    return all(
        (name := parse_name(annotation.id)) is not None and name.label == annotation.label
        for annotation in annotations
    )


def _class_names(file: Path | None, annotations: list[Annotation]) -> tuple[str, ...]:
    """One name per line, enough for all labels; without a file the actions of NTU RGB+D where all
    clips are of it, the numbers elsewhere.
    """
    largest = max(annotations, key=lambda annotation: annotation.label)
    count = checked_classes(largest.place, largest.label)
    if file is None:
        if _are_ntu(annotations):
            names = [parse_name(annotation.id) for annotation in annotations]
            return actions()[: 60 if all(name and name.in_60 for name in names) else 120]
        return tuple(str(k) for k in range(count))
    return class_names(file, count)
