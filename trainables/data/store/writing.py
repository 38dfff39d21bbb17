"""Writing a store so that a killed import never leaves anything that looks finished.

Knows clips, nothing of where they came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainables.contract import locks
from trainables.contract.disk import sync_folder, write_atomic
from trainables.contract.errors import UserError
from trainables.contract.names import listed, name_problem, shown
from trainables.data.store.description import (
    CLIPS_FILE,
    COLUMNS,
    CONFIDENCE_STEP,
    DTYPES,
    INFO_FILE,
    JOINTS_FILE,
    MOST_CLASSES,
    ROWS,
    STEP,
    VERSION,
    Channels,
    Clip,
    Description,
    Joints,
    Storage,
    StoreInfo,
    layout_of,
    replaced,
    unfinished,
)
from trainables.layouts import Layout

if TYPE_CHECKING:
    import pyarrow as pa

_LOCK = "lock"
MOST_PROBLEMS = 20  # in one message
LARGEST = int(np.iinfo(np.int16).max)


def write_store(
    out: Path,
    clips: Iterable[Clip],
    description: Description,
    *,
    storage: Storage = "float32",
    force: bool = False,
) -> StoreInfo:
    """Write `clips` as a store at `out`; they may come in any order.

    storage int16: whole multiples of a step, see `quantised`; half the size of float32.

    Everything is built in a hidden sibling folder that is renamed at the end. A complete store at
    `out` is replaced only with `force`; a folder that holds anything else never is.
    """
    out = out.absolute()
    check_target(out, force=force)
    _check_names(description)
    with _writing(out), _building(out) as folder:
        rows, table = _write_joints(
            folder / JOINTS_FILE,
            _readable(clips),
            layout_of(description.layout),
            description.channels,
            storage,
        )
        if not rows:
            raise UserError(f"{out}: a store must hold at least one frame, got none")
        _check_protocols(description, table.column_names)
        _write_table(folder / CLIPS_FILE, table.replace_schema_metadata({ROWS: str(rows)}))
        checksums = {name: sha256(folder / name) for name in (CLIPS_FILE, JOINTS_FILE)}
        persons = max(description.persons, *table["persons"].to_pylist())
        own = {
            "version": VERSION,
            "storage": storage,
            "persons": persons,
            "clips": table.num_rows,
            "rows": rows,
            "checksums": checksums,
        }
        info = StoreInfo.model_validate(dict(description) | own)
        content = json.dumps(info.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
        write_atomic(folder / INFO_FILE, content.encode())
    return info


def check_target(out: Path, *, force: bool = False) -> None:
    """UserError when a store may not be written at `out`; cheap, so that a command can ask before
    it reads anything.
    """
    with _writing(out):
        if out.is_dir() and any(out.iterdir()):
            if not (out / INFO_FILE).is_file():
                raise UserError(f"{out}: must be a new folder or a store, but it holds other files")
            if not force:
                raise UserError(f"{out}: there is a complete store already; --force replaces it")
            if others := _not_of_a_store(out):
                raise UserError(
                    f"{out}: must hold a store and nothing else to be replaced, but holds"
                    f" {others[0]} too"
                )
        elif out.exists() and not out.is_dir():
            raise UserError(f"{out}: must be a folder, but it is a file")


def _not_of_a_store(folder: Path) -> list[str]:
    """Names in the folder that no import writes, whole or half."""
    own = (INFO_FILE, CLIPS_FILE, JOINTS_FILE, _LOCK)
    half = tuple(f".{name}." for name in own)
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name not in own and not name.startswith(half)]


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Within: what the operating system refuses (no room, no permission, no such place) is about
    the store.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{out}: the store cannot be written: {error.strerror or error}") from error


def _readable(clips: Iterable[Clip]) -> Iterator[Clip]:
    """The clips; what the operating system refuses while they are made is about their source."""
    try:
        yield from clips
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the source'}: cannot be read: {error.strerror or error}"
        ) from error


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A locked, empty folder that becomes `out` when the block ends well and vanishes otherwise.

    The lock ends with its process, so what a killed import left is told from what another import is
    writing now.
    """
    folder = unfinished(out)
    if folder.exists() and (not folder.is_dir() or _not_of_a_store(folder)):
        raise UserError(f"{folder}: is in the way of the import, and no import made it")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        if not locks.taken(lock.fileno()):
            raise UserError(f"{out}: another import into this folder is running")
        if os.fstat(lock.fileno()).st_nlink == 0:
            raise UserError(f"{out}: another import into this folder ended just now")
        for left in folder.iterdir():
            if left.name != _LOCK:
                left.unlink()
        try:
            yield folder
            (folder / _LOCK).unlink()
            _put_in_place(folder, out)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`; an old store is moved aside first, so that one of the two is on
    disk at any moment.
    """
    sync_folder(folder)
    old = replaced(out)
    if old.exists() and (not (old / INFO_FILE).is_file() or _not_of_a_store(old)):
        raise UserError(f"{old}: is in the way of the import, and no import made it")
    if old.exists() and (out / INFO_FILE).is_file():
        shutil.rmtree(old)
    if (out / INFO_FILE).is_file():
        out.rename(old)
    folder.rename(out)
    sync_folder(out.parent)
    if old.exists():
        shutil.rmtree(old)


def quantised(joints: Joints, channels: Channels) -> tuple[npt.NDArray[np.int16], float]:
    """(q, step): joints = q * step, rounded; q * CONFIDENCE_STEP for confidences.

    The step is `STEP` of the channels, 0.1 mm or 0.05 pixels, doubled until the clip fits into 16
    bits: a coordinate is off by at most half a step (0.05 mm within 3.27 m of the origin, 0.1 mm
    within 6.55 m). Zero stays zero. joints must be finite, confidences at most 3.27.
    """
    units, step = joints.astype(np.float64), STEP[channels]
    if channels == "xyc":
        units[..., 2] /= CONFIDENCE_STEP
    places = units[..., :2] if channels == "xyc" else units
    reach = float(np.abs(places).max(initial=0.0))
    while reach / step > LARGEST:
        step *= 2.0
    places /= step
    return np.rint(units).astype("<i2"), step


def _write_joints(
    file: Path, clips: Iterable[Clip], layout: Layout, channels: Channels, storage: Storage
) -> tuple[int, pa.Table]:
    """Append every clip's rows to `file` and return their number and the clips table."""
    records: dict[str, dict[str, Any]] = {}
    rows = 0
    with file.open("wb") as stream:
        start = _write_header(stream, 0, layout.size, storage)
        for clip in clips:
            if clip.id in records:
                raise UserError(
                    f"clip '{clip.id}': ids must be unique, but there are two of this name"
                )
            joints = without_absent(_checked(clip, layout))
            broken = joints.size - int(np.isfinite(joints).sum())
            if storage == "int16":
                _check_range(clip.id, joints, broken, channels)
            stored, step = (joints, 1.0) if storage == "float32" else quantised(joints, channels)
            stream.write(stored.data)
            records[clip.id] = _record(clip, stored, step, rows) | {"broken": broken}
            rows += stored.shape[0] * stored.shape[1]
        stream.seek(0)
        if _write_header(stream, rows, layout.size, storage) != start:
            raise AssertionError("the header of an array must not grow with its number of rows")
        stream.flush()
        os.fsync(stream.fileno())
    return rows, _table([records[name] for name in sorted(records)])


def _checked(clip: Clip, layout: Layout) -> Joints:
    """The joints of a clip, contiguous; UserError where they are of another shape, a name may not
    be one, or a further column is named as one of the store's own.
    """
    if rule := name_problem(clip.id):
        raise UserError(f"the id of a clip {rule}")
    values = {"subject": clip.subject, "camera": clip.camera, "take": clip.take} | dict(clip.extra)
    for name, value in values.items():
        rule = name_problem(name)
        if rule is None and isinstance(value, str) and value:
            rule = name_problem(value, file_name=False)
        if rule:
            raise UserError(f"clip '{clip.id}': column {shown(name)} {rule}")
    joints = np.ascontiguousarray(clip.joints, dtype="<f4")
    if joints.ndim != 4 or joints.shape[0] < 1 or joints.shape[2:] != (layout.size, 3):
        raise UserError(
            f"clip '{clip.id}': joints must be (persons, frames, {layout.size}, 3), got"
            f" {joints.shape}"
        )
    taken = [name for name in clip.extra if name in COLUMNS]
    if taken:
        raise UserError(
            f"clip '{clip.id}': further columns must be named otherwise than the store's own, got"
            f" {', '.join(taken)}"
        )
    return joints


def _check_range(name: str, joints: Joints, broken: int, channels: Channels) -> None:
    """UserError where joints (M, T, V, 3) cannot be stored as int16."""
    if broken:
        raise UserError(
            f"clip '{name}': coordinates must be finite to be stored as int16, got {broken} that"
            " are not"
        )
    largest = CONFIDENCE_STEP * LARGEST
    if channels == "xyc" and float(np.abs(joints[..., 2]).max(initial=0.0)) > largest:
        raise UserError(
            f"clip '{name}': confidences must be at most {largest:g} to be stored as int16, got"
            f" {np.abs(joints[..., 2]).max():g}"
        )


def without_absent(joints: Joints) -> Joints:
    """Without the last persons (M, T, V, 3) that are zero in every frame; the first always stays.

    The places before stay as they are.
    """
    seen = np.flatnonzero((joints != 0).any(axis=(1, 2, 3)))
    return joints[: int(seen[-1]) + 1 if len(seen) else 1]


def _write_header(stream: Any, rows: int, joints: int, storage: Storage) -> int:
    """The .npy header; NumPy leaves room in it for the first axis to grow. Returns the position
    behind it.
    """
    header = {"descr": DTYPES[storage].str, "fortran_order": False, "shape": (rows, joints, 3)}
    np.lib.format.write_array_header_1_0(stream, header)
    return int(stream.tell())


def _record(clip: Clip, stored: npt.NDArray[Any], step: float, offset: int) -> dict[str, Any]:
    """One row of the clips table."""
    digest = hashlib.blake2b(str((stored.shape, step)).encode(), digest_size=16)
    digest.update(stored.data)
    own = {
        "id": clip.id,
        "label": clip.label,
        "subject": clip.subject,
        "camera": clip.camera,
        "take": clip.take,
    }
    extent = {
        "length": stored.shape[1],
        "persons": stored.shape[0],
        "offset": offset,
        "step": step,
        "hash": digest.hexdigest(),
    }
    extent["absent"] = int((stored == 0).all(axis=(2, 3)).sum())
    return own | extent | dict(clip.extra)


def _table(records: list[dict[str, Any]]) -> pa.Table:
    """Columns of int64 or float64 where every known value is such a number, of text otherwise."""
    import pyarrow as pa

    columns = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        if all(value is None or isinstance(value, int | np.integer) for value in values):
            columns[name] = pa.array(values, pa.int64())
        elif all(isinstance(value, float) for value in values):
            columns[name] = pa.array(values, pa.float64())
        else:
            columns[name] = pa.array(
                [None if value is None else str(value) for value in values], pa.string()
            )
    return pa.table(columns)


def _write_table(file: Path, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    write_atomic(file, sink.getvalue().to_pybytes())


def _check_names(description: Description) -> None:
    """UserError names what is called by a name that may not be one, and classes that share one."""
    named = {
        "the name of a data set": (description.name,),
        "the name of a class": description.classes,
        "the name of a protocol": tuple(description.protocols),
    }
    problems = [
        f"{what} {rule}"
        for what, names in named.items()
        for name in names
        if (rule := name_problem(name, file_name=what != "the name of a class"))
    ]
    twice = [name for name, count in Counter(description.classes).items() if count > 1]
    if twice:
        problems.append(f"classes must have names of their own, got {listed(twice)} twice")
    if len(description.classes) > MOST_CLASSES:
        problems.append(
            f"there must be at most {MOST_CLASSES} classes, got {len(description.classes)}"
        )
    if problems:
        raise UserError.of(problems[:MOST_PROBLEMS])


def _check_protocols(description: Description, columns: list[str]) -> None:
    """Every protocol splits by a column that exists."""
    problems = [
        f"protocol '{name}': column must be one of {', '.join(columns)}, got '{rule.column}'"
        for name, rule in description.protocols.items()
        if rule.column not in columns
    ]
    if problems:
        raise UserError.of(problems)
