"""Frames as lines of JSON, as a camera's tracker writes them one by one. Knows no window.

    {"time": 12.033, "persons": [{"id": "a", "joints": [[x, y, z], ...]}]}

`time` (seconds) and `id` may be left out. `joints` has an entry per joint of the layout, in its
order, null where the joint was not seen; or is a record of those that were seen, by name.
Coordinates are those of the layout's channels: metres (x, y, z), or pixels (x, y) and confidence.
Other names on a line are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import parse_json
from trainables.contract.names import listed, name_problem, shown
from trainables.data.readers.detected import hide_unseen
from trainables.data.store.description import Channels, Joints
from trainables.layouts import Layout

LONGEST_LINE = 1 << 22
"""Bytes of a frame: a hundred persons of 133 joints take a tenth of it."""
MOST_FRAMES = 10_000
"""Of a window: what a camera gives in minutes; times that hardly grow cannot fill the memory."""
COORDINATES: dict[Channels, int] = {"xyz": 3, "xyc": 3, "xy": 2}


@dataclass(frozen=True, eq=False, slots=True)
class Person:
    """Somebody in one frame."""

    id: str | None  # what the tracker calls the person; None: it does not say
    joints: Joints  # (V, 3); a joint that was not seen is zero


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """What one line holds."""

    time: float | None  # seconds
    persons: tuple[Person, ...]


def parse_frame(place: str, line: bytes | str, layout: Layout, channels: Channels) -> Frame:
    """The frame of one line, which messages call `place`; UserError says what is wrong with it."""
    content = parse_json(place, line, "a frame as JSON")
    if not isinstance(content, dict) or not isinstance(content.get("persons"), list):
        raise UserError(
            f"{place}: must be a record with persons, a list of everybody who is seen, got"
            f" {shown(content)}"
        )
    time = content.get("time")
    if time is not None and not _is_number(time):
        raise UserError(f"{place}: time must be a number of seconds, got {shown(time)}")
    persons = tuple(
        _person(f"{place}: persons[{number}]", person, layout, channels)
        for number, person in enumerate(content["persons"])
    )
    names = [person.id for person in persons if person.id is not None]
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise UserError(f"{place}: a person must be there once, got {listed(twice)} twice")
    if names and len(names) < len(persons):
        raise UserError(f"{place}: all persons must have an id or none, got {len(names)} with one")
    return Frame(None if time is None else float(time) + 0.0, persons)  # no -0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _person(place: str, person: Any, layout: Layout, channels: Channels) -> Person:
    joints = person.get("joints") if isinstance(person, dict) else None
    if isinstance(joints, dict):
        joints = _by_name(place, joints, layout)
    if not isinstance(joints, list):
        raise UserError(
            f"{place}: must be a record with joints, a list or a record by name, got"
            f" {shown(person)}"
        )
    if len(joints) != layout.size:
        raise UserError(
            f"{place}: must have the {layout.size} joints of layout '{layout.name}', got"
            f" {len(joints)}"
        )
    name = person.get("id")
    if name is not None:
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise UserError(f"{place}: id must be text or a whole number, got {shown(name)}")
        name = str(name)
        if rule := name_problem(name, file_name=False):
            raise UserError(f"{place}: id {rule}")
    return Person(name, _joints(place, joints, channels))


def _by_name(place: str, joints: dict[str, Any], layout: Layout) -> list[Any]:
    unknown = [name for name in joints if name not in layout.joints]
    if unknown:
        raise UserError(
            f"{place}: joints must be named as in layout '{layout.name}'"
            f" ({', '.join(layout.joints)}), got {listed(unknown)}"
        )
    return [joints.get(name) for name in layout.joints]


def _joints(place: str, joints: Sequence[Any], channels: Channels) -> Joints:
    """(V, 3) numbers, a third 0 where there are two; unseen joints are zero."""
    count = COORDINATES[channels]
    rows = [[0.0] * count if joint is None else joint for joint in joints]
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(rows)
            numbers = values.dtype.kind in "fiu" and values.shape == (len(rows), count)
            values = values.astype(np.float32) if numbers else values
    except (ValueError, OverflowError):
        numbers = False
    if not numbers:
        raise UserError(
            f"{place}: each joint must be {count} numbers"
            f" ({', '.join(channels.replace('c', ''))}{', confidence' * (channels == 'xyc')}) or"
            f" null, got {_first_wrong(rows, count)}"
        )
    if not np.isfinite(values).all():
        joint = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise UserError(
            f"{place}: every coordinate must be finite, got {shown(rows[joint])} for joint {joint}"
        )
    if count == 2:
        return np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
    return hide_unseen(values) if channels == "xyc" else values


def _first_wrong(rows: list[Any], count: int) -> str:
    """The first joint that is not `count` numbers, for a message."""
    for number, row in enumerate(rows):
        good = isinstance(row, list) and len(row) == count
        if not good or any(isinstance(v, bool) or not isinstance(v, int | float) for v in row):
            return f"{shown(row)} for joint {number}"
    return "numbers that are too large"


def stacked(frames: Sequence[Sequence[tuple[int, Joints]]], persons: int) -> Joints:
    """(M, T, V, 3) of T frames with the persons in each of them, by their number from 0; zero where
    somebody is not seen. frames: at least one, with somebody in one of them.
    """
    size = next(joints.shape for frame in frames for _, joints in frame)
    placed = np.zeros((persons, len(frames), *size), np.float32)
    for time, frame in enumerate(frames):
        for number, joints in frame:
            placed[number, time] = joints
    return placed
