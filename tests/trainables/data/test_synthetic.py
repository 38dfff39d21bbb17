"""Synthetic clips: the same seed gives the same bytes, and the classes differ in movement, not in
pose.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.naive_stores import bytes_of
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.inspection.audit import audit_store
from trainables.data.store.reading import Clip, Store, write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import LAYOUTS, Layout

SMALL = SyntheticConfig(classes=3, clips_per_class=6, subjects=3, views=2, frames=8)
UCLA = LAYOUTS["ucla20"]


def clips(config: SyntheticConfig = SMALL, layout: Layout = UCLA, **changes: Any) -> list[Clip]:
    return list(synthetic_recordings(config.model_copy(update=changes), layout).clips)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        recordings = synthetic_recordings(SMALL.model_copy(update={"seed": seed}), UCLA)
        write_store(tmp_path / name, recordings.clips, recordings.description)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "one")["joints.npy"] != bytes_of(tmp_path / "other")["joints.npy"]


def test_counts_lengths_and_protocols(tmp_path: Path) -> None:
    recordings = synthetic_recordings(SMALL, UCLA)
    write_store(tmp_path / "s", recordings.clips, recordings.description)
    made = Store.open(tmp_path / "s")
    assert made.info.clips == recordings.count == 18
    assert Counter(made.column("label").tolist()) == {0: 6, 1: 6, 2: 6}
    places = zip(made.column("label"), made.column("subject"), made.column("camera"), strict=True)
    assert set(Counter(places).values()) == {1}  # every class, subject and camera
    assert made.column("length").min() >= 4
    assert made.column("length").max() <= 12
    assert len(set(made.column("length").tolist())) > 3
    xsub, xview = (made.split(name, SelectionConfig(kind="none")) for name in ("xsub", "xview"))
    assert set(made.column("subject")[xsub.train].tolist()) == {1, 3}
    assert set(made.column("camera")[xview.test].tolist()) == {2}
    assert not audit_store(made, made.info.protocols).damage()


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_moves(name: str) -> None:
    made = clips(layout=LAYOUTS[name], noise=0.0)
    assert all(
        clip.joints.shape[2:] == (LAYOUTS[name].size, 3) and np.isfinite(clip.joints).all()
        for clip in made
    )
    assert min(float(np.ptp(clip.joints, axis=1).max()) for clip in made) > 0.1


def test_a_layout_of_ones_own_moves() -> None:
    star = Layout("star", ("middle", "a", "b", "c", "d"), (0, 0, 1, 0, 3), origin=0)
    assert {clip.joints.shape[2] for clip in clips(layout=star)} == {5}
    with pytest.raises(UserError, match="need at least 2 limbs, got 1"):
        clips(layout=Layout("stick", ("hip", "knee"), (0, 0), origin=0))


def test_bones_keep_their_length() -> None:
    bones = UCLA.bone_matrix()
    for clip in clips(noise=0.0):
        lengths = np.linalg.norm(np.einsum("uv,mtvc->mtuc", bones, clip.joints), axis=-1)
        np.testing.assert_allclose(
            lengths, np.broadcast_to(lengths[:, :1], lengths.shape), atol=5e-4
        )


def test_subjects_have_lengths_of_their_own() -> None:
    bones = UCLA.bone_matrix()
    first = {}
    for clip in clips(noise=0.0):
        lengths = np.linalg.norm(bones @ clip.joints[0, 0], axis=-1)
        np.testing.assert_allclose(lengths, first.setdefault(clip.subject, lengths), atol=5e-4)
    assert all(np.abs(first[1] - first[s]).max() > 0.01 for s in (2, 3))


def test_clips_show_one_to_all_persons() -> None:
    assert {clip.joints.shape[0] for clip in clips(persons=3)} == {1, 2, 3}


def test_twins_pass_through_the_same_poses_in_another_order() -> None:
    """Averaged over time the first two classes are alike, beside the third, which moves other
    limbs; in time they are not.
    """
    made = clips(
        SyntheticConfig(classes=4, clips_per_class=60, subjects=2, views=1, frames=40, noise=0.0)
    )
    bones = UCLA.bone_matrix()
    # (N, V)
    spread = np.stack(
        [np.einsum("uv,tvc->tuc", bones, clip.joints[0]).std(axis=0).mean(axis=-1) for clip in made]
    )
    labels = np.array([clip.label for clip in made])
    one, twin, other = (spread[labels == k].mean(axis=0) for k in (0, 1, 2))
    assert np.abs(one - twin).max() < 0.25 * np.abs(one - other).max()
    third = np.stack([_asymmetry(bones @ clip.joints[0]) for clip in made])
    assert (
        np.abs(third[labels == 0].mean(axis=0) + third[labels == 1].mean(axis=0)).max()
        < 0.5 * np.abs(third[labels == 0].mean(axis=0)).max()
    )


def _asymmetry(bones: np.ndarray) -> np.ndarray:
    """(T, V, 3) -> skewness of the steps, which changes its sign when time runs backwards."""
    steps = np.diff(bones, axis=0)
    return np.asarray((steps**3).mean(axis=0) / (steps**2).mean(axis=0).max() ** 1.5)


def test_the_nearest_mean_clip_is_a_poor_classifier() -> None:
    """Better than chance, well below what networks reach."""
    made = clips(SyntheticConfig(classes=8, clips_per_class=40, subjects=10, views=2, frames=24))
    when = np.linspace(0, 1, 16)
    seen = np.stack(
        [
            clip.joints[0, (when * (clip.joints.shape[1] - 1)).astype(int)]
            - clip.joints[0, 0, UCLA.origin]
            for clip in made
        ]
    )
    labels, cameras = (
        np.array([clip.label for clip in made]),
        np.array([clip.camera for clip in made]),
    )
    train, test = cameras == 1, cameras == 2
    means = np.stack([seen[train & (labels == k)].mean(axis=0) for k in range(8)])
    distances = ((seen[test][:, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    accuracy = float((distances.argmin(axis=1) == labels[test]).mean())
    assert 1 / 8 < accuracy < 0.7


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": 1},
        {"subjects": 1, "views": 1},
        {"clips_per_class": 29},
        {"frames": 3},
        {"noise": -1.0},
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SyntheticConfig(**wrong)
