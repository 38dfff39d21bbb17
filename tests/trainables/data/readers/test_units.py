"""Units are measured: nothing is stored in other units without a word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trainables.contract.errors import UserError
from trainables.data.readers.units import Unit, body_size, in_store_units
from trainables.data.store.description import Channels, Clip, Recordings, Storage
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import LAYOUTS

CONFIG = SyntheticConfig(classes=2, clips_per_class=4, subjects=2, views=2, frames=6)


def recordings(factor: float, channels: Channels = "xyz") -> Recordings:
    made = synthetic_recordings(CONFIG, LAYOUTS["ucla20"])
    clips = [replace(clip, joints=clip.joints * np.float32(factor)) for clip in made.clips]
    return replace(
        made,
        clips=clips,
        description=made.description.model_copy(update={"channels": channels}),
    )


def stored(made: Recordings, unit: Unit | None = None, storage: Storage = "float32") -> list[Clip]:
    return list(in_store_units(made, unit, storage, ask=True).clips)


def test_metres_pass_as_they_are() -> None:
    made = recordings(1)
    for clip, written in zip(stored(made), made.clips, strict=True):
        assert clip is written


@pytest.mark.parametrize(("factor", "unit"), [(1000, "mm"), (100, "cm"), (1, "m")])
def test_other_units_become_metres_when_they_are_named(factor: float, unit: Unit) -> None:
    for clip, written in zip(stored(recordings(factor), unit), recordings(1).clips, strict=True):
        np.testing.assert_allclose(clip.joints, written.joints, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1000, r"between 0.05 and 10 metres \(it would be a body in mm\), got 1\d{3} across"),
        (
            100,
            r"\(it would be a body in cm or mm\), got 1\d{2}\.\d across all joints; --unit m, cm",
        ),
        (1e6, r"between 0.05 and 10 metres, got"),
        (1e-3, r"between 0.05 and 10 metres, got 0.001"),
    ],
)
def test_what_is_no_body_in_metres_is_asked_for(factor: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        stored(recordings(factor))


def test_who_says_metres_gets_them() -> None:
    assert len(stored(recordings(1000), "m")) == 8


def test_fractions_of_an_image_are_no_pixels() -> None:
    with pytest.raises(UserError, match=r"at least 3 pixels \(fractions of an image are not pix"):
        stored(recordings(0.3, "xy"))
    assert len(stored(recordings(0.3, "xy"), "px")) == 8
    with pytest.raises(UserError, match=r"--storage int16: a body must measure at least 100 steps"):
        stored(recordings(0.3, "xy"), "px", "int16")
    assert len(stored(recordings(100, "xyc"), storage="int16")) == 8


def test_confidence_is_no_length() -> None:
    joints = np.zeros((1, 2, 3, 3), np.float32)
    joints[..., :2] = [[1, 1], [4, 5], [1, 1]]
    joints[..., 2] = [0, 100, 0]
    assert body_size([joints], 2) == 5.0


@pytest.mark.parametrize(("channels", "unit"), [("xyz", "px"), ("xy", "mm"), ("xyc", "m")])
def test_units_belong_to_channels(channels: Any, unit: Any) -> None:
    with pytest.raises(UserError, match="--unit must be"):
        stored(recordings(1, channels), unit)


def test_formats_of_a_fixed_unit_offer_no_option() -> None:
    with pytest.raises(UserError, match=r"across all joints$"):
        list(in_store_units(recordings(1000), None, "float32", ask=False).clips)


def test_what_is_in_other_units_is_named() -> None:
    place = "dumps/joints.npz"
    with pytest.raises(UserError, match=r"^dumps/joints\.npz: a typical body"):
        list(in_store_units(recordings(1000), None, "float32", ask=True, place=place).clips)
    with pytest.raises(UserError, match=r"^dumps/joints\.npz: --storage int16"):
        list(in_store_units(recordings(1e-3), "m", "int16", ask=True, place=place).clips)


def test_a_joint_that_was_not_found_has_no_place() -> None:
    joints = np.zeros((2, 3, 4, 3), np.float32)
    joints[0, :2, :2] = [[100, 0, 0], [100, 3, 4]]
    assert body_size([joints], 3) == 5.0
    assert body_size([np.zeros((1, 1, 4, 3), np.float32), joints], 3) == 5.0
    assert body_size([], 3) == 0.0
