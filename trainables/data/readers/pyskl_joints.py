"""The joints of one PYSKL annotation: whole arrays, or compressed to the boxes in which a detector
found somebody. Knows no splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_pickle
from trainables.contract.names import listed, shown
from trainables.data.readers.checks import checked_joints
from trainables.data.readers.detected import by_frame
from trainables.data.store.description import Channels, Joints

Numbers = npt.NDArray[Any]
BOX_THRESHOLD = 0.5  # PYSKL's for Kinetics-400
MOST_FRAMES = 1_000_000  # of a clip: nine hours of video


@dataclass(frozen=True, eq=False, slots=True)
class Annotation:
    """One record of the file; its name and label are checked, its arrays are not."""

    id: str
    label: int
    record: dict[str, Any]
    file: Path

    @property
    def place(self) -> str:
        return f"{self.file}: clip '{self.id}'"

    @property
    def compressed(self) -> bool:
        """Whether poses are listed with their frames, in place of an array with all frames."""
        return "frame_inds" in self.record


@dataclass(frozen=True, eq=False, slots=True)
class Boxes:
    """The boxes of a compressed clip that count: `kept` (N,) of all, and for each of these its
    frame, 0-based among frames that have one.
    """

    kept: npt.NDArray[np.bool_]
    frame: npt.NDArray[np.int64]
    total_frames: int  # of the video

    @property
    def frames(self) -> int:
        """Frames with somebody in them."""
        return int(self.frame.max(initial=-1)) + 1


class RawFiles:
    """The files of joints that annotations name, one in memory at a time; `root` None: names count
    from the annotation file's folder.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._file: Path | None = None
        self._content: Any = None  # or the reason why there is none

    def keypoint(self, annotation: Annotation) -> Any:
        """What the file says of the clip: {id: {"keypoint": ...}} of many clips, or {"keypoint":
        ...} of one.
        """
        file = self._located(annotation)
        if file != self._file:
            self._file = file
            try:
                self._content = read_pickle(file)
            except UserError as error:
                self._content = error
        if isinstance(self._content, UserError):
            raise self._content
        content = self._content
        clip = content.get(annotation.id, content) if isinstance(content, dict) else None
        if not isinstance(clip, dict) or "keypoint" not in clip:
            raise UserError(
                f"{file}: must hold the keypoint of clip '{annotation.id}', {annotation.file.name}"
                " says it is there"
            )
        return clip["keypoint"]

    def _located(self, annotation: Annotation) -> Path:
        """Below the root the file may also lie by its bare name: the paths in a file are those of
        the machine it was made on.
        """
        named = Path(str(annotation.record["raw_file"]))
        if self._root is None:
            return annotation.file.parent / named
        below = self._root / named
        return below if below.is_file() else self._root / named.name


def boxes(annotation: Annotation, threshold: float) -> Boxes:
    """The boxes with a score of at least `threshold`; all of them where there are no scores."""
    record, place = annotation.record, annotation.place
    frame = np.asarray(record["frame_inds"])
    if (
        frame.ndim != 1
        or frame.dtype.kind not in "iu"
        or (len(frame) and frame.min() < 0)
        or (frame[1:] < frame[:-1]).any()
    ):
        raise UserError(
            f"{place}: frame_inds must be frame numbers that do not fall, got {frame.dtype}"
            f" {frame.shape}"
        )
    score = np.asarray(record.get("box_score", np.full(len(frame), np.inf)))
    if score.shape != frame.shape or score.dtype.kind not in "fiu" or np.isnan(score).any():
        raise UserError(
            f"{place}: box_score must have a number for each of {len(frame)} frame_inds, got"
            f" {score.dtype} {score.shape}"
        )
    kept = score >= threshold
    distinct, number = np.unique(frame[kept], return_inverse=True)
    total = record.get("total_frames")
    if not isinstance(total, int | np.integer) or total < max(len(distinct), 1):
        raise UserError(
            f"{place}: total_frames must be at least the {len(distinct)} frames that frame_inds"
            f" name, got {shown(total)}"
        )
    return Boxes(kept, number.astype(np.int64), int(total))


def form(annotation: Annotation, raw: RawFiles) -> tuple[Channels, int]:
    """Channels and number of joints of a clip."""
    keypoint = _keypoint(annotation, raw)
    if annotation.compressed:
        return "xyc", keypoint.shape[-2]
    if keypoint.shape[-1] == 3:
        return "xyz", keypoint.shape[-2]
    return "xy" if annotation.record.get("keypoint_score") is None else "xyc", keypoint.shape[-2]


