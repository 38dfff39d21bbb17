"""Kinetics-Skeleton as released with ST-GCN: one JSON of OpenPose's poses per clip and two lists of
labels. Knows nothing of stores.

S. Yan, Y. Xiong, D. Lin, "Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action
Recognition", AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_json
from trainables.contract.names import listed, name_problem, shown
from trainables.data.readers.checks import Problems, checked_classes, checked_joints
from trainables.data.readers.detected import by_frame, hide_unseen
from trainables.data.readers.licences import LICENCES
from trainables.data.store.description import Clip, Description, Joints, Recordings
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import LAYOUTS

FRAMES = 300
IMAGE = (340, 256)  # width and height that ST-GCN's authors gave every video, in pixels
# persons of a frame, as in ST-GCN's feeder: the first 5, of these the 2 with the highest scores
LOOKED_AT, KEPT = 5, 2
_JOINTS = LAYOUTS["openpose18"].size
_PARTS = ("train", "val")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One clip as a list of labels announces it."""

    id: str
    part: str
    label: int


def read_kinetics_skeleton(src: Path) -> Recordings:
    """The clips with a skeleton from `kinetics_train/` and `kinetics_val/` in `src`, with the
    labels of `kinetics_*_label.json`.
    """
    problems = Problems()
    entries: list[_Entry] = []
    names: dict[int, str] = {}
    without = {part: _add_entries(src, part, entries, names, problems) for part in _PARTS}
    problems.raise_any()
    missing = [part for part in _PARTS if not any(entry.part == part for entry in entries)]
    if missing:
        raise UserError(
            f"{src}: must hold clips with a skeleton in every part, has none in"
            f" {', '.join(missing)}"
        )
    classes = checked_classes(str(src), max(names))
    description = Description(
        name="kinetics-skeleton",
        layout="openpose18",
        classes=tuple(names.get(label, str(label)) for label in range(classes)),
        channels="xyc",
        persons=KEPT,
        pipeline="pyskl",
        protocols={"split": ProtocolRule(column="split", train=("train",), test=("val",))},
        provenance={
            "kind": "kinetics-skeleton",
            "licence": LICENCES["kinetics-skeleton"],
            "citation": (
                "S. Yan, Y. Xiong, D. Lin, Spatial Temporal Graph Convolutional Networks for"
                " Skeleton-Based Action Recognition, AAAI 2018"
            ),
            "clips without a skeleton, left out": sum(without.values()),
        },
    )
    note = (
        "clips without a skeleton, left out:"
        f" {', '.join(f'{count} ({part})' for part, count in without.items())}"
    )
    return Recordings(
        description, _clips(src, entries), len(entries), (note,) if any(without.values()) else ()
    )


def _add_entries(
    src: Path, part: str, entries: list[_Entry], names: dict[int, str], problems: Problems
) -> int:
    """Check one list of labels, add its clips with a skeleton to `entries` and its classes to
    `names`; the number of the other clips.
    """
    file = src / f"kinetics_{part}_label.json"
    content = read_json(file, "the list of labels, as JSON")
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"{file}: must be a record of clips, each with has_skeleton, label and label_index"
        )
    unlisted = sorted(
        {clip.stem for clip in (src / f"kinetics_{part}").glob("*.json")} - content.keys()
    )
    if unlisted:
        problems.add(
            f"{file}: must name every clip of kinetics_{part}/, {len(unlisted)} are not in it:"
            f" {listed(unlisted)}"
        )
    known = {entry.id for entry in entries}
    without = 0
    for name, item in content.items():
        label = item.get("label_index") if isinstance(item, dict) else None
        if rule := name_problem(name):
            problems.add(f"{file}: the name of a clip {rule}")
        elif (
            not isinstance(label, int)
            or isinstance(label, bool)
            or label < 0
            or not isinstance(item.get("has_skeleton"), bool)
        ):
            problems.add(
                f"{file}: clip '{name}' must have has_skeleton and a label_index from 0 on, got"
                f" {shown(item)}"
            )
        elif names.setdefault(label, str(item.get("label", label))) != str(
            item.get("label", label)
        ):
            problems.add(
                f"{file}: label of clip '{name}' must be {shown(names[label])}, as that of others"
                f" with index {label}, got {shown(item['label'])}"
            )
        elif name in known:
            problems.add(f"{file}: clip '{name}' is there already, in {_PARTS[0]}")
        elif item["has_skeleton"]:
            entries.append(_Entry(name, part, label))
        else:
            without += 1
    return without


def _clips(src: Path, entries: list[_Entry]) -> Iterator[Clip]:
    """Every listed clip with a skeleton; all problems together at the end."""
    problems = Problems()
    for entry in entries:
        file = src / f"kinetics_{entry.part}" / f"{entry.id}.json"
        try:
            joints = _joints(file, entry.label)
        except UserError as error:
            problems.add(str(error))
            continue
        yield Clip(entry.id, entry.label, joints, extra={"split": entry.part})
    problems.raise_any()


def _joints(file: Path, label: int) -> Joints:
    """(2, 300, 18, 3), pixels of the image and scores; frames that the file does not name are
    empty.
    """
    content = read_json(file, "the JSON of a clip, which the list of labels names")
    joints = clip_joints(file, content)
    if content.get("label_index") != label:
        raise UserError(
            f"{file}: the list of labels says label_index {label}, the clip has"
            f" {shown(content.get('label_index'))}"
        )
    return joints


def clip_joints(file: Path, content: Any) -> Joints:
    """The same, from the content of the file."""
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise UserError(f"{file}: must be a record with data, the list of frames")
    frame, poses = _poses(file, content["data"])
    if not frame:
        return np.zeros((KEPT, FRAMES, _JOINTS, 3), np.float32)
    joints = checked_joints(str(file), poses, _JOINTS)[0]
    joints[..., :2] *= np.array(IMAGE, np.float32)
    return by_frame(hide_unseen(joints), np.array(frame), FRAMES, KEPT, ranked=True)


def _poses(file: Path, frames: list[Any]) -> tuple[list[int], Joints]:
    """0-based frame and joints (N, 18, 3) of the first persons of every frame."""
    number: list[int] = []
    pose: list[Any] = []
    score: list[Any] = []
    seen = set[int]()
    for item in frames:
        index, skeletons = (
            (item.get("frame_index"), item.get("skeleton"))
            if isinstance(item, dict)
            else (None, None)
        )
        if (
            not isinstance(index, int)
            or not 1 <= index <= FRAMES
            or index in seen
            or not isinstance(skeletons, list)
        ):
            raise UserError(
                f"{file}: each frame must have a skeleton and a frame_index of its own from 1 to"
                f" {FRAMES}, got {shown(index)}"
            )
        seen.add(index)
        for person in skeletons[:LOOKED_AT]:
            lists = (
                [person.get(key) for key in ("pose", "score")] if isinstance(person, dict) else []
            )
            sizes = [len(values) for values in lists if isinstance(values, list)]
            if sizes != [2 * _JOINTS, _JOINTS]:
                raise UserError(
                    f"{file}: frame {index}: a person must have {2 * _JOINTS} numbers as pose and"
                    f" {_JOINTS} as score, got {sizes}"
                )
            number.append(index - 1)
            pose.append(person["pose"])
            score.append(person["score"])
    try:
        places = np.array(pose, np.float32).reshape(-1, _JOINTS, 2)
        return number, np.concatenate(
            [places, np.array(score, np.float32).reshape(-1, _JOINTS, 1)], axis=-1
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: pose and score must be numbers: {error}") from error
