"""One file of NTU RGB+D: every branch of the preparation against its slow twin, and every way it
can be wrong.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.naive_ntu import FIRST_ID, Frames, Part, made, pose, prepared, skeleton_text
from tests.trainables.data.readers.ntu_cases import CASES, flat
from trainables.contract.errors import UserError
from trainables.data.readers.ntu_bodies import ntu_clip
from trainables.data.readers.skeleton_file import parse_skeleton


def clip(frames: Frames, end: str = "\r\n") -> np.ndarray:
    return ntu_clip(parse_skeleton(skeleton_text(frames, end).encode()))


@pytest.mark.parametrize("name", CASES)
def test_actors_equal_those_of_the_twin(name: str) -> None:
    frames, persons, length = CASES[name]
    joints = clip(frames)
    assert joints.shape == (persons, length, 25, 3)
    for duplicate in (False, True):
        np.testing.assert_array_equal(
            flat(joints, duplicate=duplicate), prepared(frames, duplicate=duplicate)
        )
    np.testing.assert_array_equal(clip(frames, "\n"), joints)


def test_cases_do_what_their_names_say() -> None:
    """The twin could be wrong in the same way: a few outcomes by hand."""

    def first(name: str) -> np.ndarray:
        return clip(CASES[name][0])

    def moved(body: int, frame: int, size: float = 1.0, *, wide: bool = False) -> np.ndarray:
        return pose(1000 * body + frame, size=size, wide=wide).astype(np.float32)

    late = first("two bodies, the second moves more")
    np.testing.assert_array_equal(late[0, 0], moved(1, 0, 2) - moved(1, 0, 2)[1])
    np.testing.assert_array_equal(late[1, 5], moved(0, 5) - moved(1, 0, 2)[1])
    back = first("a body that comes back beside another")
    # fifteen frames too early, as the scripts count
    np.testing.assert_array_equal(back[1, 15], moved(1, 30) - moved(0, 0, 2)[1])
    assert not back[1, :5].any()
    assert not back[1, 25:].any()
    calm = first("moves most only where too wide")
    np.testing.assert_array_equal(calm[0, 0], moved(0, 0, 1.3) - moved(0, 0, 1.3)[1])
    last = first("all too wide: the last stays")
    np.testing.assert_array_equal(last[0, 3], moved(1, 3, wide=True) - moved(1, 0, wide=True)[1])
    joined = first("a second body after the first joins it")
    assert not joined[1].any()
    np.testing.assert_array_equal(joined[0, 20], moved(1, 20) - moved(0, 0, 2)[1])
    shared = first("one frame shared is no overlap")
    # the later one covers
    np.testing.assert_array_equal(shared[0, 20], moved(1, 20) - moved(0, 0, 2)[1])
    assert first("two frames shared are")[1, 22:].all(axis=(1, 2)).all()
    assert first("a third joins the second")[1, 20:].any(axis=(1, 2)).all()
    assert not first("a third before the second")[1, :20].any()
    absent = first("the first appears late")
    assert not absent[0, :15].any()
    np.testing.assert_array_equal(absent[1, 0], moved(1, 0) - moved(0, 15, 2)[1])


def test_random_files_equal_the_twin() -> None:
    rng = np.random.default_rng(7)
    outcomes = set()
    for _ in range(80):
        total = int(rng.integers(14, 36))
        parts = []
        for body in range(int(rng.integers(1, 5))):
            start = int(rng.integers(0, total))
            frames = [
                t for t in range(start, int(rng.integers(start, total)) + 1) if rng.random() < 0.95
            ]
            parts.append(
                Part(
                    body,
                    frames,
                    size=float(rng.uniform(0.5, 3)),
                    wide=int(len(frames) * rng.choice([0, 0.3, 0.69, 0.72])),
                )
            )
        frames = made(total, *parts)
        wanted = prepared(frames, duplicate=False)
        try:
            joints = clip(frames)
        except UserError:
            assert wanted is None
            outcomes.add("nobody")
            continue
        outcomes.add(f"{len(joints)} actors")
        np.testing.assert_array_equal(flat(joints, duplicate=False), wanted)
    assert outcomes == {"nobody", "1 actors", "2 actors"}


def test_width_is_compared_in_double_precision() -> None:
    """0.8 in single precision is a little more than 0.8: a body 0.8 wide and 1 high is too wide."""
    corner = np.zeros((25, 3))
    corner[0], corner[1] = (0.8, 0, 3), (0, 1, 3)
    frames = [[(FIRST_ID, corner), (FIRST_ID + 1, pose(t))] for t in range(12)]
    assert len(clip(frames)) == 1
    np.testing.assert_array_equal(
        flat(clip(frames), duplicate=False), prepared(frames, duplicate=False)
    )


def test_ids_that_double_precision_cannot_tell_apart_are_two_bodies() -> None:
    assert float(FIRST_ID) == float(FIRST_ID + 1)
    assert len(clip(made(20, Part(0, range(20)), Part(1, range(20))))) == 2


def test_zero_body_of_a_file_with_one_body_is_moved_like_the_others() -> None:
    """The released scripts reset absent actors only where there are two."""
    frames = [[(FIRST_ID, pose(0))], [(FIRST_ID, np.zeros((25, 3)))], [(FIRST_ID, pose(2))]]
    joints = clip(frames)
    np.testing.assert_array_equal(flat(joints, duplicate=False), prepared(frames, duplicate=False))
    np.testing.assert_array_equal(joints[0, 1], np.tile(-pose(0).astype(np.float32)[1], (25, 1)))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "must show a body, but there is none in any frame"),
        ([[], []], "must show a body, but there is none in any frame"),
        (
            made(40, Part(0, range(11)), Part(1, range(20, 31))),
            "for more than 11 frames, but none of its 2 is there for longer",
        ),
        (
            [[(FIRST_ID, np.zeros((25, 3)))]] * 3,
            "must show the first actor, but it is zero in every frame",
        ),
        (
            [[(FIRST_ID, pose(0)), (FIRST_ID, pose(1))]],
            "seen once per frame, but one is seen 2 times in 1 frames",
        ),
    ],
)
def test_files_without_an_answer(frames: Frames, message: str) -> None:
    assert prepared(frames, duplicate=False) is None
    with pytest.raises(UserError, match=message):
        clip(frames)


GOOD = skeleton_text(made(3, Part(0, range(3))))


def changed(line: int, text: str) -> str:
    lines = GOOD.splitlines()
    return "\n".join([*lines[: line - 1], text, *lines[line:]])


def without(line: int) -> str:
    lines = GOOD.splitlines()
    return "\n".join(lines[: line - 1] + lines[line:])


VALUES = "0.1 0.2 0.3 4 5 6 7 8 9 10 11 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            (
                "line 1: must be the number of frames, but the file ends after 0 lines; it was cut"
                " short"
            ),
        ),
        ("skeleton", "line 1: must be the number of frames, but it is 'skeleton'"),
        (changed(1, "-3"), "line 1: must be the number of frames, but it is '-3'"),
        (changed(1, "9" * 5000), "line 1: must be the number of frames, but it is '999"),
        (
            changed(1, "4"),
            (
                "line 86: must be the number of bodies in frame 4 of 4, but the file ends after 85"
                " lines; it was cut short"
            ),
        ),
        (
            changed(1, "2"),
            "line 58: the file must have 57 lines, got 85; it goes on after its 2 frames",
        ),
        (changed(2, "2"), "line 31: must be the number of joints, but it is"),
        (changed(2, "0"), "line 3: must be the number of bodies in frame 2 of 3, but it is '7205"),
        (changed(3, " "), "line 3: must be a body of frame 1 of 3, but it is ' '"),
        (changed(4, "24"), "line 4: a body must have 25 joints, got 24"),
        (changed(4, "2.5"), "line 4: must be the number of joints, but it is '2.5'"),
        (
            changed(5, VALUES.replace("0.2", "x")),
            "line 5: a joint must have 12 values, got '0.1 x 0.3",
        ),
        (changed(5, VALUES[:-2]), "line 5: a joint must have 12 values, got '0.1 0.2"),
        (changed(5, ""), "line 5: a joint must have 12 values, got ''"),
        (changed(6, ""), "line 6: a joint must have 12 values, got ''"),
        (
            changed(36, VALUES.replace("0.3", "nan")),
            "line 36: coordinates must be finite, got '0.1 0.2 nan",
        ),
        (
            changed(85, VALUES.replace("0.3", "1e39")),
            "line 85: coordinates must be finite, got '0.1 0.2 1e39",
        ),
        (without(20), "line 30: must be the number of bodies in frame 2 of 3, but it is '7205"),
        (GOOD[: len(GOOD) // 2], "it was cut short|a joint must have 12 values"),
        (
            "\n".join(GOOD.splitlines()[:60]),
            "line 61: the file must have 85 lines, got 60; it was cut short",
        ),
        (GOOD[:-3], "line 85: a joint must have 12 values"),
        (
            GOOD + "1\n",
            "line 86: the file must have 85 lines, got 86; it goes on after its 3 frames",
        ),
        (GOOD.replace("2", "é", 1), "must be text, it is damaged or of another kind"),
    ],
)
def test_wrong_grammar_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_skeleton(text.encode())


def test_whatever_happens_to_a_file_it_is_read_or_refused() -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(300):
        content = bytearray(GOOD.encode())
        for _ in range(int(rng.integers(1, 4))):
            content[rng.integers(len(content))] = rng.choice(
                list(b"0123456789 .-+e\r\n\x00\xffnaif_")
            )
        try:
            joints = ntu_clip(
                parse_skeleton(
                    bytes(content[: rng.integers(len(content))] if rng.random() < 0.2 else content)
                )
            )
            assert np.isfinite(joints).all()
        except UserError:
            refused += 1
    assert 0 < refused < 300
