"""What one ensemble member sees of the skeleton: streams by name, and as records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.contract.frozen import Frozen


class StreamConfig(Frozen):
    """What one ensemble member sees of the skeleton, as a record so that every published reading
    can be written down.

    The order of operations is: bone, then motion, then the k-hop representation (all three are
    linear, so motion commutes).
    """

    bone: bool = False  # difference to the other end of the bone instead of the position
    motion: bool = False  # difference to the next frame, zero at the last
    hops: int = Field(default=0, ge=0)  # k of the k-hop representation; 0 = off
    # of the links whose k-th power is taken off, see `Layout.hop_matrix`; infogcn: as its released
    # code has them for the skeleton, child_parent for NTU's and parent_children for NW-UCLA's
    orientation: Literal["parent_children", "child_parent", "infogcn"] = "parent_children"

    @field_validator("orientation")
    @classmethod
    def _is_used(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("hops") == 0 and value != cls.model_fields["orientation"].default:
            raise ValueError(f"has no effect at hops 0, got '{value}'; leave it out")
        return value


STREAMS: dict[str, StreamConfig] = {
    "joint": StreamConfig(),
    "bone": StreamConfig(bone=True),
    "joint_motion": StreamConfig(motion=True),
    "bone_motion": StreamConfig(bone=True, motion=True),
    # HPI-GCN's ensemble script, read as digit = k: j0 b0 j1 b1 j2 b2 (j0 and b0 are joint and
    # bone).
    "joint_hop1": StreamConfig(hops=1),
    "bone_hop1": StreamConfig(bone=True, hops=1),
    "joint_hop2": StreamConfig(hops=2),
    "bone_hop2": StreamConfig(bone=True, hops=2),
    # InfoGCN's multi-modal representation; its k = 8 is the plain joint stream. On NTU's skeleton
    # it is x - (k-th ancestor); on NW-UCLA's the links are the other way round.
    "infogcn_hop1": StreamConfig(hops=1, orientation="infogcn"),
    "infogcn_hop2": StreamConfig(hops=2, orientation="infogcn"),
    "infogcn_hop1_motion": StreamConfig(hops=1, motion=True, orientation="infogcn"),
    "infogcn_hop2_motion": StreamConfig(hops=2, motion=True, orientation="infogcn"),
}

STREAM_PRESETS: dict[str, tuple[str, ...]] = {
    # HPI-GCN's six streams.
    "hpi_code": ("joint", "bone", "joint_hop1", "bone_hop1", "joint_hop2", "bone_hop2"),
    # InfoGCN's six streams: k in {8 = joint, 1, 2}, each as positions and as motion.
    "infogcn": (
        "joint",
        "joint_motion",
        "infogcn_hop1",
        "infogcn_hop1_motion",
        "infogcn_hop2",
        "infogcn_hop2_motion",
    ),
    # The four streams of PYSKL, CTR-GCN and many others.
    "pyskl": ("joint", "bone", "joint_motion", "bone_motion"),
}
"""The streams a paper combines, by the name a sweep file uses for the set."""
