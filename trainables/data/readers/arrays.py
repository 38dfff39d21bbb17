"""Any data set a user already has as NumPy arrays plus a CSV table of clips.

Knows nothing of stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trainables.contract.archives import ArrayArchive
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import Array, read_array, read_table
from trainables.contract.names import listed, name_problem
from trainables.data.readers.checks import Problems, checked_classes, checked_joints, from_zero
from trainables.data.readers.detected import hide_unseen
from trainables.data.store.description import (
    MEASURED,
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

_PARTS = ("train", "val", "test")
_PLACES = ("subject", "camera", "take")

Row = dict[str, str]


_COORDINATES: dict[Channels, tuple[int, ...]] = {"xyz": (2, 3), "xy": (2,), "xyc": (3,)}


def read_arrays(
    src: Path,
    table: Path,
    layout: Layout,
    pipeline: Pipeline | None,
    channels: Channels = "xyz",
    labels_from: int | None = None,
) -> Recordings:
    """Clips named by `table`, from `src`: a folder with one .npy or .npz per id, or one .npz with
    an array per id.

    An array is (T, V, C) or (M, T, V, C). xyz: C = 3, or C = 2, which gets z = 0; xy: C = 2; xyc: C
    = 3, joints not seen are put at (0, 0).
    pipeline: None for that of the channels, ctr in space and pyskl in the image. labels_from: the
    number of the first class, 0 or 1; None where a label is 0 or labels are names.
    """
    if channels != "xyz" and pipeline not in (None, "pyskl"):
        raise UserError(
            f"--pipeline must be pyskl for channels {channels}, the others need positions in space,"
            f" got {pipeline}"
        )
    rows = _read_table(table)
    classes, labels = _classes(table, rows, labels_from)
    places = {name: _whole_numbers([row.get(name) or None for row in rows]) for name in _PLACES}
    further = [name for name in rows[0] if name not in ("id", "label", *_PLACES)]
    description = Description(
        name=src.stem if src.is_file() else src.resolve().name,
        layout=describe_layout(layout),
        classes=classes,
        channels=channels,
        pipeline=pipeline or ("ctr" if channels == "xyz" else "pyskl"),
        protocols=_protocols(table, rows),
        provenance={"kind": "arrays", "table": table.name},
    )
    clips = [
        (
            row["id"],
            labels[i],
            {name: places[name][i] for name in _PLACES},
            {name: row[name] or None for name in further},
        )
        for i, row in enumerate(rows)
    ]
    clips.sort(key=lambda clip: clip[0])
    return Recordings(description, _clips(src, clips, layout, channels), len(rows))


def _read_table(table: Path) -> list[Row]:
    """The rows of the CSV; ids and labels present and sound, ids unique."""
    read = read_table(table, "a table of clips")
    header, rows = read.header, read.rows
    missing = [name for name in ("id", "label") if name not in header]
    if missing:
        raise UserError(
            f"{table}: must have the columns id and label, lacks {', '.join(missing)}, has"
            f" {listed(header)}"
        )
    if taken := [name for name in MEASURED if name in header]:
        raise UserError(
            f"{table}: column names must be none of {', '.join(MEASURED)}, got {', '.join(taken)}"
        )
    if not rows:
        raise UserError(f"{table}: must name at least one clip, got none")
    problems, first = Problems(), dict[str, int]()
    for line, row in enumerate(rows, 2):
        unsound = [
            f"{name} {rule}"
            for name, value in row.items()
            if (value or name in ("id", "label"))
            and (rule := name_problem(value, file_name=name == "id"))
        ]
        for rule in unsound:
            problems.add(f"{table}: row {line}: {rule}")
        if row["id"] in first and not unsound:
            problems.add(
                f"{table}: row {line}: id '{row['id']}' is there already, in row {first[row['id']]}"
            )
        first.setdefault(row["id"], line)
    problems.raise_any()
    return rows


def _classes(
    table: Path, rows: list[Row], labels_from: int | None
) -> tuple[tuple[str, ...], list[int]]:
    """Class names and one 0-based label per row: labels are all numbers from 0 or `labels_from`, or
    all names (numbered in alphabetical order).
    """
    texts = [row["label"] for row in rows]
    numbers = _whole_numbers(texts)
    if all(isinstance(number, int) for number in numbers):
        labels = [int(number) for number in numbers if number is not None]
        if min(labels) < 0:
            raise UserError(
                f"{table}: row {labels.index(min(labels)) + 2}: label must be 0 or more, got"
                f" {min(labels)}"
            )
        place = f"{table}: row {labels.index(max(labels)) + 2}"
        checked_classes(place, max(labels) - (labels_from or 0))
        labels = from_zero(table, labels, labels_from)
        return tuple(map(str, range(max(labels) + 1))), labels
    mixed = next((text for text in texts if _is_whole(text)), None)
    if mixed is not None:
        name = next(text for text in texts if not _is_whole(text))
        raise UserError(
            f"{table}: labels must be all numbers or all names, got '{mixed}' in row"
            f" {texts.index(mixed) + 2} and '{name}'"
        )
    if labels_from is not None:
        raise UserError(
            f"{table}: --labels-from goes with labels that are numbers, got '{texts[0]}' in row 2"
        )
    names = tuple(sorted(set(texts)))
    number = {name: k for k, name in enumerate(names)}
    checked_classes(str(table), len(names) - 1)
    return names, [number[text] for text in texts]


def _protocols(table: Path, rows: list[Row]) -> dict[str, ProtocolRule]:
    """One protocol per column called split or split_NAME."""
    columns = {
        name.removeprefix("split_"): name
        for name in rows[0]
        if name == "split" or (name.startswith("split_") and name != "split_")
    }
    if not columns:
        raise UserError(
            f"{table}: must have a column 'split' or 'split_NAME' with {', '.join(_PARTS)}, has"
            f" {', '.join(rows[0])}"
        )
    problems, protocols = Problems(), {}
    for protocol, column in columns.items():
        for line, row in enumerate(rows, 2):
            if row[column] not in ("", *_PARTS):
                problems.add(
                    f"{table}: row {line}: {column} must be one of {', '.join(_PARTS)} or empty,"
                    f" got '{row[column]}'"
                )
        present = {row[column] for row in rows}
        missing = [part for part in ("train", "test") if part not in present]
        if missing:
            problems.add(
                f"{table}: column {column} must have both train and test clips, lacks"
                f" {', '.join(missing)}"
            )
        protocols[protocol] = ProtocolRule(
            column=column,
            train=("train",),
            test=("test",),
            selection=("val",) if "val" in present else (),
        )
    problems.raise_any()
    return protocols


def _clips(
    src: Path,
    clips: list[tuple[str, int, dict[str, int | str | None], dict[str, str | None]]],
    layout: Layout,
    channels: Channels,
) -> Iterator[Clip]:
    """Every clip of the table, by id; all problems together at the end."""
    problems = Problems()
    with _archive(src) as archive:
        for name, label, places, extra in clips:
            try:
                place, values = (
                    _from_folder(src, name) if archive is None else _from_archive(archive, name)
                )
                joints = joints_of(place, values, layout, channels)
            except UserError as error:
                problems.add(str(error))
                continue
            yield Clip(name, label, joints, **places, extra=extra)
    problems.raise_any()


@contextmanager
def _archive(src: Path) -> Iterator[ArrayArchive | None]:
    """The open archive at `src`, or None where `src` is a folder."""
    if src.is_dir():
        yield None
        return
    with ArrayArchive(src, "a folder of .npy or .npz files, or one .npz") as archive:
        yield archive


def _from_archive(archive: ArrayArchive, name: str) -> tuple[str, Array]:
    place = f"{archive.file}[{name}]"
    if name not in archive.names:
        raise UserError(f"{place}: the clip is missing, the table names it")
    return place, archive.array(name)


def _from_folder(src: Path, name: str) -> tuple[str, Array]:
    """The array of one clip and the file it comes from."""
    files = [file for file in (src / f"{name}.npy", src / f"{name}.npz") if file.is_file()]
    if len(files) != 1:
        state = "neither is there" if not files else "both are there"
        raise UserError(f"{src / name}: the clip must be there as .npy or .npz, but {state}")
    file = files[0]
    if file.suffix == ".npy":
        return str(file), read_array(file)
    with ArrayArchive(file) as archive:
        if len(archive.names) != 1:
            raise UserError(
                f"{file}: must hold one array, got {len(archive.names)}: {listed(archive.names)}"
            )
        return str(file), archive.array(archive.names[0])


def joints_of(place: str, values: Any, layout: Layout, channels: Channels) -> Joints:
    """Checked joints (M, T, V, 3); where there are two coordinates the third number is 0."""
    if values.dtype.kind not in "fiu":
        raise UserError(f"{place}: joints must be numbers, got {values.dtype}")
    numbers = _COORDINATES[channels]
    if (
        values.ndim not in (3, 4)
        or values.shape[-2] != layout.size
        or values.shape[-1] not in numbers
    ):
        last = f"{layout.size}, {' or '.join(map(str, numbers))})"
        wanted = f"(frames, {last} or (persons, frames, {last} for layout '{layout.name}'" + (
            f" and channels {channels}" if channels != "xyz" else ""
        )
        raise UserError(f"{place}: shape must be {wanted}, got {values.shape}")
    if values.shape[-1] == 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    joints = checked_joints(place, values, layout.size)
    return hide_unseen(joints) if channels == "xyc" else joints


def _whole_numbers(texts: list[str] | list[str | None]) -> list[int | str | None]:
    """The entries as numbers where all that are given are whole numbers, as text otherwise."""
    if all(text is None or _is_whole(text) for text in texts):
        return [None if text is None else int(text) for text in texts]
    return list(texts)


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None
