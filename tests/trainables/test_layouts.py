"""The built-in layouts against the links and bone pairs that PYSKL publishes (its `Graph` and
`JointToBone`), 0-based.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trainables.contract.errors import UserError
from trainables.layouts import LAYOUTS, Layout, load_layout

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


@pytest.mark.parametrize(
    ("name", "joints", "root", "origin", "spine", "shoulders"),
    [
        (
            "ntu25",
            25,
            "spine_shoulder",
            "spine_mid",
            ["spine_base", "spine_mid"],
            ["left_shoulder", "right_shoulder"],
        ),
        (
            "ucla20",
            20,
            "shoulder_centre",
            "spine",
            ["hip_centre", "spine"],
            ["left_shoulder", "right_shoulder"],
        ),
        (
            "msr20",
            20,
            "shoulder_centre",
            "spine",
            ["hip_centre", "spine"],
            ["left_shoulder", "right_shoulder"],
        ),
        ("coco17", 17, "nose", "nose", None, None),
        ("openpose18", 18, "neck", "neck", None, None),
    ],
)
def test_how_a_body_stands(name, joints, root, origin, spine, shoulders) -> None:
    layout = load_layout(name)
    names = layout.joints
    assert len(names) == layout.size == joints
    assert (names[layout.root], names[layout.origin]) == (root, origin)
    assert (layout.spine and [names[v] for v in layout.spine]) == spine
    assert (layout.shoulders and [names[v] for v in layout.shoulders]) == shoulders


@pytest.mark.parametrize("name", ["ucla20", "msr20"])
def test_limbs_hang_on_their_own_side(name: str) -> None:
    """Wrists hang on elbows, elbows on shoulders, and the same for the legs."""
    layout = LAYOUTS[name]
    for side in ("left", "right"):
        for chain in ("shoulder elbow wrist hand", "hip knee ankle foot"):
            limb = [f"{side}_{part}" for part in chain.split()]
            for upper, lower in pairwise(limb):
                parent = layout.parents[layout.joints.index(lower)]
                assert layout.joints[parent] == upper


def test_infogcn_roots_the_tree_of_ntu_at_the_spine() -> None:
    layout = LAYOUTS["ntu25"]
    assert layout.hop_parents is not None
    assert [v for v, parent in enumerate(layout.hop_parents) if v == parent] == [1]
    assert layout.hop_parents[20] == 1


def test_a_layout_that_is_unknown() -> None:
    with pytest.raises(UserError, match=r"layout must be one of ntu25, ucla20, .* got 'ntu'"):
        load_layout("ntu")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"parents": (0, 0)}, "layout 'x': parents must name one parent per joint, got 2 for 3"),
        ({"parents": (0, 0, 3)}, "parents must be joint numbers below 3"),
        ({"parents": (0, 0, -1)}, "parents must be joint numbers below 3"),
        ({"parents": (0, 1, 0)}, "parents must have exactly one root .* got 2"),
        ({"parents": (0, 2, 1)}, "'b' is in a cycle"),
        ({"bone_parents": (1, 2, 0)}, "bone_parents must have exactly one root .* got 0"),
        ({"hop_parents": (0, 0)}, "hop_parents must name one parent per joint"),
        ({"graph_parents": (0, 0)}, "graph_parents must name one parent per joint"),
        ({"joints": ("a", "b", "a")}, "joint names must be unique"),
        ({"origin": 3}, "origin must be a joint number below 3, got 3"),
        ({"origin": -1}, "origin must be a joint number below 3, got -1"),
        ({"spine": (0, 1)}, "spine and shoulders must both be given or both be left out"),
        ({"shoulders": (0, 1)}, "spine and shoulders must both be given or both be left out"),
        ({"spine": (1, 1), "shoulders": (0, 1)}, "spine must be two different joint numbers"),
        ({"spine": (0, 1), "shoulders": (0, 3)}, "shoulders must be two different joint numbers"),
        ({"spine": (-1, 1), "shoulders": (0, 2)}, "spine must be two different joint numbers"),
    ],
)
def test_what_is_no_layout_is_refused(changed, message) -> None:
    right = {"name": "x", "joints": ("a", "b", "c"), "parents": (0, 0, 1), "origin": 0}
    Layout(**right, spine=(0, 1), shoulders=(0, 2))
    with pytest.raises(UserError, match=message):
        Layout(**{**right, **changed})


def test_hops_of_a_chain() -> None:
    chain = Layout("chain", ("a", "b", "c"), (0, 0, 1), origin=0)
    assert chain.hop_matrix(0, "child_parent").tolist() == np.eye(3).tolist()
    # c minus its grandparent a; the others have none
    assert chain.hop_matrix(2, "child_parent").tolist() == [[1, 0, 0], [0, 1, 0], [-1, 0, 1]]
    assert chain.hop_matrix(1, "parent_children").tolist() == [[1, -1, 0], [0, 1, -1], [0, 0, 1]]
    assert np.array_equal(chain.hop_matrix(1, "infogcn"), chain.hop_matrix(1, "child_parent"))
    ucla = LAYOUTS["ucla20"]
    assert np.array_equal(ucla.hop_matrix(1, "infogcn"), ucla.hop_matrix(1, "parent_children"))
    assert not np.array_equal(ucla.hop_matrix(1, "infogcn"), ucla.hop_matrix(1, "child_parent"))
