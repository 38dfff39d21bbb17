"""A line of JSON is a frame or one clear error, and persons stay who they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainables.contract.errors import UserError
from trainables.data.readers.frames import Person, parse_frame, stacked
from trainables.data.readers.tracks import Tracks
from trainables.layouts import Layout

PAIR = Layout("pair", ("hip", "head"), (0, 0), origin=0)


def parse(content, channels="xyz"):
    text = content if isinstance(content, str) else json.dumps(content)
    return parse_frame("line 3", text, PAIR, channels)


def test_a_frame_holds_times_ids_and_joints_that_may_be_missing():
    frame = parse(
        {
            "time": 1,
            "camera": "left",
            "persons": [
                {"id": 7, "joints": [[1, 2, 3], None]},
                {"id": "b", "joints": {"head": [4.5, 5, 6]}},
            ],
        }
    )
    assert frame.time == 1.0
    assert [person.id for person in frame.persons] == ["7", "b"]
    np.testing.assert_array_equal(frame.persons[0].joints, [[1, 2, 3], [0, 0, 0]])
    np.testing.assert_array_equal(frame.persons[1].joints, [[0, 0, 0], [4.5, 5, 6]])
    empty = parse({"persons": []})
    assert (empty.time, empty.persons) == (None, ())


def test_image_coordinates_have_two_numbers_or_a_confidence():
    (flat,) = parse({"persons": [{"joints": [[1, 2], [3, 4]]}]}, "xy").persons
    np.testing.assert_array_equal(flat.joints, [[1, 2, 0], [3, 4, 0]])
    (sure,) = parse({"persons": [{"joints": [[1, 2, 0.9], [3, 4, 0.001]]}]}, "xyc").persons
    np.testing.assert_allclose(sure.joints, [[1, 2, 0.9], [0, 0, 0.001]], rtol=1e-6)  # not seen


def person(joints, **more):
    return {"persons": [{"joints": joints, **more}]}


GOOD = [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 3: must be a frame as JSON, but"),
        ("{", "line 3: must be a frame as JSON, but"),
        ("[" * 100_000, "line 3: must be a frame as JSON, but it is nested too deeply"),
        ('{"persons": [], "persons": []}', "the name 'persons' occurs 2 times"),
        ('{"time": 1' + "0" * 400 + ', "persons": []}', "line 3: must be a frame as JSON, but"),
        ("[]", r"line 3: must be a record with persons, .* got \[\]"),
        ({"people": []}, "must be a record with persons"),
        ({"time": "now", "persons": []}, "line 3: time must be a number of seconds, got 'now'"),
        ({"time": True, "persons": []}, "time must be a number of seconds, got True"),
        ('{"time": NaN, "persons": []}', "time must be a number of seconds, got nan"),
        ({"persons": [3]}, r"line 3: persons\[0\]: must be a record with joints, .* got 3"),
        (person(GOOD[:1]), r"persons\[0\]: must have the 2 joints of layout 'pair', got 1"),
        (person({"hips": [1, 2, 3]}), r"named as in layout 'pair' \(hip, head\), got 'hips'"),
        (person([[1, 2], [3, 4]]), r"each joint must be 3 numbers \(x, y, z\) or null, got \[1, 2"),
        (person([[1, 2, 3], ["4", 5, 6]]), "or null, got .* for joint 1"),
        (person([[1, 2, 3], [4, None, 6]]), "or null, got .* for joint 1"),
        (person([[1, 2, 3], [4, 5, 1e39]]), "must be finite, got .* for joint 1"),
        (person(GOOD, id=1.5), "id must be text or a whole number, got 1.5"),
        (person(GOOD, id="\u001b[2J"), "id must be printable text without control characters"),
        (
            {"persons": [{"id": "a", "joints": GOOD}, {"id": "a", "joints": GOOD}]},
            "line 3: a person must be there once, got 'a' twice",
        ),
        (
            {"persons": [{"id": "a", "joints": GOOD}, {"joints": GOOD}]},
            "line 3: all persons must have an id or none, got 1 with one",
        ),
    ],
)
def test_a_bad_line_is_one_clear_error(content, message):
    with pytest.raises(UserError, match=message) as caught:
        parse(content)
    assert len(caught.value.problems) == 1


def at(x, name=None):
    """Somebody of 1.7 m at x."""
    return Person(name, np.array([[x, 0.1, 2], [x, 1.8, 2]], np.float32))


def numbers(tracks, *persons):
    return [number for number, _ in tracks.number(persons)]


def test_ids_decide_who_is_who():
    tracks = Tracks(3)
    assert numbers(tracks, at(1, "a"), at(5, "b")) == [0, 1]
    assert numbers(tracks, at(1, "b"), at(5, "a")) == [1, 0]
    assert numbers(tracks, at(1, "c")) == [2]
    tracks.forget({0})
    assert numbers(tracks, at(1, "a"), at(1, "b")) == [3, 1]


def test_without_ids_the_nearest_pose_decides_whatever_the_order():
    tracks = Tracks(3)
    assert numbers(tracks, at(1), at(3)) == [0, 1]
    assert numbers(tracks, at(2.9), at(1.2)) == [1, 0]
    assert numbers(tracks) == []
    assert numbers(tracks, at(2.8)) == [1]  # the first one is not seen, and stays the first
    assert numbers(tracks, at(1.3), at(20)) == [0, 2]  # too far from everybody: somebody new
    tracks.forget({1})
    assert numbers(tracks, at(2.8), at(1.3)) == [3, 0]


def test_somebody_without_a_joint_is_not_there():
    nobody = Person(None, np.zeros((2, 3), np.float32))
    assert numbers(Tracks(3), nobody) == []


def test_frames_are_stacked_with_zeros_where_somebody_is_missing():
    one, two = at(1).joints, at(2).joints
    placed = stacked([[(1, two)], [], [(0, one), (1, two)]], 2)
    assert placed.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(placed[0], [0 * one, 0 * one, one])
    np.testing.assert_array_equal(placed[1], [two, 0 * two, two])
