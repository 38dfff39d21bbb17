"""Classes of new clips, a batch of files at a time."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.open_model import Model
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reading
from trainables.data.readers.checks import Problems
from trainables.data.readers.clip_files import READERS, Wanted, clips_of
from trainables.data.store.description import Joints

MSR = "_skeleton3D.txt"
"""In a folder other .txt files are no clips."""


@dataclass(frozen=True, eq=False, slots=True)
class PredictedClip:
    """What a model says of one clip."""

    clip: str  # its file, and where in the file it is
    probabilities: npt.NDArray[np.float64]  # (K,)


def files_of(texts: Sequence[str]) -> list[Path]:
    """The files that are named, in the order of their names and each once: a file, the clips in a
    folder and below it, or what a pattern such as `clips/*.npy` fits. UserError names what fits
    nothing.
    """
    problems, files = Problems(), list[Path]()
    for text in texts:
        with reading(text, "a clip's file, a folder or a pattern"):
            found = _files(text)
        if not found:
            rule = (
                f"must hold clips ({', '.join(READERS)}), got none"
                if Path(text).is_dir()
                else "must be a clip's file, a folder or a pattern that fits some, got no such file"
            )
            problems.add(f"{text}: {rule}")
        files += found
    problems.raise_any()
    return list(dict.fromkeys(files))


def _files(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if _is_clip(file))
    if path.exists() or not glob.has_magic(text):
        return [path] if path.exists() else []
    anchor = Path(path.anchor)
    found = sorted(anchor.glob(str(path.relative_to(anchor))))
    return [file for each in found for file in (_files(str(each)) if each.is_dir() else [each])]


def _is_clip(file: Path) -> bool:
    suffix = file.suffix.lower()
    named = suffix in READERS and (suffix != ".txt" or file.name.endswith(MSR))
    return named and not file.name.startswith(".") and file.is_file()


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are gone through."""

    batch: int = 64  # clips that are in memory and predicted at a time
    skip_bad: bool = False  # clips that cannot be read are left out, and noted
    note: Callable[[str], None] = lambda text: None
    step: Callable[[], None] = lambda: None  # called after each file


def predict_files(
    model: Model, files: Sequence[Path], wanted: Wanted, how: Reading
) -> Iterator[PredictedClip]:
    """What the model says of every clip in the files, in their order. UserError names all clips
    that cannot be read, unless they are skipped; and where none is left.
    """
    problems, waiting, predicted = Problems(), list[tuple[str, Joints]](), 0
    for found in _read(files, wanted, how):
        if isinstance(found, UserError):
            for text in found.problems:
                if how.skip_bad:
                    how.note(f"left out: {text}")
                problems.add(text)
            continue
        if problems.found and not how.skip_bad:
            continue  # nothing will come of it; the others are read to name all that are wrong
        waiting.append(found)
        if len(waiting) == how.batch:
            yield from _predicted(model, waiting)
            predicted += len(waiting)
            waiting.clear()
    if not how.skip_bad or not (predicted or waiting):
        problems.raise_any()
    if waiting:
        yield from _predicted(model, waiting)


def _read(
    files: Sequence[Path], wanted: Wanted, how: Reading
) -> Iterator[tuple[str, Joints] | UserError]:
    """Every clip, or why it cannot be read."""
    for file in files:
        try:
            for place, read in clips_of(file, wanted):
                try:
                    yield place, read()
                except UserError as error:
                    yield error
        except UserError as error:
            yield error
        how.step()


def _predicted(model: Model, clips: list[tuple[str, Joints]]) -> Iterator[PredictedClip]:
    rows = model.predict([joints for _, joints in clips])
    for (place, _), row in zip(clips, rows, strict=True):
        yield PredictedClip(place, row)


def ranked(probabilities: npt.NDArray[np.float64], top: int | None) -> list[int]:
    """The `top` most probable classes, or all, the most probable first; of equal ones the lower."""
    return [int(k) for k in np.argsort(-probabilities, kind="stable")[:top]]
