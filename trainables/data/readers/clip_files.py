"""New clips to predict, from files of every format that is imported, without labels, names of a
data set or splits. Knows the description that they must fit, and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainables.contract.archives import ArrayArchive
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_array, read_bytes, read_json, read_pickle
from trainables.contract.names import listed, name_problem, shown
from trainables.data.readers import kinetics_skeleton, msr_action3d, nctvm
from trainables.data.readers.arrays import joints_of
from trainables.data.readers.checks import checked_joints
from trainables.data.readers.detected import as_imported, chief_persons
from trainables.data.readers.frames import LONGEST_LINE, parse_frame, stacked
from trainables.data.readers.ntu_bodies import ntu_clip
from trainables.data.readers.pyskl_joints import (
    BOX_THRESHOLD,
    Annotation,
    RawFiles,
    form,
    read_joints,
)
from trainables.data.readers.skeleton_file import parse_skeleton
from trainables.data.readers.tracks import Tracks
from trainables.data.readers.units import FACTORS, Unit, body_size, check_size
from trainables.data.store.description import Channels, Description, Joints, layout_of
from trainables.data.store.writing import without_absent
from trainables.layouts import LAYOUTS, Layout

LEAST_FRAMES = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model takes: clips of the kind that it was trained on."""

    layout: Layout
    channels: Channels
    persons: int
    # a single actor of NTU RGB+D 120 is there twice in what it was trained on
    doubled: bool = False
    # of the numbers in files; None: what a store holds, metres or pixels, which is checked
    unit: Unit | None = None
    box_threshold: float = BOX_THRESHOLD  # boxes of compressed PYSKL clips below it do not count

    @property
    def dimensions(self) -> int:
        """3 in space, 2 in an image."""
        return 3 if self.channels == "xyz" else 2

    @classmethod
    def of(cls, description: Description, unit: Unit | None = None) -> Wanted:
        space = description.channels == "xyz"
        if unit is not None and (unit == "px") == space:
            raise UserError(
                f"--unit: must be {'m, cm or mm for positions in space' if space else 'px'}, got"
                f" {unit}"
            )
        provenance = description.provenance
        return cls(
            layout_of(description.layout),
            description.channels,
            description.persons,
            doubled=provenance.get("single_actor") == "duplicate",
            unit=unit,
            box_threshold=provenance.get("box_threshold", BOX_THRESHOLD),
        )


Read = Callable[[], Joints]
Clips = Iterator[tuple[str, Read]]
"""Where each clip is, for people, and what reads it."""


