"""Corners of the convex hulls of clips, found once per machine: for a short trial they cost as
much as an epoch. Knows stores and the folder for caches, no pipeline.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.contract.disk import cache_root, write_atomic
from trainables.contract.errors import OrchestrateError, UserError
from trainables.data.store.reading import Store

log = logging.getLogger(__name__)

Points = npt.NDArray[np.float32]  # (P, 3)

FORM = 1
"""Of a file: one of another form is made anew."""


def hull(points: Points) -> npt.NDArray[np.uint32]:
    """Which of `points` (P, 3) are corners of their convex hull, ascending; all of them where they
    lie in a plane or are few.
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        corners: npt.NDArray[np.uint32] = ConvexHull(points).vertices.astype(np.uint32)
    except QhullError:  # no volume, no hull: then no point may be left out
        return np.arange(len(points), dtype=np.uint32)
    return corners


def hulls(
    store: Store, indices: npt.NDArray[np.int64], points: Callable[[int], Points]
) -> list[npt.NDArray[np.uint32]]:
    """`hull` of each clip at `indices`; points: of the clip of that number among them, which follow
    from the store's content. Kept on disk where there is a folder for caches.
    """
    file = _file(store, indices)
    if file is not None and (kept := _read(file, len(indices))) is not None:
        return kept
    found = [hull(points(number)) for number in range(len(indices))]
    if file is not None:
        _write(file, found)
    return found


def _file(store: Store, indices: npt.NDArray[np.int64]) -> Path | None:
    """Named by the content of the store's files and by the clips; None where nothing is kept."""
    checksums = sorted(store.info.checksums.items())
    if not checksums:  # a store in memory
        return None
    content = f"{FORM} {checksums} ".encode() + indices.astype("<i8").tobytes()
    try:
        return cache_root() / "hulls" / f"{hashlib.sha256(content).hexdigest()[:32]}.npz"
    except UserError as error:
        log.debug("hulls are not kept: %s", error)
        return None


def _read(file: Path, clips: int) -> list[npt.NDArray[np.uint32]] | None:
    """None where it is not there or damaged."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            corners, counts = content["corners"], content["counts"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.debug("%s: is made anew: %s", file, error)
        return None
    if counts.shape != (clips,) or counts.sum() != len(corners) or corners.dtype != np.uint32:
        return None
    return np.split(corners, np.cumsum(counts)[:-1])


def _write(file: Path, found: list[npt.NDArray[np.uint32]]) -> None:
    """A folder that cannot be written is no reason to stop."""
    buffer = io.BytesIO()
    np.savez(buffer, corners=np.concatenate(found), counts=np.array([len(each) for each in found]))
    try:
        write_atomic(file, buffer.getvalue())
    except (OSError, OrchestrateError) as error:
        log.debug("%s: is not written: %s", file, error)
