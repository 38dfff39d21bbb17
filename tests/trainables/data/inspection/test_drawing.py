"""Pictures of clips: what is drawn, where, in which colour and
when; read back from the pictures.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainables.contract.errors import UserError
from trainables.data.inspection.drawing import (
    Picture,
    chosen_frames,
    moving_gif,
    picture_of,
    poses_png,
    side_of,
    space_views,
)
from trainables.figures import DPI
from trainables.layouts import Layout

STICKS = Layout("sticks", ("middle", "left_end", "right_end"), (0, 0, 0), origin=0)
# tab:blue darker and lighter, tab:red darker
LEFT, RIGHT, OTHER_LEFT = (20, 77, 117), (136, 182, 215), (139, 25, 26)


def picture(joints: Any, channels: Any = "xyz", **options: str) -> Picture:
    return picture_of(np.asarray(joints, np.float32), channels, STICKS, "a clip", **options)


def pixels(content: bytes) -> np.ndarray:
    """(rows, columns, 3) of a picture without its legend."""
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    return image[: -int(0.4 * DPI)]


def where(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(n, 2) rows and columns of the pixels of that colour."""
    return np.argwhere(np.abs(image - colour).max(axis=-1) < 12)


def pose(left: list[float], right: list[float], frames: int = 1) -> np.ndarray:
    """(1, frames, 3, 3): two sticks from (2, 2, 3)."""
    middle = np.array([2.0, 2.0, 3.0])
    return np.tile([middle, middle + left, middle + right], (1, frames, 1, 1))


