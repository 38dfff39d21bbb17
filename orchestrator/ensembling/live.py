"""Answers while frames come in: the class of the last seconds, every few frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.ensembling.open_model import Model
from orchestrator.ensembling.predicting import ranked
from trainables.contract.errors import UserError
from trainables.data.readers.clip_files import Wanted, clip_of_frames, fitted
from trainables.data.readers.frames import LONGEST_LINE, Frame, parse_frame
from trainables.data.readers.tracks import Tracks
from trainables.data.store.description import Joints

MOST_FRAMES = 10_000
"""Of a window: what a camera gives in minutes; times that hardly grow cannot fill the memory."""

ROUNDING = 1e-6
"""Seconds: 1.1 - 0.6 is more than 0.5 in floating point."""

Seen = list[tuple[int, Joints]]
"""The persons of a frame, by number."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a stream is answered."""

    window: float = 2.0  # seconds
    every: int = 10  # frames between answers
    fps: float | None = None  # of frames without a time
    skip_bad: bool = False  # a bad line is left out, and noted
    top: int | None = None  # classes in an answer; None: all
    note: Callable[[str], None] = lambda text: None


@dataclass
class _Window:
    """The frames of the last seconds, and who is in them."""

    seconds: float
    tracks: Tracks
    frames: deque[tuple[float, Seen]] = field(default_factory=lambda: deque(maxlen=MOST_FRAMES))
    full: bool = False  # whether as many seconds have been seen as it holds

    def add(self, time: float, frame: Frame) -> bool:
        """Take in the next frame and forget those that are too old; whether the window began anew,
        because times fell by more than it holds: a camera was started again.
        """
        anew = False
        if self.frames and time <= self.frames[-1][0]:
            last = self.frames[-1][0]
            if last - time <= self.seconds:
                raise UserError(f"time must grow from frame to frame, got {time:g} after {last:g}")
            self.frames.clear()
            self.tracks, self.full, anew = Tracks(self.tracks.dimensions), False, True
        self.frames.append((time, self.tracks.number(frame.persons)))
        before = self._persons()
        while time - self.frames[0][0] > self.seconds + ROUNDING:
            self.frames.popleft()
            self.full = True
        self.tracks.forget(before - self._persons())
        return anew

    def _persons(self) -> set[int]:
        return {number for _, seen in self.frames for number, _ in seen}

    def clip(self, place: str, wanted: Wanted) -> Joints | None:
        """Its frames at equal distances in time, as in a recording: where the camera was slow a
        frame stands for those that are missing. None where there is nobody, or a single frame.
        """
        if len(self.frames) < 2 or not self._persons():
            return None
        times = np.array([at for at, _ in self.frames])
        even = np.linspace(times[0], times[-1], len(times))
        right = np.clip(np.searchsorted(times, even), 1, len(times) - 1)
        nearest = np.where(even - times[right - 1] < times[right] - even, right - 1, right)
        seen = [self.frames[int(at)][1] for at in nearest]
        if not any(seen):
            return None
        return fitted(place, lambda: clip_of_frames(place, seen, wanted), wanted)


def answers(
    lines: Iterable[bytes], model: Model, wanted: Wanted, streaming: Streaming
) -> Iterator[dict[str, Any]]:
    """One answer for every `streaming.every` good frames, as a record for JSON. lines: each at most
    LONGEST_LINE + 1 bytes. UserError names the first bad line, unless such lines are skipped.
    """
    window = _Window(streaming.window, Tracks(3 if wanted.channels == "xyz" else 2))
    good = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            if len(line) > LONGEST_LINE:
                raise UserError(f"{place}: a frame must have at most {LONGEST_LINE} bytes")
            frame = parse_frame(place, line, wanted.layout, wanted.channels)
            at = _time(place, frame, good, streaming.fps)
            try:
                anew = window.add(at, frame)
            except UserError as error:
                raise UserError(f"{place}: {error}") from error
        except UserError as error:
            if not streaming.skip_bad:
                raise
            streaming.note(f"left out: {error}")
            continue
        if anew:
            streaming.note(f"{place}: time falls to {at:g}, the window begins anew")
        good += 1
        if good % streaming.every == 0:
            yield _answer(model, window, window.clip(place, wanted), number, streaming.top)


def _time(place: str, frame: Frame, number: int, fps: float | None) -> float:
    if frame.time is not None and fps is not None:
        raise UserError(f"{place}: has a time, so --fps must be left out, got {fps:g}")
    if frame.time is not None:
        return frame.time
    if fps is None:
        raise UserError(f"{place}: must have a time in seconds, or --fps must be given")
    return number / fps


def _answer(
    model: Model, window: _Window, clip: Joints | None, line: int, top: int | None
) -> dict[str, Any]:
    """What the model says of the window; nothing where it shows nobody."""
    first, last = window.frames[0][0], window.frames[-1][0]
    answer: dict[str, Any] = {
        "line": line,
        "time": last,
        "seconds": round(last - first, 6),
        "frames": len(window.frames),
        "full": window.full,
        "persons": 0,
        "class": None,
        "probability": None,
        "probabilities": {},
        "latency_ms": 0.0,
    }
    if clip is None:
        return answer
    begin = time.perf_counter()
    row = model.predict([clip])[0]
    took = time.perf_counter() - begin
    classes, order = model.description.classes, ranked(row, top)
    return answer | {
        "persons": len(clip),
        "class": classes[order[0]],
        "probability": float(row[order[0]]),
        "probabilities": {classes[k]: float(row[k]) for k in order},
        "latency_ms": round(1e3 * took, 3),
    }


def warm_up(model: Model, wanted: Wanted) -> None:
    """Read the networks, so that the first answer takes no longer than others."""
    made = np.random.default_rng(0).normal(size=(1, 2, wanted.layout.size, 3)).astype(np.float32)
    if wanted.channels == "xy":
        made[..., 2] = 0.0
    model.predict([made])
