"""From the bodies a Kinect saw to the one or two actors of an NTU RGB+D clip, exactly as CTR-GCN's
preparation does it. Knows no files.

The steps, their constants and their precision (float32 where theirs is) are those of the released
scripts, so that a clip equals the array that published pipelines train on, without its padding.
Only the filter by motion is not here: those scripts define it and never call it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.data.readers.skeleton_file import JOINTS, Sightings
from trainables.data.store.description import Joints
from trainables.layouts import LAYOUTS

Flat = npt.NDArray[np.float32]
"""(T, actors, 75): x, y, z of the joints of each actor, zero where an actor is not there."""

SHORTEST = 11  # frames; bodies that are seen in no more are noise
WIDEST = 0.8  # of the height: a body that is wider lies down, or is furniture
NOISY = 0.69754  # share of too wide frames from which on a body is noise


@dataclass(frozen=True, eq=False, slots=True)
class Body:
    """One tracked body: `joints` (F, 25, 3) in the frames `start` to `end`."""

    joints: Joints
    start: int
    motion: float

    @property
    def end(self) -> int:
        """The last frame, inclusive."""
        return self.start + len(self.joints) - 1


def ntu_clip(sightings: Sightings) -> Joints:
    """The actors of a file, (M, T, 25, 3) in metres from joint 2 of the first actor's first frame.

    M = 1: only one body was left.

    UserError where nobody is left.
    """
    flat = centred(actors(sightings))
    return np.ascontiguousarray(flat.reshape(*flat.shape[:2], JOINTS, 3).transpose(1, 0, 2, 3))


def actors(sightings: Sightings) -> Flat:
    """The one or two actors among the bodies of a file; frames in which nobody is seen are left
    out.
    """
    bodies, frames = bodies_of(sightings)
    if not bodies:
        raise UserError("must show a body, but there is none in any frame")
    if len(bodies) == 1:
        return _placed([(0, bodies[0])], 1, frames)
    kept = by_spread(by_length(bodies))
    if not kept:
        raise UserError(
            f"must show a body for more than {SHORTEST} frames, but none of its {len(bodies)} is"
            " there for longer"
        )
    kept = sorted(kept, key=lambda body: body.motion, reverse=True)
    flat = (
        _placed([(0, kept[0])], 1, frames) if len(kept) == 1 else _placed(shared(kept), 2, frames)
    )
    shown: Flat = flat[flat.reshape(frames, -1).sum(axis=1) != 0]
    return shown


def bodies_of(sightings: Sightings) -> tuple[list[Body], int]:
    """Every body, in the order of appearance, and the number of frames that show one; frames are
    counted without the others.

    A body that vanishes and comes back is taken to have been there all the time: its frames follow
    one another from its first (the released scripts count so).
    """
    frames, place = np.unique(sightings.frame, return_inverse=True)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(sightings.body):
        rows.setdefault(name, []).append(row)
    bodies = []
    for mine in rows.values():
        joints = sightings.joints[mine]
        bodies.append(Body(joints, int(place[mine[0]]), motion(joints) if len(rows) > 1 else 0.0))
    return bodies, len(frames)


def motion(joints: Joints) -> float:
    """How much a body moves: the variances of x, of y and of z over all joints of all frames, added
    up; in float32, which decides ties.
    """
    return float(np.var(joints.reshape(-1, 3), axis=0).sum())


def by_length(bodies: list[Body]) -> list[Body]:
    """Without the bodies that are seen in 11 frames or fewer."""
    return [body for body in bodies if len(body.joints) > SHORTEST]


def by_spread(bodies: list[Body]) -> list[Body]:
    """Without bodies that are too wide in 69.754 % of their frames or more, but never without the
    last one.

    A frame is too wide where max x - min x > 0.8 (max y - min y). A body that stays moves no more
    than in its other frames.
    """
    kept = list(bodies)
    for body in bodies:
        if len(kept) == 1:
            break
        # the scripts' comparison was in double precision
        spread = np.ptp(body.joints, axis=1).astype(np.float64)
        upright = spread[:, 0] <= WIDEST * spread[:, 1]
        noise = len(upright) - int(upright.sum())
        if noise and noise / len(upright) >= NOISY:
            kept.remove(body)
        elif noise:
            kept[kept.index(body)] = replace(
                body, motion=min(body.motion, motion(body.joints[upright]))
            )
    return kept


def shared(bodies: list[Body]) -> list[tuple[int, Body]]:
    """Which actor each body belongs to, given the bodies that move most first; a body may belong to
    nobody.

    The first is actor 0. Each further one joins the first actor with whose span of frames it shares
    one at most; the span then grows to hold it. The second actor's span begins as frame 0 alone.
    """
    parts = [(0, bodies[0])]
    spans = [(bodies[0].start, bodies[0].end), (0, 0)]
    for body in bodies[1:]:
        for actor, (start, end) in enumerate(spans):
            if min(end, body.end) - max(start, body.start) <= 0:
                parts.append((actor, body))
                spans[actor] = (min(start, body.start), max(end, body.end))
                break
    return parts


def _placed(parts: list[tuple[int, Body]], count: int, frames: int) -> Flat:
    """Bodies written into their frames of their actors; a later one covers an earlier one in the
    frame they may share.
    """
    flat: Flat = np.zeros((frames, count, JOINTS * 3), np.float32)
    for actor, body in parts:
        if body.end >= frames:
            seen = f"{len(body.joints)} times in {frames - body.start} frames"
            raise UserError(f"a body must be seen once per frame, but one is seen {seen}")
        flat[body.start : body.end + 1, actor] = body.joints.reshape(-1, JOINTS * 3)
    return flat


def centred(flat: Flat) -> Flat:
    """Everybody relative to joint 2 of the first actor in the first frame that shows one; of two
    actors, who is not there stays zero.
    """
    shown = flat[:, 0].any(axis=1)
    if not shown.any():
        raise UserError("must show the first actor, but it is zero in every frame")
    middle = 3 * LAYOUTS["ntu25"].origin
    moved = flat - np.tile(flat[shown.argmax(), 0, middle : middle + 3], JOINTS)
    if flat.shape[1] > 1:
        moved[flat.sum(axis=2) == 0] = 0
    return moved
