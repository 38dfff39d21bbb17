"""What a store holds and says of itself: clips, description, the content of dataset.json, and the
names of its files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from trainables.contract.config import Frozen
from trainables.contract.errors import UserError
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import LAYOUTS, Layout, load_layout

VERSION = 2
INFO_FILE = "dataset.json"
CLIPS_FILE = "clips.parquet"
JOINTS_FILE = "joints.npy"
ROWS = b"rows"
"""Under this name the clips table says how many rows the joints have: a table of another store is
found out without reading a column.
"""

Joints = npt.NDArray[np.float32]
Units = npt.NDArray[np.float64]
Pipeline = Literal["ctr", "pyskl", "ucla"]
Storage = Literal["float32", "int16"]
Channels = Literal["xyz", "xyc", "xy"]
"""What the three numbers of a joint are. xyz: a position, in metres. xyc: image coordinates in
pixels and the confidence of the detector;
xy: the same without confidence, the third number is 0."""

DTYPES: dict[Storage, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int16": np.dtype("<i2")}
STEP: dict[Channels, float] = {"xyz": 1e-4, "xyc": 0.05, "xy": 0.05}
"""Smallest step of coordinates stored as int16, in metres or pixels."""
CONFIDENCE_STEP = 1e-4
LEAST_CONFIDENCE = 0.01
"""Of a joint in an image; what is not surer was not seen (PYSKL's PreNormalize2D)."""

MOST_CLASSES = 10_000
"""A label of a billion is an id or a mistake: a classifier would get as many outputs."""

MEASURED = ("length", "persons", "offset", "step", "hash", "absent", "broken")
"""Columns of the clips table that are found from the joints."""
COLUMNS = ("id", "label", "subject", "camera", "take", *MEASURED)
"""What the clips table of every store has."""


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """One recording on its way into a store.

    `joints` is (M, T, V, 3), see `Channels`; `extra` holds further columns of the clips table,
    named otherwise than `COLUMNS`.
    """

    id: str
    label: int
    joints: Joints
    subject: int | str | None = None
    camera: int | str | None = None
    take: int | str | None = None
    extra: Mapping[str, str | int | None] = field(default_factory=dict)


class LayoutRecord(Frozen):
    """A skeleton that is not built in, written out."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    origin: int
    bone_parents: tuple[int, ...] | None = None
    hop_parents: tuple[int, ...] | None = None
    spine: tuple[int, int] | None = None
    shoulders: tuple[int, int] | None = None


class Description(Frozen):
    """What a data set says of itself."""

    name: str = Field(min_length=1)
    layout: str | LayoutRecord  # name of a built-in layout, or a record
    classes: tuple[str, ...] = Field(min_length=1)  # class k is called classes[k]
    channels: Channels = "xyz"
    # places for persons in a batch: at least as many as the largest clip has
    persons: int = Field(default=1, ge=1)
    pipeline: Pipeline  # the transforms its literature uses
    protocols: dict[str, ProtocolRule] = Field(min_length=1)
    provenance: dict[str, Any] = Field(
        default_factory=dict
    )  # where it comes from; no times or paths, so that importing twice gives the same bytes

    @property
    def meaning(self) -> str:
        """Digest of what the numbers of a clip and of an answer stand for."""
        kept = {"layout", "classes", "channels", "persons", "pipeline"}
        content = self.model_dump(mode="json", include=kept)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False, slots=True)
class Recordings:
    """What a reader or a generator gives: a description and its clips, each once, in any order;
    iterating may raise UserError.
    """

    description: Description
    clips: Iterable[Clip]
    count: int  # number of clips, for progress
    # what was left out or counted, for the person who imports; complete when all clips are read
    notes: Sequence[str] = ()


class StoreInfo(Description):
    """The content of dataset.json."""

    version: int
    storage: Storage
    clips: int = Field(ge=1)
    rows: int = Field(ge=1)  # sum over clips of persons * length
    checksums: dict[str, str]  # file -> SHA-256

    @property
    def joints_bytes(self) -> int:
        """Of all rows, as they are stored."""
        return self.rows * layout_of(self.layout).size * 3 * DTYPES[self.storage].itemsize


def layout_of(layout: str | LayoutRecord) -> Layout:
    """The layout a description names or writes out."""
    return load_layout(layout) if isinstance(layout, str) else Layout(**layout.model_dump())


def describe_layout(layout: Layout) -> str | LayoutRecord:
    """How a description refers to `layout`: by name when it is built in, written out otherwise."""
    if LAYOUTS.get(layout.name) == layout:
        return layout.name
    if layout.name in LAYOUTS:
        raise UserError(
            f"layout '{layout.name}' is built in with other joints; choose another name"
        )
    return LayoutRecord(
        name=layout.name,
        joints=layout.joints,
        parents=layout.parents,
        origin=layout.origin,
        bone_parents=layout.bone_parents,
        hop_parents=layout.hop_parents,
        spine=layout.spine,
        shoulders=layout.shoulders,
    )


def unfinished(path: Path) -> Path:
    """Where an import into `path` builds the store before it is complete."""
    return path.with_name(f".{path.name}.partial")


def replaced(path: Path) -> Path:
    """Where the old store lies for the moment in which a new one takes its place."""
    return path.with_name(f".{path.name}.replaced")


def invented_clip(layout: Layout, channels: Channels, *, persons: int, frames: int) -> Joints:
    """A clip (M, T, V, 3) that nobody recorded, with such coordinates as `channels` are."""
    random = np.random.default_rng(0)
    size = (persons, frames, layout.size)
    joints = random.normal(size=(*size, 3)).round(3)
    if channels == "xy":
        joints[..., 2] = 0.0
    elif channels == "xyc":
        joints[..., 2] = random.uniform(size=size).round(3)  # confidences
    return joints.astype(np.float32)
