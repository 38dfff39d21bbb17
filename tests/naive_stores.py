"""Small stores and source folders for tests, made by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.store.reading import Clip, Description, ProtocolRule, Store, write_store
from trainables.layouts import LAYOUTS

SPLIT = {
    "split": ProtocolRule(column="split", train=("train",), test=("test",), selection=("val",))
}


def clip(
    name: str,
    label: int = 0,
    *,
    fill: int | None = None,
    frames: int = 5,
    persons: int = 1,
    split: str | None = "train",
    **places: Any,
) -> Clip:
    """A clip of random joints; the same `fill` (the name's own otherwise) and size give the same
    joints.
    """
    seed = sum(map(ord, name)) * 1000 + len(name) if fill is None else fill
    joints = np.random.default_rng(seed).normal(size=(persons, frames, 17, 3)).astype(np.float32)
    return Clip(name, label, joints, extra={"split": split}, **places)


def description(classes: int = 2, protocols: dict[str, ProtocolRule] | None = None) -> Description:
    names = tuple(f"class {k}" for k in range(classes))
    return Description(
        name="made up", layout="coco17", classes=names, pipeline="ctr", protocols=protocols or SPLIT
    )


def store(path: Path, clips: Iterable[Clip], **kwargs: Any) -> Store:
    write_store(path, clips, description(**kwargs))
    return Store.open(path)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def ucla_source(src: Path, names: Sequence[str], frames: int = 4) -> Path:
    """An NW-UCLA folder with the given clips; the label is the action's number in the name."""
    (src / "all_sqe").mkdir(parents=True)
    lists: dict[str, list[dict[str, Any]]] = {"ucla_train.json": [], "ucla_valid.json": []}
    for number, name in enumerate(names):
        label = int(name[1:3])
        joints = np.random.default_rng(number).normal(size=(frames, 20, 3)).round(4).tolist()
        (src / "all_sqe" / f"{name}.json").write_text(
            json.dumps({"file_name": name, "skeletons": joints, "label": label})
        )
        lists["ucla_valid.json" if name.endswith("v03") else "ucla_train.json"].append(
            {"file_name": name, "length": frames, "label": label}
        )
    for name, entries in lists.items():
        (src / name).write_text(json.dumps(entries))
    return src


UCLA_NAMES = (
    "a02_s01_e00_v01",
    "a01_s01_e00_v01",
    "a01_s02_e01_v02",
    "a02_s02_e00_v02",
    "a01_s01_e00_v03",
)


def msr_source(src: Path, names: Sequence[str], listed: Sequence[str]) -> Path:
    """An MSRAction3D folder with the given clips, three frames each."""
    folder = src / "real_world_coordinates"
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        rows = np.random.default_rng(number).normal(size=(60, 4))
        (folder / f"{name}_skeleton3D.txt").write_text(
            "".join(" ".join(f"{x:.6f}" for x in row) + "\n" for row in rows)
        )
    (folder / "files_used_in_cvpr12_paper.txt").write_text("\n".join(listed) + "\n")
    return src


def table(file: Path, header: str, *rows: str) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        for line in (header, *rows):
            writer.writerow(line.split(","))
    return file


def array(number: int, *shape: int) -> Any:
    return (
        np.random.default_rng(number)
        .normal(size=shape or (6, LAYOUTS["coco17"].size, 3))
        .astype(np.float32)
    )
