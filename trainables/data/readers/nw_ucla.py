"""NW-UCLA skeletons as CTR-GCN and its successors read them: one JSON per clip and two lists.

Knows nothing of stores.

Data set: J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu, "Cross-view Action Modeling, Learning and
Recognition", CVPR 2014.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainables.contract.archives import tar_members
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import parse_json, read_bytes, read_json
from trainables.contract.names import shown
from trainables.data.readers.checks import Problems, checked_joints
from trainables.data.readers.licences import LICENCES
from trainables.data.store.description import Clip, Description, Joints, Recordings
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import LAYOUTS

CLASSES = (
    "pick up with one hand",
    "pick up with two hands",
    "drop trash",
    "walk around",
    "sit down",
    "stand up",
    "donning",
    "doffing",
    "throw",
    "carry",
)
_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})")
_LISTS = {"ucla_train.json": (1, 2), "ucla_valid.json": (3,)}  # file -> cameras it may name


@dataclass(frozen=True, slots=True)
class _Entry:
    """One clip as a list file announces it."""

    source: str  # list file
    length: int
    label: int  # 0-based


def read_nw_ucla(src: Path) -> Recordings:
    """The clips that `ucla_train.json` and `ucla_valid.json` name, from `all_sqe/` or
    `all_sqe.tar.gz` in `src`.
    """
    if missing := [name for name in _LISTS if not (src / name).is_file()]:
        raise UserError(
            f"{src}: must be a folder that holds all_sqe/ (or all_sqe.tar.gz),"
            f" {' and '.join(_LISTS)}, but lacks {', '.join(missing)}"
        )
    problems = Problems()
    entries: dict[str, _Entry] = {}
    for name, cameras in _LISTS.items():
        _add_entries(src / name, cameras, entries, problems)
    problems.raise_any()
    folder = _clips_place(src)
    description = Description(
        name="nw-ucla",
        layout="ucla20",
        classes=CLASSES,
        pipeline="ucla",
        protocols={"xview": ProtocolRule(column="camera", train=(1, 2), test=(3,))},
        provenance={
            "kind": "nw-ucla",
            "licence": LICENCES["nw-ucla"],
            "citation": (
                "J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu, Cross-view Action Modeling, Learning"
                " and Recognition, CVPR 2014"
            ),
        },
    )
    return Recordings(description, _clips(folder, entries), len(entries))


def _add_entries(
    file: Path, cameras: tuple[int, ...], entries: dict[str, _Entry], problems: Problems
) -> None:
    """Check one list file and add what it names to `entries`."""
    content = read_json(file, "a list of clips, as JSON")
    if not isinstance(content, list) or not content:
        raise UserError(f"{file}: must be a list of records with file_name, length and label")
    for place, item in enumerate(content):
        where = f"{file}[{place}]"
        if not isinstance(item, dict) or not {"file_name", "length", "label"} <= item.keys():
            problems.add(
                f"{where}: must be a record with file_name, length and label, got {shown(item)}"
            )
            continue
        name, length, label = str(item["file_name"]), item["length"], item["label"]
        match = _NAME.fullmatch(name)
        if not match:
            problems.add(f"{where}: file_name must look like a01_s01_e00_v01, got {shown(name)}")
        elif name in entries:
            problems.add(f"{where}: clip '{name}' is named twice, first in {entries[name].source}")
        elif int(match[4]) not in cameras:
            problems.add(
                f"{where}: camera must be {' or '.join(map(str, cameras))}, got {shown(name)}"
            )
        elif not isinstance(label, int) or not 1 <= label <= len(CLASSES):
            problems.add(
                f"{where}: label of '{name}' must be a number from 1 to {len(CLASSES)}, got"
                f" {shown(label)}"
            )
        elif not isinstance(length, int):
            problems.add(
                f"{where}: length of '{name}' must be a number of frames, got {shown(length)}"
            )
        else:
            entries[name] = _Entry(file.name, length, label - 1)


def _clips_place(src: Path) -> Path:
    for place in (src / "all_sqe", src / "all_sqe.tar.gz"):
        if place.exists():
            return place
    raise UserError(
        f"{src}: must hold the clips as all_sqe/ or all_sqe.tar.gz, but neither is there"
    )


def _clips(folder: Path, entries: dict[str, _Entry]) -> Iterator[Clip]:
    """Every listed clip, by name; all problems together at the end."""
    problems = Problems()
    for name, content in _contents(folder, entries):
        try:
            joints = _joints(folder / f"{name}.json", content, name, entries[name])
        except UserError as error:
            problems.add(str(error))
            continue
        _, subject, take, camera = (int(number) for number in re.findall(r"\d+", name))
        yield Clip(name, entries[name].label, joints, subject=subject, camera=camera, take=take)
    problems.raise_any()


def _contents(folder: Path, entries: dict[str, _Entry]) -> Iterator[tuple[str, bytes | None]]:
    """Name and file content of every listed clip, by name; None where the file is missing."""
    if folder.is_dir():
        for name in sorted(entries):
            file = folder / f"{name}.json"
            yield name, read_bytes(file) if file.is_file() else None
        return
    packed = {
        PurePosixPath(member).stem: content
        for member, content in tar_members(
            folder, lambda member: PurePosixPath(member).stem in entries
        )
    }
    for name in sorted(entries):
        yield name, packed.get(name)


def _joints(file: Path, content: bytes | None, name: str, entry: _Entry) -> Joints:
    """The checked joints of one clip, (1, T, 20, 3)."""
    if content is None:
        raise UserError(f"{file}: the clip is missing, {entry.source} names it")
    record = parse_json(file, content)
    if not isinstance(record, dict) or not {"file_name", "skeletons", "label"} <= record.keys():
        raise UserError(f"{file}: must be a record with file_name, skeletons and label")
    joints = checked_joints(str(file), record["skeletons"], LAYOUTS["ucla20"].size)
    if record["file_name"] != name:
        raise UserError(f"{file}: file_name must be '{name}', got {shown(record['file_name'])}")
    if joints.shape[0] != 1 or joints.shape[1] != entry.length:
        raise UserError(
            f"{file}: {entry.source} says {entry.length} frames, the clip has {joints.shape[1]}"
        )
    if record["label"] != entry.label + 1:
        raise UserError(
            f"{file}: {entry.source} says label {entry.label + 1}, the clip has"
            f" {shown(record['label'])}"
        )
    return joints
