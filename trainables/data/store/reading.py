"""One imported data set on disk, memory-mapped and shared by every trial of a machine.

Knows files, nothing of batches or models.

joints.npy      float32 or int16 (rows, V, 3): all frames of all persons of all clips, without
padding clips.parquet   one row per clip, sorted by id dataset.json    what the data set says of
itself, with checksums; written last: without it a folder is not a store
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError, in_words
from trainables.contract.foreign_files import FAILURES, parse_json, read_array, reason
from trainables.contract.names import shown
from trainables.data.store.description import (
    CLIPS_FILE,
    COLUMNS,
    CONFIDENCE_STEP,
    DTYPES,
    INFO_FILE,
    JOINTS_FILE,
    ROWS,
    VERSION,
    Clip,
    Description,
    Joints,
    LayoutRecord,
    StoreInfo,
    Units,
    layout_of,
    replaced,
    unfinished,
)
from trainables.data.store.protocols import Column, ProtocolRule, Split, split_clips
from trainables.data.store.writing import sha256, write_store
from trainables.layouts import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow.parquet as pq

__all__ = [
    "Clip",
    "Description",
    "LayoutRecord",
    "ProtocolRule",
    "Split",
    "Store",
    "StoreInfo",
    "write_store",
]


class Store:
    """A complete store, open for reading; made by `Store.open` and `store_in_memory`.

    The clips are a table sorted by id with the columns of `COLUMNS` and the data set's own.
    `joints` is a read-only memory map (rows, V, 3); frame t of person m of clip i is row offset[i]
    + m * length[i] + t, in units of `units(i)`. `hash` is equal exactly where the joints of two
    clips are equal bit by bit and of the same shape; `absent` counts the rows of a clip that are
    all zero, `broken` its coordinates that are NaN or infinite.
    """

    def __init__(
        self,
        path: Path,
        info: StoreInfo,
        joints: npt.NDArray[Any] | None,
        names: Sequence[str],
        columns: Mapping[str, Column] | None = None,
    ) -> None:
        """joints: None where only the outline of the store is here."""
        self.path = path
        self.info = info
        self._joints = joints
        self._names = names  # of the columns
        self._columns: dict[str, Column] = dict(columns or {})  # those that were read

    @classmethod
    def open(cls, path: Path | str, *, joints: bool = True) -> Store:
        """Open a store, or its outline, without `joints`; UserError when it is missing, damaged or
        of another version.

        Takes as long for many clips as for few: versions and sizes are checked here, columns when
        they are read, checksums by `verify`.
        """
        path = Path(path)
        info = _load_info(path)
        names = _read_names(path / CLIPS_FILE, info)
        if not joints:
            return cls(path, info, None, names)
        mapped = _map_joints(path / JOINTS_FILE)
        wanted = (info.rows, layout_of(info.layout).size, 3)
        if mapped.dtype != DTYPES[info.storage] or mapped.shape != wanted:
            _damaged(
                path / JOINTS_FILE,
                f"it must hold {info.storage} {wanted}, got {mapped.dtype} {mapped.shape}",
            )
        return cls(path, info, mapped, names)

    @property
    def joints(self) -> npt.NDArray[Any]:
        """All frames of all persons of all clips, (rows, V, 3)."""
        assert self._joints is not None, "an outline has no joints"
        return self._joints

    @cached_property
    def layout(self) -> Layout:
        """The skeleton of every clip."""
        return layout_of(self.info.layout)

    def column(self, name: str) -> Column:
        """One value per clip, in the table's order: numbers where all are numbers, otherwise
        objects (None where unknown).
        """
        if name not in self._columns:
            if name not in self._names:
                raise UserError(
                    f"{self.path}: column must be one of {', '.join(self._names)}, got '{name}'"
                )
            self._columns[name] = _read_column(self.path / CLIPS_FILE, name)
        return self._columns[name]

    def clip(self, position: int) -> Joints:
        """The joints of one clip, (M, T, V, 3); a read-only view of the memory map where that holds
        float32.
        """
        stored = self.stored(position)
        return (
            stored
            if self.info.storage == "float32"
            else (stored * self.units[position]).astype(np.float32)
        )

    def stored(self, position: int) -> npt.NDArray[Any]:
        """The same as the store holds it, in units of `units`."""
        offset, length, persons = (int(values[position]) for values in self.extents)
        return np.asarray(self.joints[offset : offset + persons * length]).reshape(
            persons, length, self.layout.size, 3
        )

    @cached_property
    def extents(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First row, length and persons of every clip; UserError unless all of them lie within
        `joints`.
        """
        offset, length, persons = (self.column(name) for name in ("offset", "length", "persons"))
        rows = self.info.rows
        within = all(values.dtype == np.int64 for values in (offset, length, persons)) and bool(
            (
                (offset >= 0)
                & (length >= 0)
                & (length <= rows)
                & (persons >= 1)
                & (persons <= self.info.persons)
            ).all()
        )
        if not within or (offset + length * persons).max() > rows:
            _damaged(
                self.path / CLIPS_FILE,
                f"it names rows that the {rows} of {JOINTS_FILE} do not have, or persons above"
                f" {self.info.persons}",
            )
        return offset, length, persons

    @cached_property
    def units(self) -> Units:
        """(clips, 3): what a stored 1 means for each of a joint's three numbers."""
        units = np.repeat(self.column("step")[:, None], 3, axis=1)
        if self.info.storage == "int16" and self.info.channels == "xyc":
            units[:, 2] = CONFIDENCE_STEP
        return units

    def rule(self, protocol: str) -> ProtocolRule:
        """The rule of that name; UserError lists the known ones."""
        if protocol not in self.info.protocols:
            raise UserError(
                f"{self.path}: protocol must be one of {', '.join(self.info.protocols)}, got"
                f" '{protocol}'"
            )
        return self.info.protocols[protocol]

    def split(self, protocol: str, selection: SelectionConfig) -> Split:
        """Positions of the training, selection and test clips, each ascending."""
        return split_clips(protocol, self.rule(protocol), self.column, selection)

    def clean_test(self, split: Split) -> npt.NDArray[np.bool_]:
        """One value per test clip: False where an identical clip is in the training or the
        selection part.
        """
        hashes = self.column("hash")
        seen = set(hashes[split.train]) | set(hashes[split.selection])
        return np.array([value not in seen for value in hashes[split.test]], dtype=np.bool_)

    def verify(self) -> None:
        """Compare every file with its checksum; UserError names those that changed."""
        changed = [
            name
            for name, digest in sorted(self.info.checksums.items())
            if sha256(self.path / name) != digest
        ]
        if changed:
            raise UserError.of(
                f"{self.path / name}: its content must match the checksum in {INFO_FILE}, it was"
                " changed"
                for name in changed
            )


