"""The fixed stream weights of published papers, by the name a sweep file uses for them.

Imports nothing: checking a file needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Combine = Literal["logits", "probabilities", "normalised"]
"""What is summed; normalised: logits over their standard deviation, clip by clip."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Stream -> weight, and what is summed with these weights. No weights: all equal."""

    weights: dict[str, float]
    combine: Combine


PRESETS: dict[str, Preset] = {
    # HPI-GCN's ensemble script, six streams: raw logits.
    "hpi_gcn": Preset(
        {
            "joint": 1.1,
            "bone": 0.9,
            "joint_hop1": 0.8,
            "bone_hop1": 0.8,
            "joint_hop2": 0.8,
            "bone_hop2": 0.8,
        },
        "logits",
    ),
    # PYSKL (Duan et al. 2022): joint and bone twice as much as their motions, on softmax
    # probabilities.
    "pyskl": Preset(
        {"joint": 2.0, "bone": 2.0, "joint_motion": 1.0, "bone_motion": 1.0}, "probabilities"
    ),
    # CTR-GCN's ensemble script (Chen et al. 2021): raw logits.
    "ctr_gcn": Preset(
        {"joint": 0.6, "bone": 0.6, "joint_motion": 0.4, "bone_motion": 0.4}, "logits"
    ),
    # InfoGCN's ensemble script (Chi et al. 2022), k in {8 = joint, 1, 2}: positions 1.5, motions
    # 1.0, raw logits.
    "infogcn": Preset(
        {
            "joint": 1.5,
            "joint_motion": 1.0,
            "infogcn_hop1": 1.5,
            "infogcn_hop1_motion": 1.0,
            "infogcn_hop2": 1.5,
            "infogcn_hop2_motion": 1.0,
        },
        "logits",
    ),
    # HD-GCN's ensemble script (Lee et al. 2023): one vote each, logits over their standard
    # deviation.
    "hd_gcn": Preset({}, "normalised"),
    # Sparse ST-GCN over levels: one vote each, on softmax probabilities.
    "equal": Preset({}, "probabilities"),
}
