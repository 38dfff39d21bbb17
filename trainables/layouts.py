"""Skeletons: joints, tree, bones, and the matrices made from them.

Knows numpy, nothing of models or data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layout:
    """A skeleton as a tree. All joint numbers are 0-based.

    `parents[v]` is the joint v hangs on; the root is its own parent. `origin` is the joint a clip
    is centred at (in its first frame). `bone_parents` overrides `parents` for bone vectors (PYSKL's
    pairs for COCO and OpenPose start at the nose; their graphs have other links). `hop_parents`
    overrides `parents` for the k-hop representation in child_parent orientation (InfoGCN re-roots
    NTU's tree). `graph_parents` overrides `parents` for graphs (PYSKL and HD-GCN hang NTU's hand
    tips and thumbs on the hands). `spine` (lower joint, upper joint) and `shoulders` (left, right)
    say how a body stands; both or neither.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    origin: int
    bone_parents: tuple[int, ...] | None = None
    hop_parents: tuple[int, ...] | None = None
    graph_parents: tuple[int, ...] | None = None
    spine: tuple[int, int] | None = None
    shoulders: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        count = len(self.joints)
        for field in ("parents", "bone_parents", "hop_parents", "graph_parents"):
            tree = getattr(self, field)
            if tree is not None:
                check_tree(f"layout '{self.name}': {field}", tree, self.joints)
        if len(set(self.joints)) != count:
            raise UserError(
                f"layout '{self.name}': joint names must be unique, got {list(self.joints)}"
            )
        if not 0 <= self.origin < count:
            raise UserError(
                f"layout '{self.name}': origin must be a joint number below {count}, got"
                f" {self.origin}"
            )
        if (self.spine is None) != (self.shoulders is None):
            raise UserError(
                f"layout '{self.name}': spine and shoulders must both be given or both be left out"
            )
        for field in ("spine", "shoulders"):
            ends = getattr(self, field)
            if ends is not None and (len(set(ends)) != 2 or any(not 0 <= v < count for v in ends)):
                raise UserError(
                    f"layout '{self.name}': {field} must be two different joint numbers below"
                    f" {count}, got {list(ends)}"
                )

    @property
    def size(self) -> int:
        """Number of joints V."""
        return len(self.joints)

    @property
    def root(self) -> int:
        """The joint that is its own parent."""
        return next(v for v, parent in enumerate(self.parents) if v == parent)

    def bone_matrix(self) -> Matrix:
        """B (V, V) with bone = B @ joints: row v is x_v - x_parent(v), zero for the root."""
        matrix = np.eye(self.size)
        for v, parent in enumerate(self.bone_parents or self.parents):
            matrix[v, parent] -= 1.0
        return matrix

    def hop_matrix(self, hops: int, orientation: str) -> Matrix:
        """H (V, V) with H @ joints = the k-hop representation; hops = 0 is switched off (the
        identity).

        child_parent (InfoGCN): (I - P^k), P[child, parent] = 1: a joint minus its k-th ancestor;
        joints without one keep their position. parent_children (HPI-GCN's released code): (I -
        Q^k), Q = P^T over the layout's own tree: a joint minus the sum of all descendants exactly k
        levels below. infogcn: what InfoGCN's released code has for this skeleton, child_parent for
        those it does not know.
        """
        if hops == 0:
            return np.eye(self.size)
        if orientation == "infogcn":
            orientation = _INFOGCN_LINKS.get(self.name, "child_parent")
        parents = (
            (self.hop_parents or self.parents) if orientation == "child_parent" else self.parents
        )
        links = np.zeros((self.size, self.size))
        for v, parent in enumerate(parents):
            if v != parent:
                links[v, parent] = 1.0
        power: Matrix = np.linalg.matrix_power(links, hops)
        return np.eye(self.size) - (power if orientation == "child_parent" else power.T)


def check_tree(place: str, parents: tuple[int, ...], joints: Sequence[object]) -> None:
    """Exactly one root, every joint hangs on it, no cycle; raises UserError that names `place` and
    the joint otherwise.
    """
    count = len(joints)
    if len(parents) != count:
        raise UserError(
            f"{place} must name one parent per joint, got {len(parents)} for {count} joints"
        )
    if any(not 0 <= parent < count for parent in parents):
        raise UserError(f"{place} must be joint numbers below {count}, got {list(parents)}")
    roots = [v for v, parent in enumerate(parents) if v == parent]
    if len(roots) != 1:
        raise UserError(
            f"{place} must have exactly one root (a joint that is its own parent), got {len(roots)}"
        )
    for start in range(count):
        v = start
        for _ in range(count):
            v = parents[v]
        if v != roots[0]:
            raise UserError(
                f"{place} must form a tree, but joint '{joints[start]}' is in a cycle or hangs"
                " on one"
            )