def read_joints(
    annotation: Annotation, raw: RawFiles, joints: int, threshold: float, persons: int
) -> Joints:
    """The checked joints (M, T, V, 3) of a clip, with the channels of its `form`; of a compressed
    one at most `persons` per frame.
    """
    keypoint = _keypoint(annotation, raw)
    if keypoint.shape[-2] != joints:
        raise UserError(
            f"{annotation.place}: keypoint must have {joints} joints, got {keypoint.shape[-2]}"
        )
    return (
        _decompressed(annotation, keypoint, threshold, persons)
        if annotation.compressed
        else _whole(annotation, keypoint)
    )


def _keypoint(annotation: Annotation, raw: RawFiles) -> Numbers:
    """The array of positions: (M, T, V, 2 or 3), compressed (N, V, 3)."""
    record, place = annotation.record, annotation.place
    if "keypoint" in record:
        keypoint = record["keypoint"]
    elif "raw_file" in record and annotation.compressed:
        keypoint = raw.keypoint(annotation)
    else:
        raise UserError(
            f"{place}: must have keypoint, or raw_file and frame_inds, has {listed(record)}"
        )
    wanted = "(poses, joints, 3)" if annotation.compressed else "(persons, frames, joints, 2 or 3)"
    if not isinstance(keypoint, np.ndarray) or keypoint.dtype.kind not in "fiu":
        raise UserError(
            f"{place}: keypoint must be an array of numbers {wanted}, got"
            f" {getattr(keypoint, 'dtype', type(keypoint).__name__)}"
        )
    if keypoint.ndim != (3 if annotation.compressed else 4) or keypoint.shape[-1] not in (
        (3,) if annotation.compressed else (2, 3)
    ):
        raise UserError(f"{place}: keypoint must be {wanted}, got {keypoint.shape}")
    if max(keypoint.shape) > MOST_FRAMES:  # an array of no persons may announce any number
        raise UserError(
            f"{place}: keypoint must have at most {MOST_FRAMES} frames and joints, got"
            f" {keypoint.shape}"
        )
    return keypoint


def _whole(annotation: Annotation, keypoint: Numbers) -> Joints:
    record, place = annotation.record, annotation.place
    score, frames = record.get("keypoint_score"), record.get("total_frames", keypoint.shape[1])
    if frames != keypoint.shape[1]:
        raise UserError(
            f"{place}: total_frames must be the {keypoint.shape[1]} frames of keypoint, got"
            f" {shown(frames)}"
        )
    if score is not None and (keypoint.shape[-1] == 3 or np.shape(score) != keypoint.shape[:-1]):
        raise UserError(
            f"{place}: keypoint_score must be {keypoint.shape[:-1]} beside a keypoint (..., 2), got"
            f" {np.shape(score)}"
        )
    if not len(keypoint):  # nobody was found: one person who is never there
        return checked_joints(place, np.zeros((1, *keypoint.shape[1:3], 3)), keypoint.shape[2])
    third = np.zeros(keypoint.shape[:-1]) if score is None else np.asarray(score)
    joints = (
        keypoint
        if keypoint.shape[-1] == 3
        else np.concatenate([keypoint, third[..., None]], axis=-1)
    )
    return checked_joints(place, joints, keypoint.shape[2])


def _decompressed(
    annotation: Annotation, keypoint: Numbers, threshold: float, persons: int
) -> Joints:
    """PYSKL's DecompressPose: frames without a box vanish; where a frame has more poses than
    `persons`, those of every frame are sorted by falling confidence, otherwise they stay in the
    order of the file.
    """
    boxed = boxes(annotation, threshold)
    if len(boxed.kept) != len(keypoint):
        raise UserError(
            f"{annotation.place}: keypoint must have a pose for each of {len(boxed.kept)}"
            f" frame_inds, got {len(keypoint)}"
        )
    if not boxed.frames:
        raise UserError(
            f"{annotation.place}: must have a box of score {threshold:g} or more, got none among"
            f" {len(boxed.kept)}"
        )
    poses = checked_joints(annotation.place, keypoint[boxed.kept], keypoint.shape[1])[0]
    most = int(np.bincount(boxed.frame).max())
    return by_frame(poses, boxed.frame, boxed.frames, min(most, persons), ranked=most > persons)