def clips_of(file: Path, wanted: Wanted) -> Clips:
    """The clips in a file, in its order, with what reads each as checked joints (M, T, V, 3) in
    metres or pixels, M at most `wanted.persons`. UserError where the file, or a clip that is read,
    is damaged or of another kind.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"{file}: must end in one of {', '.join(READERS)}, got '{file.suffix}'")
    for place, read in reader(file, wanted):
        yield place, partial(fitted, place, read, wanted)


def fitted(place: str, read: Read, wanted: Wanted) -> Joints:
    """The clip as the model takes it; UserError where it can be none, or its bodies are of a size
    that none has.
    """
    joints = without_absent(read())
    frames, persons = joints.shape[1], joints.shape[0]
    if frames < LEAST_FRAMES:
        raise UserError(
            f"{place}: a clip must have at least {LEAST_FRAMES} frames to show a motion, got"
            f" {frames}"
        )
    if not joints.any():
        raise UserError(f"{place}: a clip must show somebody, but every joint is at zero")
    if persons > wanted.persons:
        raise UserError(
            f"{place}: must have at most {wanted.persons} person{'s' * (wanted.persons > 1)}, got"
            f" {persons}"
        )
    check_bodies(place, joints, wanted)
    return as_taken(joints, wanted)


def check_bodies(place: str, joints: Joints, wanted: Wanted) -> None:
    """UserError where nobody said what the numbers are and a typical body of the clip is none."""
    if wanted.unit is None and (size := body_size([joints], wanted.dimensions)):
        check_size(size, space=wanted.channels == "xyz", ask=True, place=place)


def as_taken(joints: Joints, wanted: Wanted) -> Joints:
    """The clip in metres or pixels, a single actor twice where all that trained were so."""
    if wanted.unit is not None:
        joints = (joints * np.float32(FACTORS[wanted.unit])).astype(np.float32)
    return np.concatenate([joints, joints]) if wanted.doubled and len(joints) == 1 else joints


def _must_be(place: Path | str, layout: str, channels: Channels, wanted: Wanted) -> None:
    """UserError where files of this format cannot hold what the model takes."""
    given = LAYOUTS[layout]
    if wanted.layout.joints != given.joints or wanted.channels != channels:
        raise UserError(
            f"{place}: holds layout '{layout}' ({given.size} joints, channels {channels}), the"
            f" model takes layout '{wanted.layout.name}' ({wanted.layout.size} joints, channels"
            f" {wanted.channels})"
        )


def _skeleton(file: Path, wanted: Wanted) -> Clips:
    """NTU RGB+D's .skeleton: one clip, prepared as in an import."""

    def read() -> Joints:
        _must_be(file, "ntu25", "xyz", wanted)
        content = read_bytes(file, "a .skeleton file")
        try:
            return _chief(ntu_clip(parse_skeleton(content)), wanted)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error

    yield str(file), read


def _chief(joints: Joints, wanted: Wanted) -> Joints:
    return chief_persons(joints, wanted.channels, wanted.persons)


def _array(file: Path, wanted: Wanted) -> Clips:
    """One clip (T, V, C) or (M, T, V, C), or many (N, C, T, V, M)."""
    values = read_array(file, mapped=True)
    if values.ndim == 5:
        yield from _of_many(str(file), values, wanted)
    else:
        yield str(file), lambda: _of_one(str(file), values, wanted)


def _arrays(file: Path, wanted: Wanted) -> Clips:
    """An array per clip, or one of many clips."""
    with ArrayArchive(file) as archive:
        if not archive.names:
            raise UserError(f"{file}: must hold at least one array, got none")
        for name in archive.names:
            place = archive.place(name)
            if len(archive.head(name).shape) == 5:
                yield from _of_many(place, archive.array(name), wanted)
            else:
                yield place, partial(_of_archive, archive, name, wanted)


def _of_archive(archive: ArrayArchive, name: str, wanted: Wanted) -> Joints:
    return _of_one(archive.place(name), archive.array(name), wanted)


def _of_one(place: str, values: Any, wanted: Wanted) -> Joints:
    return joints_of(place, np.asarray(values), wanted.layout, wanted.channels)


def _of_many(place: str, values: Any, wanted: Wanted) -> Clips:
    nctvm.check_shape(place, values, wanted.layout, wanted.channels)
    for number in range(len(values)):
        at = f"{place}[{number}]"
        yield at, partial(nctvm.clip_joints, at, values[number], wanted.layout, wanted.channels)


def _pickle(file: Path, wanted: Wanted) -> Clips:
    """The annotations of a PYSKL file; labels and splits are not looked at."""
    content = read_pickle(file)
    records = content.get("annotations", [content]) if isinstance(content, dict) else content
    if not isinstance(records, list) or not records:
        raise UserError(f"{file}: must hold a list of annotations, got {shown(content)}")
    raw = RawFiles(None)
    for number, record in enumerate(records):
        name = record.get("frame_dir") if isinstance(record, dict) else None
        if not isinstance(name, str) or name_problem(name):
            name = str(number)
        annotation = Annotation(name, 0, record, file)
        yield f"{file}[{annotation.id}]", partial(_of_annotation, annotation, raw, wanted)