def _tree(count: int, edges: str, root: int, base: int) -> tuple[int, ...]:
    """Parents from 'child-parent child-parent ...', joint numbers starting at `base`."""
    parents = {root: root}
    for edge in edges.split():
        child, parent = edge.split("-")
        parents[int(child) - base] = int(parent) - base
    return tuple(parents[v] for v in range(count))


# Joint numbers below are the data sets' own: 1-based for Kinect, 0-based for image-based skeletons.
_NTU = (
    "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17"
    " 19-18 20-19 22-23 23-8 24-25 25-12"
)
_NTU_HOPS = _NTU.replace("2-21 3-21", "21-2 3-21")  # InfoGCN roots the tree at joint 2
_NTU_GRAPH = _NTU.replace("22-23 23-8 24-25", "22-8 23-8 24-12")
_UCLA = (
    "1-2 2-3 4-3 5-3 6-5 7-6 8-7 9-3 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19"
)
_MSR = (
    "7-4 4-3 20-3 1-3 2-3 8-1 9-2 10-8 11-9 12-10 13-11 5-7 6-7 14-5 15-6 16-14 17-15 18-16 19-17"
)
_COCO = "15-13 13-11 16-14 14-12 11-5 12-6 9-7 7-5 10-8 8-6 5-0 6-0 1-0 3-1 2-0 4-2"
_COCO_BONES = "1-0 2-0 3-1 4-2 5-0 6-0 7-5 8-6 9-7 10-8 11-0 12-0 13-11 14-12 15-13 16-14"
_OPENPOSE = "4-3 3-2 7-6 6-5 13-12 12-11 10-9 9-8 11-5 8-2 5-1 2-1 0-1 15-0 14-0 17-15 16-14"
_OPENPOSE_BONES = "1-0 2-1 3-2 4-3 5-1 6-5 7-6 8-2 9-8 10-9 11-5 12-11 13-12 14-0 15-0 16-14 17-15"

_INFOGCN_LINKS = {"ucla20": "parent_children"}
"""InfoGCN's graph of NW-UCLA lists (child, parent) where its graph of NTU lists (parent, child)."""

LAYOUTS: dict[str, Layout] = {
    "ntu25": Layout(
        "ntu25",
        tuple(
            "spine_base spine_mid neck head left_shoulder left_elbow left_wrist left_hand"
            " right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle"
            " left_foot right_hip right_knee right_ankle right_foot spine_shoulder left_hand_tip"
            " left_thumb right_hand_tip right_thumb".split()
        ),
        _tree(25, _NTU, root=20, base=1),
        origin=1,
        hop_parents=_tree(25, _NTU_HOPS, root=1, base=1),
        graph_parents=_tree(25, _NTU_GRAPH, root=20, base=1),
        spine=(0, 1),
        shoulders=(4, 8),
    ),
    "ucla20": Layout(
        "ucla20",
        tuple(
            "hip_centre spine shoulder_centre head left_shoulder left_elbow left_wrist left_hand"
            " right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle"
            " left_foot right_hip right_knee right_ankle right_foot".split()
        ),
        _tree(20, _UCLA, root=2, base=1),
        origin=1,
        spine=(0, 1),
        shoulders=(4, 8),
    ),
    "msr20": Layout(
        "msr20",
        tuple(
            "left_shoulder right_shoulder shoulder_centre spine left_hip right_hip hip_centre"
            " left_elbow right_elbow left_wrist right_wrist left_hand right_hand left_knee"
            " right_knee left_ankle right_ankle left_foot right_foot head".split()
        ),
        _tree(20, _MSR, root=2, base=1),
        origin=3,
        spine=(6, 3),
        shoulders=(0, 1),
    ),
    "coco17": Layout(
        "coco17",
        tuple(
            "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow"
            " right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle"
            " right_ankle".split()
        ),
        _tree(17, _COCO, root=0, base=0),
        origin=0,
        bone_parents=_tree(17, _COCO_BONES, root=0, base=0),
    ),
    "openpose18": Layout(
        "openpose18",
        tuple(
            "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist"
            " right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye"
            " right_ear left_ear".split()
        ),
        _tree(18, _OPENPOSE, root=1, base=0),
        origin=1,
        bone_parents=_tree(18, _OPENPOSE_BONES, root=0, base=0),
    ),
}


def load_layout(name: str) -> Layout:
    """The built-in layout of that name; UserError lists the known ones."""
    if name not in LAYOUTS:
        raise UserError(f"layout must be one of {', '.join(LAYOUTS)}, got '{name}'")
    return LAYOUTS[name]
