"""Annotation files as PYSKL writes them, and what is read from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.contract.errors import UserError
from trainables.data.readers.pyskl import PysklOptions, read_pyskl
from trainables.data.store.reading import Store, write_store

FRAMES = 5


def dump(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=4))
    return file


def whole(
    name: str,
    label: int = 0,
    *,
    joints: int = 17,
    coordinates: int = 2,
    persons: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """An annotation as HRNet's or the Kinect's are, float16;
    `changes` of None take a field away.
    """
    rng = np.random.default_rng(sum(map(ord, name)))
    scale = 100 if coordinates == 2 else 1
    record = {"frame_dir": name, "label": label, "img_shape": (1080, 1920), "total_frames": FRAMES}
    record["keypoint"] = (rng.normal(size=(persons, FRAMES, joints, coordinates)) * scale).astype(
        np.float16
    )
    if coordinates == 2:
        record["keypoint_score"] = rng.random((persons, FRAMES, joints)).astype(np.float16)
    return {field: value for field, value in (record | changes).items() if value is not None}


def boxed(
    name: str,
    label: int = 0,
    *,
    boxes: int = 12,
    frames: int = 6,
    raw_file: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A compressed annotation; without `raw_file` the poses are in it."""
    rng = np.random.default_rng(sum(map(ord, name)))
    record: dict[str, Any] = {
        "frame_dir": name,
        "label": label,
        "total_frames": frames,
        "img_shape": (256, 340),
    }
    record["frame_inds"] = np.sort(rng.integers(0, frames, boxes)).astype(np.int16)
    record["box_score"] = rng.uniform(0.4, 1.0, boxes).astype(np.float32)
    if raw_file is None:
        record["keypoint"] = poses(name, boxes)
    else:
        record["raw_file"] = raw_file
    return {field: value for field, value in (record | changes).items() if value is not None}


def poses(name: str, boxes: int = 12) -> Any:
    values = np.random.default_rng(sum(map(ord, name)) + 1).random((boxes, 17, 3)) * (340, 256, 1)
    return values.astype(np.float16)


def halves(
    annotations: list[dict[str, Any]], first: str = "train", second: str = "val"
) -> dict[str, Any]:
    names = [record["frame_dir"] for record in annotations]
    middle = (len(names) + 1) // 2
    return {"split": {first: names[:middle], second: names[middle:]}, "annotations": annotations}


def imported(out: Path, file: Path, *, test: Path | None = None, **settings: Any) -> Store:
    options = PysklOptions(
        **{name: settings.pop(name) for name in list(settings) if name in PysklOptions.model_fields}
    )
    recordings = read_pyskl(file, options, test=test, **settings)
    write_store(out, recordings.clips, recordings.description)
    made = Store.open(out)
    assert made.info.clips == recordings.count
    return made


def refused(tmp_path: Path, content: Any, **settings: Any) -> str:
    """What the importer says; there must be no store."""
    file = dump(tmp_path / "bad.pkl", content)
    with pytest.raises(UserError) as caught:
        imported(tmp_path / "refused", file, **settings)
    assert not [entry for entry in tmp_path.iterdir() if "refused" in entry.name]
    assert "bad.pkl" in str(caught.value)
    return str(caught.value)
