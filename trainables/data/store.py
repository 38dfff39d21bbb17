"""One imported data set on disk, memory-mapped and shared by every trial of a machine. Knows files, nothing of batches or models.

joints.npy      float32 (rows, V, 3): all frames of all persons of all clips, without padding
clips.parquet   one row per clip, sorted by id
dataset.json    what the data set says of itself, with checksums; written last: without it a folder is not a store
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.description import (
    CLIPS_FILE,
    INFO_FILE,
    JOINTS_FILE,
    VERSION,
    Clip,
    Description,
    Joints,
    LayoutRecord,
    StoreInfo,
    layout_of,
    replaced,
    unfinished,
)
from trainables.data.protocols import Column, ProtocolRule, Split, split_clips
from trainables.data.writing import sha256, write_store
from trainables.layouts import Layout

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Clip", "Description", "LayoutRecord", "ProtocolRule", "Split", "Store", "StoreInfo", "write_store"]


class Store:
    """A complete store, open for reading; made by `Store.open`.

    `clips` is a pyarrow table sorted by id with columns id, label, subject, camera, take, length, persons, offset, hash and the data
    set's own. `joints` is a read-only memory map (rows, V, 3); frame t of person m of clip i is row offset[i] + m * length[i] + t.
    `hash` is equal exactly where the joints of two clips are equal bit by bit and of the same shape.
    """

    def __init__(self, path: Path, info: StoreInfo, clips: pa.Table, joints: np.memmap[Any, np.dtype[np.float32]]) -> None:
        self.path = path
        self.info = info
        self.clips = clips
        self.joints = joints

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a store, checking versions and sizes but not checksums; UserError when it is missing, damaged or of another version."""
        path = Path(path)
        info = _load_info(path)
        clips = _load_clips(path / CLIPS_FILE)
        missing = {"id", "label", "subject", "camera", "take", "length", "persons", "offset", "hash"} - set(clips.column_names)
        if missing or clips.num_rows != info.clips:
            reason = (
                f"it lacks column {', '.join(sorted(missing))}" if missing else f"it has {clips.num_rows} clips, {INFO_FILE} says {info.clips}"
            )
            _damaged(path / CLIPS_FILE, reason)
        joints = _map_joints(path / JOINTS_FILE)
        store = cls(path, info, clips, joints)
        if joints.dtype != np.float32 or joints.shape != (info.rows, store.layout.size, 3):
            wanted = (info.rows, store.layout.size, 3)
            _damaged(path / JOINTS_FILE, f"it must hold float32 {wanted}, got {joints.dtype} {joints.shape}")
        ends = store.column("offset") + store.column("length") * store.column("persons")
        if (store.column("offset") < 0).any() or ends.max() > info.rows:
            _damaged(path / CLIPS_FILE, f"it names rows up to {ends.max()}, {JOINTS_FILE} has {info.rows}")
        return store

    @cached_property
    def layout(self) -> Layout:
        """The skeleton of every clip."""
        return layout_of(self.info.layout)

    def column(self, name: str) -> Column:
        """One value per clip, in the table's order: int64 where all are numbers, otherwise objects (None where unknown)."""
        if name not in self.clips.column_names:
            raise UserError(f"{self.path}: column must be one of {', '.join(self.clips.column_names)}, got '{name}'")
        values = self.clips[name]
        if values.null_count or not _is_integer(values):
            column = np.empty(len(values), dtype=object)
            column[:] = values.to_pylist()
            return column
        return np.concatenate([np.from_dlpack(chunk) for chunk in values.chunks])  # to_numpy would import pandas

    def clip(self, position: int) -> Joints:
        """The joints of one clip, (M, T, V, 3); a view of the memory map."""
        offset, length, persons = (int(self._extent[name][position]) for name in ("offset", "length", "persons"))
        return np.asarray(self.joints[offset : offset + persons * length]).reshape(persons, length, self.layout.size, 3)

    @cached_property
    def _extent(self) -> dict[str, Column]:
        return {name: self.column(name) for name in ("offset", "length", "persons")}

    def rule(self, protocol: str) -> ProtocolRule:
        """The rule of that name; UserError lists the known ones."""
        if protocol not in self.info.protocols:
            raise UserError(f"{self.path}: protocol must be one of {', '.join(self.info.protocols)}, got '{protocol}'")
        return self.info.protocols[protocol]

    def split(self, protocol: str, selection: SelectionConfig) -> Split:
        """Positions of the training, selection and test clips, each ascending."""
        return split_clips(protocol, self.rule(protocol), self.column, selection)

    def clean_test(self, split: Split) -> npt.NDArray[np.bool_]:
        """One value per test clip: False where an identical clip is in the training or the selection part."""
        hashes = self.column("hash")
        seen = set(hashes[split.train]) | set(hashes[split.selection])
        return np.array([value not in seen for value in hashes[split.test]], dtype=np.bool_)

    def verify(self) -> None:
        """Compare every file with its checksum; UserError names those that changed."""
        changed = [name for name, digest in sorted(self.info.checksums.items()) if sha256(self.path / name) != digest]
        if changed:
            raise UserError.of(f"{self.path / name}: its content must match the checksum in {INFO_FILE}, it was changed" for name in changed)


def _load_info(path: Path) -> StoreInfo:
    """The checked content of dataset.json."""
    file = path / INFO_FILE
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        left = [str(place) for place in (unfinished(path.absolute()), replaced(path.absolute())) if place.exists()]
        hint = f" (an interrupted import left {' and '.join(left)}; import again)" if left else ""
        raise UserError(f"{path}: must be a store made by 'orchestrate data', but there is no {INFO_FILE} in it{hint}") from error
    except ValueError as error:
        _damaged(file, f"it is not JSON: {error}")
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise UserError(f"{file}: version must be {VERSION}, got {version}; import the data set again")
    try:
        return StoreInfo.model_validate_json(json.dumps(content))
    except ValidationError as error:
        problems = (f"{file}: {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        raise UserError.of(problems) from error


def _load_clips(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.read()
    except FileNotFoundError:
        _damaged(file, "it is missing")
    except (OSError, pa.ArrowException) as error:
        _damaged(file, f"it cannot be read: {error}")


def _map_joints(file: Path) -> np.memmap[Any, np.dtype[np.float32]]:
    try:
        joints = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        _damaged(file, "it is missing")
    except (OSError, ValueError, EOFError) as error:
        _damaged(file, f"it was cut short or is not an array: {error}")
    assert isinstance(joints, np.memmap)
    wanted = joints.offset + joints.nbytes
    if file.stat().st_size != wanted:
        _damaged(file, f"it must have {wanted} bytes, got {file.stat().st_size}")
    return joints


def _is_integer(values: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(values.type))


def _damaged(file: Path, reason: str) -> NoReturn:
    raise UserError(f"{file}: the store is damaged, {reason}; import the data set again")