def test_space_is_seen_from_a_camera_that_looks_along_z() -> None:
    """Above is above; what has the larger x is on the left, as coordinates are right-handed; what
    is nearer is on the left from the side.
    """
    image = pixels(poses_png(picture(pose([1, 1, -1], [-1, -1, 1])), 1))
    front, side = image[: len(image) // 2], image[len(image) // 2 :]
    for view in (front, side):
        left, right = where(view, LEFT).mean(axis=0), where(view, RIGHT).mean(axis=0)
        assert left[0] < right[0]
        assert left[1] < right[1]


@pytest.mark.parametrize(
    ("up", "across", "upwards", "depth"),
    [
        ("y", (0, -1), (1, 1), (2, 1)),
        ("-y", (0, 1), (1, -1), (2, 1)),
        ("z", (0, 1), (2, 1), (1, 1)),
        ("-z", (0, -1), (2, -1), (1, 1)),
        ("x", (1, 1), (0, 1), (2, 1)),
    ],
)
def test_views_are_right_handed(
    up: str, across: tuple[int, int], upwards: tuple[int, int], depth: tuple[int, int]
) -> None:
    front, side = space_views(up)
    assert (front.across, front.upwards, side.across, side.upwards) == (
        across,
        upwards,
        depth,
        upwards,
    )
    unit = np.eye(3)
    frame = [sign * unit[axis] for axis, sign in (across, upwards, depth)]
    # right, up, away from the eye: the mirror image of right, up, towards it
    assert np.linalg.det(frame) == pytest.approx(-1)


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(UserError, match="up must be one of x, y, z, -x, -y, -z, got 'w'"):
        picture(pose([1, 0, 0], [0, 1, 0]), up="w")


@pytest.mark.parametrize("channels", ["xy", "xyc"])
def test_images_have_y_down_and_one_view(channels: str) -> None:
    joints = pose([1, 1, 0], [-1, -1, 0])
    joints[..., 2] = 1.0
    shown = picture(joints, channels)
    assert len(shown.views) == 1
    left, right = (
        where(pixels(poses_png(shown, 1)), colour).mean(axis=0) for colour in (LEFT, RIGHT)
    )
    assert left[0] > right[0]
    assert left[1] > right[1]


def test_one_scale_for_both_axes_and_views() -> None:
    joints = pose([3, 0, 0], [0, 1, 0])
    image = pixels(poses_png(picture(joints), 1))
    front = image[: len(image) // 2]
    wide, tall = np.ptp(where(front, LEFT)[:, 1]), np.ptp(where(front, RIGHT)[:, 0])
    assert wide / tall == pytest.approx(3, rel=0.1)  # lines have a thickness
    deep = pixels(poses_png(picture(pose([0, 0, 3], [0, 1, 0])), 1))
    assert np.ptp(where(deep[len(deep) // 2 :], LEFT)[:, 1]) == pytest.approx(wide, rel=0.05)


def test_faint_absent_and_unseen_joints() -> None:
    joints = np.tile(pose([1, 1, 0], [-1, -1, 0], frames=2), (2, 1, 1, 1))
    joints[1, ..., 0] += 4
    joints[..., 2] = 1.0
    joints[0, 0, 1, 2] = 0.0  # this joint was not found in frame 0
    joints[1, 1] = 0.0  # this person is not in frame 1
    joints[0, 1, 2, 2] = 0.5
    shown = picture(joints, "xyc")
    assert shown.strength[0].tolist() == [[1.0, 0.0, 1.0], [1.0, 1.0, 0.5]]
    assert not shown.strength[1, 1].any()
    first, second = np.array_split(pixels(poses_png(shown, 2)), 2, axis=1)
    assert not len(where(first, LEFT))
    assert len(where(first, RIGHT))
    assert len(where(first, OTHER_LEFT))
    assert len(where(second, LEFT))
    assert not len(where(second, RIGHT))  # half as strong
    assert not len(where(second[:, 20:], OTHER_LEFT))  # without the edge of the first pose


def test_what_is_not_finite_is_not_drawn() -> None:
    joints = pose([1, 1, 0], [-1, -1, 0])
    joints[0, 0, 1, 0] = np.nan
    image = pixels(poses_png(picture(joints), 1))
    assert not len(where(image, LEFT))
    assert len(where(image, RIGHT))


def test_joints_without_a_place_in_an_image_are_not_drawn_but_in_space_are() -> None:
    joints = pose([1, 1, 0], [-2, -2, -3])  # the right end is at (0, 0, 0)
    assert picture(joints, "xy").strength.tolist() == [[[1.0, 1.0, 0.0]]]
    assert picture(joints, "xyz").strength.tolist() == [[[1.0, 1.0, 1.0]]]
    # a store keeps the low confidence of a joint that was not seen
    joints[..., 2] = [1.0, 1.0, 0.01]
    assert picture(joints, "xyc").strength.tolist() == [[[1.0, 1.0, 0.0]]]


@pytest.mark.parametrize(
    "joints", [np.zeros((1, 4, 3, 3)), np.zeros((1, 0, 3, 3)), np.full((1, 2, 3, 3), np.nan)]
)
def test_a_clip_that_shows_nobody_is_refused(joints: np.ndarray) -> None:
    with pytest.raises(
        UserError,
        match=(
            f"a clip: there must be somebody to draw, but none of its {joints.shape[1]} frames"
            " shows a joint"
        ),
    ):
        picture(joints)


def test_many_poses_take_several_rows_and_frames_without_anybody_are_empty() -> None:
    joints = pose([1, 1, 0], [-1, -1, 0], frames=12)
    joints[:, 3:] = 0.0
    one, two = (Image.open(io.BytesIO(poses_png(picture(joints, "xy"), poses))) for poses in (8, 9))
    assert one.width == two.width
    assert two.height > 1.7 * one.height


def test_a_pose_far_from_the_others_is_as_large() -> None:
    """Windows go along with the persons, so walking does not make them small."""
    near, far = pose([1, 1, 0], [-1, -1, 0], frames=2), pose([1, 1, 0], [-1, -1, 0], frames=2)
    far[:, 1, :, 0] += 50
    sizes = [
        len(where(pixels(poses_png(picture(joints, "xy"), 2)), LEFT)) for joints in (near, far)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_gif_keeps_the_time_of_the_recording() -> None:
    """31 frames at 30 per second are a second from the first to the last, however many pictures are
    drawn.
    """
    joints = pose([1, 1, 0], [-1, -1, 0], frames=31)
    joints[0, :, 1, 0] += np.linspace(0, 1, 31)
    shown = picture(joints, "xy")
    for pictures, count, fps, seconds in (
        (None, 16, 30.0, 1.0),
        (5, 5, 30.0, 1.0),
        (None, 31, 10.0, 3.0),
        (99, 31, 30.0, 1.0),
    ):
        content = moving_gif(shown, pictures, fps)
        with Image.open(io.BytesIO(content)) as gif:
            durations = []
            for place in range(gif.n_frames):
                gif.seek(place)
                durations.append(gif.info["duration"])
            assert gif.info["loop"] == 0
        assert len(durations) == count
        assert sum(durations[:-1]) == pytest.approx(1000 * seconds)
        assert durations[-1] == 1000
    assert len(content) < 100_000


def test_gif_moves() -> None:
    joints = pose([1, 1, 0], [-1, -1, 0], frames=3)
    joints[0, 2, 1] += [0, 2, 0]
    with Image.open(io.BytesIO(moving_gif(picture(joints), 3, 10.0))) as gif:
        tops = []
        for place in range(3):
            gif.seek(place)
            image = np.asarray(gif.convert("RGB")).astype(int)
            tops.append(where(image, LEFT)[:, 0].min())
    assert tops[0] == tops[1] > tops[2]


def test_a_gif_of_one_frame() -> None:
    with Image.open(io.BytesIO(moving_gif(picture(pose([1, 1, 0], [-1, -1, 0]))))) as gif:
        assert gif.n_frames == 1


def test_chosen_frames_are_even_and_include_both_ends() -> None:
    assert chosen_frames(10, 4) == [0, 3, 6, 9]
    assert chosen_frames(3, 8) == [0, 1, 2]
    assert chosen_frames(5, 1) == [0]
    assert chosen_frames(1, 5) == [0]


def test_sides_are_read_from_the_names_of_joints() -> None:
    sides = {
        name: side_of(name)
        for name in (
            "left_hand",
            "LeftFoot",
            "l_knee",
            "right_hip",
            "RightArm",
            "r_eye",
            "spine",
            "lumbar",
            "rib",
        )
    }
    assert list(sides.values()) == ["left"] * 3 + ["right"] * 3 + ["middle"] * 3
