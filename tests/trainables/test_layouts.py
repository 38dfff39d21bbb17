"""The built-in layouts against the links and bone pairs that PYSKL publishes (its `Graph` and
`JointToBone`), 0-based.
"""

from __future__ import annotations

import numpy as np
import pytest

from trainables.layouts import LAYOUTS

LINKS = {
    "coco17": "15-13 13-11 16-14 14-12 11-5 12-6 9-7 7-5 10-8 8-6 5-0 6-0 1-0 3-1 2-0 4-2",
    "openpose18": "4-3 3-2 7-6 6-5 13-12 12-11 10-9 9-8 11-5 8-2 5-1 2-1 0-1 15-0 14-0 17-15 16-14",
    "ntu25": (
        "0-1 1-20 2-20 3-2 4-20 5-4 6-5 7-6 8-20 9-8 10-9 11-10 12-0 13-12 14-13 15-14 16-0 17-16"
        " 18-17 19-18 21-7 22-7 23-11 24-11"
    ),
}
CENTRE = {"coco17": 0, "openpose18": 1, "ntu25": 20}
BONES = {
    "coco17": "0-0 1-0 2-0 3-1 4-2 5-0 6-0 7-5 8-6 9-7 10-8 11-0 12-0 13-11 14-12 15-13 16-14",
    "openpose18": (
        "0-0 1-0 2-1 3-2 4-3 5-1 6-5 7-6 8-2 9-8 10-9 11-5 12-11 13-12 14-0 15-0 16-14 17-15"
    ),
    "ntu25": (
        "0-1 1-20 2-20 3-2 4-20 5-4 6-5 7-6 8-20 9-8 10-9 11-10 12-0 13-12 14-13 15-14 16-0 17-16"
        " 18-17 19-18 21-22 20-20 22-7 23-24 24-11"
    ),
}


def pairs(text: str) -> list[tuple[int, int]]:
    return [
        (int(child), int(parent)) for child, parent in (pair.split("-") for pair in text.split())
    ]


@pytest.mark.parametrize("name", LINKS)
def test_graph_links(name: str) -> None:
    layout = LAYOUTS[name]
    tree = layout.graph_parents or layout.parents
    assert sorted((v, parent) for v, parent in enumerate(tree) if v != parent) == sorted(
        pairs(LINKS[name])
    )
    assert layout.root == CENTRE[name]


@pytest.mark.parametrize("name", BONES)
def test_bones(name: str) -> None:
    layout = LAYOUTS[name]
    joints = np.random.default_rng(0).normal(size=(layout.size, 3))
    bones = layout.bone_matrix() @ joints
    published = pairs(BONES[name])
    assert len(published) == layout.size
    for end, start in published:
        # one subtraction each
        np.testing.assert_allclose(bones[end], joints[end] - joints[start], rtol=0, atol=1e-14)
