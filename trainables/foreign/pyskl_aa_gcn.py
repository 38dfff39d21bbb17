"""Checkpoints of PYSKL's AA-GCN, with its attention modules or without."""

from __future__ import annotations

import re

from trainables.foreign.family import (
    Architecture,
    Family,
    Masking,
    Prepared,
    Said,
    State,
    Tensors,
    joined,
    shape_of,
)
from trainables.foreign.pyskl import one_norm_per_person

FIRST = "backbone.gcn.0.gcn"


def _recognises(theirs: Tensors) -> bool:
    return f"{FIRST}.conv_a.0.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    subsets, joints, _ = shape_of(theirs, f"{FIRST}.A", 3)
    kernel = shape_of(theirs, "backbone.gcn.0.tcn.conv.weight", 4)
    return Architecture(
        model={
            "backbone": "aa_gcn",
            "channels": kernel[0],
            "temporal": "conv",
            "kernel_size": kernel[2],
            "subsets": subsets,
            "attention": f"{FIRST}.conv_ta.weight" in theirs,
        },
        classes=shape_of(theirs, "cls_head.fc_cls.weight", 2)[0],
        joints=joints,
        persons=shape_of(theirs, "backbone.data_bn.weight", 1)[0] // (3 * joints),
    )


def _prepared(theirs: Tensors, said: Said) -> Prepared:
    return one_norm_per_person(theirs, said, shape_of(theirs, f"{FIRST}.A", 3)[1])


def _one_embedding(state: State) -> State:
    """The two convolutions of every subset whose products are its similarity are one of all subsets
    in ours.
    """
    numbers: dict[str, set[int]] = {}
    for name in state:
        if match := re.match(r"^(.+\.graph)\.conv_[ab]\.(\d+)\.", name):
            numbers.setdefault(match[1], set()).add(int(match[2]))
    for graph, subsets in numbers.items():
        pairs = [
            f"{graph}.{conv}.{subset}"
            for subset in sorted(subsets)
            for conv in ("conv_a", "conv_b")
        ]
        state = joined(state, pairs, f"{graph}.embed")
    return state


PYSKL = Family(
    source="PYSKL's AA-GCN",
    backbones=("aa_gcn",),
    recognises=_recognises,
    architecture=_architecture,
    prepared=_prepared,
    masking=Masking("block", residuals_at_zero=True),
    rules=(
        (r"^backbone\.data_bn\.", "data_norm."),
        (r"^cls_head\.fc_cls\.", "head.fc."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.A$", r"blocks.\1.graph.adjacency"),
        (r"^backbone\.gcn\.(\d+)\.gcn\.alpha$", r"blocks.\1.graph.alpha"),
        (r"^backbone\.gcn\.(\d+)\.gcn\.(conv_[ab])\.(\d+)\.", r"blocks.\1.graph.\2.\3."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.conv_d\.(\d+)\.", r"blocks.\1.graph.project.\2."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.bn\.", r"blocks.\1.graph.bn."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.down\.0\.", r"blocks.\1.graph.residual.conv."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.down\.1\.", r"blocks.\1.graph.residual.bn."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.conv_sa\.", r"blocks.\1.graph.attention.joint."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.conv_ta\.", r"blocks.\1.graph.attention.frame."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.fc1c\.", r"blocks.\1.graph.attention.squeeze."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.fc2c\.", r"blocks.\1.graph.attention.excite."),
        (r"^backbone\.gcn\.(\d+)\.tcn\.(conv|bn)\.", r"blocks.\1.temporal.\2."),
        (r"^backbone\.gcn\.(\d+)\.residual\.(conv|bn)\.", r"blocks.\1.residual.\2."),
    ),
    unused=((r"^backbone\.A$", "the graph that the blocks' own matrices started from"),),
    gathered=_one_embedding,
)
