"""Answers while frames come in: the class of the last seconds, every few frames."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.ensembling.open_model import Model
from orchestrator.ensembling.predicting import ranked
from trainables.contract.errors import UserError
from trainables.data.readers.clip_files import (
    LEAST_FRAMES,
    Wanted,
    as_taken,
    check_bodies,
    clip_of_frames,
)
from trainables.data.readers.frames import LONGEST_LINE, MOST_FRAMES, Frame, parse_frame
from trainables.data.readers.tracks import Tracks
from trainables.data.store.description import Joints, invented_clip

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
    frames: deque[tuple[float, Seen]] = field(default_factory=deque)
    full: bool = False  # whether as many seconds have been seen as it holds
    cut: bool = False  # whether frames were forgotten that were not too old, as there were too many
    gap: float = 0.0  # seconds between the last two frames
    most: int = 0  # frames that it ever held
    _there: Counter[int] = field(default_factory=Counter)  # frames that show each person

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
            self._there.clear()
            self.tracks, self.full, anew = Tracks(self.tracks.dimensions), False, True
        self.gap = time - self.frames[-1][0] if self.frames else 0.0
        seen = self.tracks.number(frame.persons)
        self.frames.append((time, seen))
        self._there.update(number for number, _ in seen)
        while time - self.frames[0][0] > self.seconds + ROUNDING:
            self._forget_oldest()
        if len(self.frames) > MOST_FRAMES:
            self._forget_oldest()
            self.cut = True
        self.most = max(self.most, len(self.frames))
        return anew

    def _forget_oldest(self) -> None:
        _, seen = self.frames.popleft()
        self.full = True
        self._there.subtract(number for number, _ in seen)
        gone = {number for number, _ in seen if not self._there[number]}
        for number in gone:
            del self._there[number]
        self.tracks.forget(gone)

    @property
    def span(self) -> float:
        """Seconds from its first frame to its last."""
        return self.frames[-1][0] - self.frames[0][0]

    def clip(self, place: str, wanted: Wanted) -> tuple[Joints, float] | None:
        """Its frames at equal distances in time, as in a recording, and the seconds from the first
        to the last: where the camera was slow a frame stands for those that are missing. They begin
        and end with frames that show somebody. None where there are fewer than two.
        """
        there = [at for at, (_, seen) in enumerate(self.frames) if seen]
        if len(there) < LEAST_FRAMES:
            return None
        frames = list(self.frames)[there[0] : there[-1] + 1]
        times = np.array([at for at, _ in frames])
        even = np.linspace(times[0], times[-1], len(times))
        right = np.clip(np.searchsorted(times, even), 1, len(times) - 1)
        nearest = np.where(even - times[right - 1] < times[right] - even, right - 1, right)
        joints = clip_of_frames(place, [frames[int(at)][1] for at in nearest], wanted)
        if joints.shape[1] < LEAST_FRAMES:  # of those who are chosen
            return None
        return joints, float(even[joints.shape[1] - 1] - even[0])


@dataclass
class _Stream:
    """Answers about a window, and what was said of it already."""

    model: Model
    wanted: Wanted
    streaming: Streaming
    window: _Window
    said: set[str] = field(default_factory=set)
    answered: bool = False  # whether there was an answer with a class

    def answer(self, line: int) -> dict[str, Any]:
        """What the model says of the window; nothing where it shows nobody. UserError where
        nothing was answered yet and the bodies have no size that a body has.
        """
        self._note_times(line)
        window = self.window
        answer: dict[str, Any] = {
            "line": line,
            "time": window.frames[-1][0],
            "seconds": 0.0,
            "frames": 0,
            "full": window.full,
            "persons": 0,
            "class": None,
            "probability": None,
            "probabilities": {},
            "latency_ms": 0.0,
        }
        place = f"line {line}"
        found = window.clip(place, self.wanted)
        if found is None:
            return answer
        clip, seconds = found
        answer |= {"seconds": round(seconds, 6), "frames": clip.shape[1], "persons": len(clip)}
        if not self._are_bodies(place, clip):
            return answer
        begin = time.perf_counter()
        row = self.model.predict([as_taken(clip, self.wanted)])[0]
        took = time.perf_counter() - begin
        self.answered = True
        classes, order = self.model.description.classes, ranked(row, self.streaming.top)
        return answer | {
            "class": classes[order[0]],
            "probability": float(row[order[0]]),
            "probabilities": {classes[k]: float(row[k]) for k in order},
            "latency_ms": round(1e3 * took, 3),
        }

    def _are_bodies(self, place: str, clip: Joints) -> bool:
        """Whether a typical body of the clip has the size of one. UserError where not, before the
        first answer: the numbers are of another unit. Later a tracker errs; and where most joints
        are not seen, what is small may be a hand.
        """
        try:
            check_bodies(place, clip, self.wanted)
        except UserError as error:
            seen = (clip[..., : self.wanted.dimensions] != 0).any(axis=-1)  # (M, T, V)
            whole = bool((2 * seen.sum(axis=-1) >= seen.shape[-1]).any())
            if whole and not self.answered and not self.streaming.skip_bad:
                raise
            self._note_once("size", f"no class: {error}")
            return False
        self.said.discard("size")
        return True

    def _note_times(self, line: int) -> None:
        """Say where the window cannot be what was asked for."""
        window, asked = self.window, self.streaming.window
        if window.cut:
            self._note_once(
                "cut",
                f"line {line}: a window holds at most {MOST_FRAMES} frames, {window.span:g} s here,"
                f" --window {asked:g} asks for more",
            )
        if window.most < LEAST_FRAMES and window.full:
            self._note_once(
                "apart",
                f"line {line}: frames are {window.gap:g} s apart, so a window of {asked:g} s shows"
                " no motion: time must be in seconds, or --window longer",
            )

    def _note_once(self, what: str, text: str) -> None:
        if what not in self.said:
            self.said.add(what)
            self.streaming.note(text)


def answers(
    lines: Iterable[bytes], model: Model, wanted: Wanted, streaming: Streaming
) -> Iterator[dict[str, Any]]:
    """One answer for every `streaming.every` good frames, as a record for JSON. lines: each at most
    LONGEST_LINE + 1 bytes. UserError names the first bad line, unless such lines are skipped.
    """
    window = _Window(streaming.window, Tracks(wanted.dimensions))
    stream = _Stream(model, wanted, streaming, window)
    good = frames = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        frames += 1  # a bad line takes its time, too
        try:
            if len(line) > LONGEST_LINE:
                raise UserError(f"{place}: a frame must have at most {LONGEST_LINE} bytes")
            frame = parse_frame(place, line, wanted.layout, wanted.channels)
            at = _time(place, frame, frames - 1, streaming.fps)
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
            yield stream.answer(number)


def _time(place: str, frame: Frame, number: int, fps: float | None) -> float:
    """Seconds at which a frame was seen; number: of frames before it."""
    if frame.time is not None and fps is not None:
        raise UserError(f"{place}: has a time, so --fps must be left out, got {fps:g}")
    if frame.time is not None:
        return frame.time
    if fps is None:
        raise UserError(f"{place}: must have a time in seconds, or --fps must be given")
    return number / fps


def warm_up(model: Model, wanted: Wanted) -> None:
    """Read the networks, so that the first answer takes no longer than others."""
    model.predict([invented_clip(wanted.layout, wanted.channels, persons=1, frames=2)])
