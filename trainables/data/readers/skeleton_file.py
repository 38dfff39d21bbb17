"""The text of a Kinect v2 `.skeleton` file, as NTU RGB+D has them, checked and read into arrays.

Knows nothing of actors or data sets.

The file has one item per line: the number of frames; per frame the number of bodies; per body its
header (10 values, the first is its id), the number of joints, 25, and the joints (12 values: x, y,
z in metres, places in the depth and the colour image, orientation, tracking state).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.contract.names import printable
from trainables.data.store.description import Joints

JOINTS = 25
VALUES = 12  # of a joint
LONGEST_COUNT = 9  # digits


@dataclass(frozen=True, eq=False, slots=True)
class Sightings:
    """Every body of every frame, in the order of the file: S of them."""

    frame: npt.NDArray[np.int64]  # (S,), ascending; frames without a body do not occur
    body: tuple[str, ...]  # (S,) ids; numbers beyond 2**53, so they stay text
    joints: Joints  # (S, 25, 3), metres


def parse_skeleton(content: bytes) -> Sightings:
    """The bodies of a file; UserError names the line where it breaks the grammar. Line ends may be
    LF or CRLF.
    """
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"byte {error.start}: must be text, it is damaged or of another kind"
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    frame, body, first = _walk(lines)
    coordinates = _coordinates([line for begin in first for line in lines[begin : begin + JOINTS]])
    if coordinates is None or not np.isfinite(coordinates).all():
        raise UserError(_first_wrong(lines, first))
    return Sightings(np.array(frame, np.int64), tuple(body), coordinates.reshape(-1, JOINTS, 3))


def _walk(lines: list[str]) -> tuple[list[int], list[str], list[int]]:
    """Of every sighting: frame, body id and the number (from 0) of its first joint's line."""
    frame: list[int] = []
    body: list[str] = []
    first: list[int] = []
    frames, at = _count(lines, 0, "the number of frames"), 1
    for number in range(frames):
        bodies = _count(lines, at, f"the number of bodies in frame {number + 1} of {frames}")
        at += 1
        for _ in range(bodies):
            header = lines[at].split() if at < len(lines) else []
            if not header:
                raise UserError(
                    f"line {at + 1}: must be a body of frame {number + 1} of {frames}, but"
                    f" {_what(lines, at)}"
                )
            joints = _count(lines, at + 1, "the number of joints")
            if joints != JOINTS:
                raise UserError(f"line {at + 2}: a body must have {JOINTS} joints, got {joints}")
            frame.append(number)
            body.append(header[0])
            first.append(at + 2)
            at += 2 + JOINTS
    if at != len(lines):
        reason = "it was cut short" if at > len(lines) else f"it goes on after its {frames} frames"
        raise UserError(
            f"line {min(at, len(lines)) + 1}: the file must have {at} lines, got {len(lines)};"
            f" {reason}"
        )
    return frame, body, first


def _count(lines: list[str], at: int, what: str) -> int:
    """The number that line `at` holds and nothing else."""
    text = lines[at].strip() if at < len(lines) else ""
    if not text.isdecimal() or len(text) > LONGEST_COUNT:
        raise UserError(f"line {at + 1}: must be {what}, but {_what(lines, at)}")
    return int(text)


def _coordinates(rows: list[str]) -> npt.NDArray[np.float32] | None:
    """x, y, z (len(rows), 3) of joint lines, read in double precision and rounded once; None where
    a line does not hold its values.
    """
    if not rows:
        return np.empty((0, 3), np.float32)
    if not rows[0].strip():
        return None  # NumPy skips empty lines, and warns where there are no others
    try:
        # the last value proves the line complete
        values = np.loadtxt(rows, usecols=(0, 1, 2, VALUES - 1), comments=None, ndmin=2)
    except ValueError:
        return None
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        return values[:, :3].astype(np.float32) if len(values) == len(rows) else None


def _first_wrong(lines: list[str], first: list[int]) -> str:
    """What is wrong with the first joint that is not as it must be."""
    for line in (begin + joint for begin in first for joint in range(JOINTS)):
        coordinates = _coordinates([lines[line]])
        if coordinates is None or not np.isfinite(coordinates).all():
            rule = (
                f"a joint must have {VALUES} values"
                if coordinates is None
                else "coordinates must be finite"
            )
            return f"line {line + 1}: {rule}, got '{_start(lines[line])}'"
    raise AssertionError("lines that are right one by one must be right together")


def _what(lines: list[str], at: int) -> str:
    return (
        f"it is '{_start(lines[at])}'"
        if at < len(lines)
        else f"the file ends after {len(lines)} lines; it was cut short"
    )


def _start(line: str) -> str:
    return printable(line if len(line) <= 60 else f"{line[:57]}...")
