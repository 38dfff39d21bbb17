"""Checkpoints of PYSKL's ST-GCN, with a fixed graph times learned factors or a learned adjacency,
and of its ST-GCN++.
"""

from __future__ import annotations

from dataclasses import replace

from trainables.foreign.family import (
    Architecture,
    Family,
    Masking,
    Prepared,
    Said,
    Tensors,
    shape_of,
)
from trainables.foreign.pyskl import adjacency, check_shared_norm
from trainables.foreign.six_branch_tcn import SIX_BRANCH_RULES, one_embedding

_GRAPH = "backbone.gcn.0.gcn."
_TEMPORAL = "backbone.gcn.0.tcn."


def _one_convolution(theirs: Tensors) -> bool:
    return f"{_GRAPH}conv.weight" in theirs and f"{_TEMPORAL}conv.weight" in theirs


def _six_branches(theirs: Tensors) -> bool:
    return f"{_GRAPH}conv.weight" in theirs and f"{_TEMPORAL}branches.0.3.conv.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    subsets, joints, _ = shape_of(theirs, f"{_GRAPH}A", 3)
    single = _one_convolution(theirs)
    kernel = shape_of(
        theirs, f"{_TEMPORAL}conv.weight" if single else f"{_TEMPORAL}branches.0.3.conv.weight", 4
    )
    return Architecture(
        model={
            "backbone": "st_gcn_pp" if f"{_GRAPH}down.0.weight" in theirs else "st_gcn",
            "channels": shape_of(theirs, f"{_GRAPH}bn.weight", 1)[0],
            "subsets": subsets,
            "adjacency": "scaled" if f"{_GRAPH}PA" in theirs else "learned",
            "temporal": "conv" if single else "ms_tcn6",
            "kernel_size": kernel[2],
        }
        | ({} if subsets == 3 else {"graph": "random"}),
        classes=shape_of(theirs, "cls_head.fc_cls.weight", 2)[0],
        joints=joints,
        persons=None,
    )


def _prepared(theirs: Tensors, said: Said) -> Prepared:
    check_shared_norm(theirs, shape_of(theirs, f"{_GRAPH}A", 3)[1])
    return adjacency(theirs, said)


_COMMON = (
    (r"^backbone\.data_bn\.", "data_norm."),
    (r"^cls_head\.fc_cls\.", "head.fc."),
    (r"^backbone\.gcn\.(\d+)\.gcn\.A$", r"blocks.\1.graph.mixing.matrices"),
    (r"^backbone\.gcn\.(\d+)\.gcn\.PA$", r"blocks.\1.graph.mixing.factors"),
    (r"^backbone\.gcn\.(\d+)\.gcn\.(conv|bn)\.", r"blocks.\1.graph.\2."),
    (r"^backbone\.gcn\.(\d+)\.gcn\.down\.0\.", r"blocks.\1.graph.residual.conv."),
    (r"^backbone\.gcn\.(\d+)\.gcn\.down\.1\.", r"blocks.\1.graph.residual.bn."),
    (r"^backbone\.gcn\.(\d+)\.residual\.(conv|bn)\.", r"blocks.\1.residual.\2."),
)

ONE_CONVOLUTION = Family(
    source="PYSKL's ST-GCN",
    backbones=("st_gcn", "st_gcn_pp"),
    recognises=_one_convolution,
    architecture=_architecture,
    prepared=_prepared,
    masking=Masking("network", residuals_at_zero=True),
    rules=(*_COMMON, (r"^backbone\.gcn\.(\d+)\.tcn\.(conv|bn)\.", r"blocks.\1.temporal.\2.")),
    unused=(
        (r"^backbone\.A$", "the skeleton graph all blocks were started from, which no layer reads"),
    ),
    known_for=("st_gcn",),
)

SIX_BRANCHES = replace(
    ONE_CONVOLUTION,
    source="PYSKL's ST-GCN++",
    recognises=_six_branches,
    rules=(*_COMMON, *SIX_BRANCH_RULES),
    gathered=one_embedding,
    known_for=("st_gcn_pp",),
)
