"""Streams against their per-joint twins, and the laws they obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import naive_data
from trainables.contract.config import STREAMS, StreamConfig
from trainables.data.batches.streams import (
    image_matrices,
    joint_matrix,
    mix_joints,
    motion,
    to_stream,
)
from trainables.data.batches.transforms import rotation
from trainables.layouts import LAYOUTS

EVERY_STREAM = {**STREAMS, "bone_hop2_motion": StreamConfig(bone=True, motion=True, hops=2)}


def clips(joints: int, frames: int = 5) -> torch.Tensor:
    """Two random clips of two persons, (2, 3, T, V, 2), float64."""
    return torch.from_numpy(np.random.default_rng(3).normal(size=(2, 3, frames, joints, 2)))


def stream_of(x: torch.Tensor, layout: str, stream: StreamConfig) -> torch.Tensor:
    return to_stream(
        x, torch.from_numpy(joint_matrix(LAYOUTS[layout], stream)), moving=stream.motion
    )


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("name", sorted(EVERY_STREAM))
def test_stream_matches_naive(name, layout):
    x = clips(LAYOUTS[layout].size)
    expected = np.stack(
        [naive_data.to_stream(clip, LAYOUTS[layout], EVERY_STREAM[name]) for clip in x.numpy()]
    )
    np.testing.assert_allclose(
        stream_of(x, layout, EVERY_STREAM[name]).numpy(), expected, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("name", sorted(EVERY_STREAM))
def test_rotation_commutes_with_every_stream(name):
    x = clips(25)
    turned = torch.einsum(
        "nij,njtvm->nitvm",
        torch.from_numpy(rotation(np.array([[0.3, -1.0, 2.0], [1.0, 0.2, 0.1]]))),
        x,
    )
    after = torch.einsum(
        "nij,njtvm->nitvm",
        torch.from_numpy(rotation(np.array([[0.3, -1.0, 2.0], [1.0, 0.2, 0.1]]))),
        stream_of(x, "ntu25", EVERY_STREAM[name]),
    )
    torch.testing.assert_close(
        stream_of(turned, "ntu25", EVERY_STREAM[name]), after, atol=1e-12, rtol=0
    )


def test_infogcn_hop_8_is_the_joint_stream_and_hop_7_is_not():
    layout = LAYOUTS["ntu25"]  # no joint of the re-rooted tree has an 8th ancestor
    assert np.array_equal(
        joint_matrix(layout, StreamConfig(hops=8, orientation="child_parent")), np.eye(25)
    )
    assert not np.array_equal(
        joint_matrix(layout, StreamConfig(hops=7, orientation="child_parent")), np.eye(25)
    )


@pytest.mark.parametrize("k", [1, 2, 7, 8])
def test_infogcn_on_nw_ucla_has_its_links_the_other_way_round(k):
    """Against the released graph: A[i, j] = 1 of every outward link (i, j), x - A^k x."""
    inward = [
        tuple(int(end) - 1 for end in link.split("-"))
        for link in (
            "1-2 2-3 4-3 5-3 6-5 7-6 8-7 9-3 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17"
            " 19-18 20-19"
        ).split()
    ]
    outward = np.zeros((20, 20))
    for i, j in inward:
        outward[j, i] = 1.0
    stream = StreamConfig(hops=k, orientation="infogcn")
    expected = np.eye(20) - np.linalg.matrix_power(outward, k)
    assert np.array_equal(joint_matrix(LAYOUTS["ucla20"], stream), expected)
    same = StreamConfig(hops=k, orientation="parent_children")
    assert np.array_equal(joint_matrix(LAYOUTS["ucla20"], same), expected)
    ntu = StreamConfig(hops=k, orientation="child_parent")
    assert np.array_equal(
        joint_matrix(LAYOUTS["ntu25"], stream), joint_matrix(LAYOUTS["ntu25"], ntu)
    )


def test_parent_children_hop_7_is_the_identity_and_hop_6_is_not():
    layout = LAYOUTS["ntu25"]
    assert np.array_equal(joint_matrix(layout, StreamConfig(hops=7)), np.eye(25))
    assert not np.array_equal(joint_matrix(layout, StreamConfig(hops=6)), np.eye(25))


def test_parent_children_hop_1_subtracts_the_children():
    row = joint_matrix(LAYOUTS["ntu25"], StreamConfig(hops=1))[20]
    assert {v: row[v] for v in np.flatnonzero(row)} == {20: 1, 1: -1, 2: -1, 4: -1, 8: -1}


def test_motion_is_zero_at_the_last_frame_and_for_a_single_frame():
    assert not motion(clips(4))[:, :, -1].any()
    assert not motion(clips(4, frames=1)).any()


def test_motion_keeps_the_memory_order():
    # persons are outermost in memory
    x = clips(4).permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
    assert motion(x).stride() == x.stride()
    assert mix_joints(x, torch.eye(4, dtype=x.dtype)).stride() == x.stride()


def test_joint_stream_is_its_input():
    x = clips(4)
    assert to_stream(x, None, moving=False) is x


def test_the_confidence_of_a_bone_is_the_mean_of_its_joints_and_the_roots_its_own():
    layout = LAYOUTS["coco17"]
    for name in ("joint", "bone"):
        x, y, confidence = image_matrices(layout, STREAMS[name])
        assert np.array_equal(x, joint_matrix(layout, STREAMS[name]))
        assert np.array_equal(y, x)
        seen = np.arange(1.0, layout.size + 1)
        parents = seen[list(layout.bone_parents)] if name == "bone" else seen
        assert (confidence @ seen).tolist() == ((seen + parents) / 2).tolist()