def _of_annotation(annotation: Annotation, raw: RawFiles, wanted: Wanted) -> Joints:
    place = annotation.place
    if not isinstance(annotation.record, dict):
        raise UserError(f"{place}: must be a record with keypoint, got {shown(annotation.record)}")
    channels, joints = form(annotation, raw)
    drop = channels == "xyc" and wanted.channels == "xy"
    if ("xy" if drop else channels, joints) != (wanted.channels, wanted.layout.size):
        raise UserError(
            f"{place}: must have {wanted.layout.size} joints of layout '{wanted.layout.name}' and"
            f" channels {wanted.channels}, got {joints} and {channels}"
        )
    read = read_joints(annotation, raw, joints, wanted.box_threshold, wanted.persons)
    return as_imported(read, channels, wanted.persons, drop_confidence=drop)


def _lines(file: Path, wanted: Wanted) -> Clips:
    """One clip: a frame per line; see `frames`."""

    def read() -> Joints:
        tracks = Tracks(wanted.dimensions)
        frames = []
        for number, line in enumerate(read_bytes(file, "frames as lines of JSON").splitlines(), 1):
            place = f"{file}:{number}"
            if len(line) > LONGEST_LINE:
                raise UserError(f"{place}: a frame must have at most {LONGEST_LINE} bytes")
            if line.strip():
                frame = parse_frame(place, line, wanted.layout, wanted.channels)
                frames.append(tracks.number(frame.persons))
        joints = clip_of_frames(str(file), frames, wanted)
        if joints.shape[1] < LEAST_FRAMES:
            raise UserError(
                f"{file}: a clip must show somebody in at least {LEAST_FRAMES} frames, got"
                f" {joints.shape[1]} of {len(frames)}"
            )
        return joints

    yield str(file), read


def clip_of_frames(place: str, frames: list[list[tuple[int, Joints]]], wanted: Wanted) -> Joints:
    """(M, T, V, 3) of numbered persons, of more than fit those who move most (in images: who are
    seen most surely), in the order of their numbers; from the first to the last frame that shows
    one of them, as in recordings, which do not begin before somebody is there.
    """
    numbers = sorted({number for frame in frames for number, _ in frame})
    if not numbers:
        raise UserError(f"{place}: a clip must show somebody, but nobody is in any frame")
    order = {number: at for at, number in enumerate(numbers)}
    placed = stacked([[(order[n], joints) for n, joints in frame] for frame in frames], len(order))
    joints = _chief(placed, wanted)
    there = np.flatnonzero((joints[..., : wanted.dimensions] != 0).any(axis=(0, 2, 3)))
    return joints[:, there[0] : there[-1] + 1]


def _json(file: Path, wanted: Wanted) -> Clips:
    """A clip of NW-UCLA (skeletons) or of Kinetics-Skeleton (data)."""

    def read() -> Joints:
        content = read_json(file, "the JSON of a clip")
        if isinstance(content, dict) and "skeletons" in content:
            _must_be(file, "ucla20", "xyz", wanted)
            return checked_joints(str(file), content["skeletons"], wanted.layout.size)
        if isinstance(content, dict) and "data" in content:
            _must_be(file, "openpose18", "xyc", wanted)
            return _chief(kinetics_skeleton.clip_joints(file, content), wanted)
        held = listed(content) if isinstance(content, dict) else shown(content)
        raise UserError(
            f"{file}: must be a record with skeletons (NW-UCLA) or data (Kinetics-Skeleton), got"
            f" {held}; frames as lines of JSON end in .jsonl"
        )

    yield str(file), read


def _text(file: Path, wanted: Wanted) -> Clips:
    """A clip of MSR-Action3D."""

    def read() -> Joints:
        _must_be(file, "msr20", "xyz", wanted)
        return msr_action3d.clip_joints(file)

    yield str(file), read


READERS: dict[str, Callable[[Path, Wanted], Clips]] = {
    ".skeleton": _skeleton,
    ".npy": _array,
    ".npz": _arrays,
    ".pkl": _pickle,
    ".pickle": _pickle,
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _json,
    ".txt": _text,
}
