"""Cases that the preparation of NTU RGB+D tells apart."""

from __future__ import annotations

import numpy as np

from tests.naive_ntu import Frames, Part, made

ALL = range(40)


# What is in the file -> (frames, actors left, frames left); one actor means that the second place
# is zero or a copy.
CASES: dict[str, tuple[Frames, int, int]] = {
    "one body": (made(40, Part(0, ALL)), 1, 40),
    "one body in few frames": (made(5, Part(0, range(5))), 1, 5),
    "frames without a body": (made(40, Part(0, range(3, 30))), 1, 27),
    "one body that comes back": (made(40, Part(0, [*range(10), *range(25, 40)])), 1, 25),
    "two bodies, the second moves more": (made(40, Part(0, ALL), Part(1, ALL, size=2)), 2, 40),
    "two bodies, the first moves more": (made(40, Part(0, ALL, size=2), Part(1, ALL)), 2, 40),
    "a body of 11 frames": (made(40, Part(0, ALL), Part(1, range(11), size=2)), 1, 40),
    "a body of 12 frames": (made(40, Part(0, ALL), Part(1, range(12), size=2)), 2, 40),
    "frames of a dropped body alone": (made(40, Part(0, range(8, 40)), Part(1, range(9))), 1, 32),
    "a body that comes back beside another": (
        made(40, Part(0, ALL, size=2), Part(1, [*range(5, 15), *range(30, 40)])),
        2,
        40,
    ),
    "a body that comes back when nobody else is left": (
        made(40, Part(0, [*range(12), *range(25, 40)], size=2), Part(1, range(25))),
        2,
        27,
    ),
    "too wide in 14 of 20 frames": (
        made(20, Part(0, range(20)), Part(1, range(20), size=2, wide=14)),
        1,
        20,
    ),
    "too wide in 13 of 20 frames": (
        made(20, Part(0, range(20)), Part(1, range(20), size=2, wide=13)),
        2,
        20,
    ),
    "moves most only where too wide": (
        made(20, Part(0, range(20), size=1.3), Part(1, range(20), wide=13)),
        2,
        20,
    ),
    "all too wide: the last stays": (
        made(20, Part(0, range(20), size=2, wide=20), Part(1, range(20), wide=20)),
        1,
        20,
    ),
    "a second body after the first joins it": (
        made(40, Part(0, range(20), size=2), Part(1, range(20, 40))),
        2,
        40,
    ),
    "one frame shared is no overlap": (
        made(40, Part(0, range(21), size=2), Part(1, range(20, 40))),
        2,
        40,
    ),
    "two frames shared are": (made(40, Part(0, range(22), size=2), Part(1, range(20, 40))), 2, 40),
    "a third joins the second": (
        made(40, Part(0, ALL, size=3), Part(1, range(18), size=2), Part(2, range(20, 40))),
        2,
        40,
    ),
    "a third before the second": (
        made(40, Part(0, ALL, size=3), Part(1, range(20, 40), size=2), Part(2, range(3, 18))),
        2,
        40,
    ),
    "a third overlaps what joined the first": (
        made(40, Part(0, range(20, 40), size=3), Part(1, range(18), size=2), Part(2, range(3, 16))),
        2,
        38,
    ),
    "a third overlaps both": (
        made(40, Part(0, ALL, size=3), Part(1, ALL, size=2), Part(2, ALL)),
        2,
        40,
    ),
    "four, two after the others": (
        made(
            40,
            Part(0, range(20), size=4),
            Part(1, range(20), size=3),
            Part(2, range(20, 40), size=2),
            Part(3, range(20, 40)),
        ),
        2,
        40,
    ),
    "the first appears late": (made(40, Part(0, range(15, 40), size=2), Part(1, range(18))), 2, 40),
}


def flat(joints: np.ndarray, *, duplicate: bool) -> np.ndarray:
    """(M, T, 25, 3) as the (T, 150) of the pipeline."""
    second = joints[0] if duplicate else np.zeros_like(joints[0])
    both = joints if len(joints) == 2 else np.stack([joints[0], second])
    return both.transpose(1, 0, 2, 3).reshape(-1, 150)