def _load_info(path: Path) -> StoreInfo:
    """The checked content of dataset.json."""
    file = path / INFO_FILE
    try:
        return parse_info(file.read_bytes(), file)
    except (FileNotFoundError, NotADirectoryError) as error:
        left = [
            str(place)
            for place in (unfinished(path.absolute()), replaced(path.absolute()))
            if place.exists()
        ]
        hint = f" (an interrupted import left {' and '.join(left)}; import again)" if left else ""
        missing = (
            f"there is no {INFO_FILE} in it"
            if path.is_dir()
            else "it is a file"
            if path.exists()
            else f"{path.absolute()} is not there"
        )
        raise UserError(
            f"{path}: must be a store made by 'orchestrate data', but {missing}{hint}"
        ) from error
    except OSError as error:
        raise UserError(f"{file}: must be a file of a store, but {reason(error)}") from error


def parse_info(text: bytes, file: Path | str) -> StoreInfo:
    """The checked content of a dataset.json; `file` is what messages call it."""
    try:
        content = parse_json(file, text)
        plain = json.dumps(content)
    except (UserError, RecursionError) as error:
        why = str(error).removeprefix(f"{file}: must be JSON, but ")
        _damaged(file, f"it is not JSON: {why}")
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise UserError(
            f"{file}: version must be {VERSION}, got {shown(version)}; import the data set again"
        )
    try:
        return StoreInfo.model_validate_json(plain)
    except ValidationError as error:
        problems = (
            f"{file}: {'.'.join(str(part) for part in item['loc'])}: {in_words(item['msg'])}"
            for item in error.errors()
        )
        raise UserError.of(problems) from error


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    """The clips table, open; columns are read when they are needed, so that opening a large store
    takes no longer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # opened here: Arrow itself takes no name that is not UTF-8
        with (
            file.open("rb") as stream,
            pq.ParquetFile(stream, page_checksum_verification=True) as parquet,
        ):
            yield parquet
    except FileNotFoundError:
        _damaged(file, "it is missing")
    except (*FAILURES, pa.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        _damaged(file, f"it cannot be read: {reason(error)}")


def _read_names(file: Path, info: StoreInfo) -> list[str]:
    """The names of the columns of a clips table that fits what `info` says."""
    with _opened(file) as parquet:
        count, names = parquet.metadata.num_rows, list(parquet.schema_arrow.names)
        rows = (parquet.schema_arrow.metadata or {}).get(ROWS, b"an unknown number of").decode()
    if count != info.clips:
        _damaged(file, f"it has {count} clips, {INFO_FILE} says {info.clips}")
    if rows != str(info.rows):
        _damaged(file, f"it is of a store with {rows} rows, {INFO_FILE} says {info.rows}")
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        _damaged(file, f"it lacks column {', '.join(missing)}")
    return names


def _read_column(file: Path, name: str) -> Column:
    import pyarrow as pa

    with _opened(file) as parquet:
        values = parquet.read(columns=[name])[name]
    if values.null_count or not (
        pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    ):
        column = np.empty(len(values), dtype=object)
        column[:] = values.to_pylist()
    else:
        # to_numpy would import pandas
        column = np.concatenate([np.from_dlpack(chunk) for chunk in values.chunks])
    column.flags.writeable = False
    return column


def _map_joints(file: Path) -> np.memmap[Any, np.dtype[Any]]:
    try:
        joints = read_array(file, mapped=True)
    except UserError as error:
        _damaged(file, str(error).partition(", but ")[2])
    if not isinstance(joints, np.memmap):
        _damaged(file, "it holds no rows")
    return joints


def _damaged(file: Path | str, reason: str) -> NoReturn:
    raise UserError(f"{file}: the store is damaged, {reason}; import the data set again")
