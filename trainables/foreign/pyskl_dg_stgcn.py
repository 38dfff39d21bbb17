"""Checkpoints of PYSKL's DG-STGCN, whose temporal module takes the mean joint along, and of
variants that do not.
"""

from __future__ import annotations

import re

from trainables.contract.errors import UserError
from trainables.foreign.family import (
    Architecture,
    Assumption,
    Family,
    Masking,
    Prepared,
    Said,
    Tensors,
    shape_of,
)
from trainables.foreign.pyskl import check_shared_norm
from trainables.foreign.six_branch_tcn import SIX_BRANCH_RULES, one_embedding

FIRST = "backbone.gcn.0"


def _recognises(theirs: Tensors) -> bool:
    return {
        f"{FIRST}.gcn.pre.0.weight",
        f"{FIRST}.gcn.conv1.weight",
        f"{FIRST}.tcn.branches.0.3.conv.weight",
    } <= theirs.keys()


def _architecture(theirs: Tensors) -> Architecture:
    subsets, joints, _ = shape_of(theirs, f"{FIRST}.gcn.A", 3)
    return Architecture(
        model={
            "backbone": "dg_stgcn",
            "channels": shape_of(theirs, f"{FIRST}.gcn.post.weight", 4)[0],
            "subsets": subsets,
            "temporal": "dg_ms_tcn" if f"{FIRST}.tcn.add_coeff" in theirs else "ms_tcn6",
            "kernel_size": shape_of(theirs, f"{FIRST}.tcn.branches.0.3.conv.weight", 4)[2],
        },
        classes=shape_of(theirs, "cls_head.fc_cls.weight", 2)[0],
        joints=joints,
        persons=None,
    )


def _prepared(theirs: Tensors, _said: Said) -> Prepared:
    """UserError where subsets have factors of their own: elements of alpha and beta that no
    forward pass reads stay exactly 0.
    """
    check_shared_norm(theirs, shape_of(theirs, f"{FIRST}.gcn.A", 3)[1])
    read = [
        name
        for name, tensor in theirs.items()
        if re.search(r"\.gcn\.(alpha|beta)$", name) and tensor.dim() == 1 and tensor[1:].any()
    ]
    if read:
        raise UserError(
            f"{read[0]}: must be 0 after the first element, got a factor for each subset"
            " (gcn_subset_wise=True), which the network here does not have"
        )
    return Prepared(theirs)


PYSKL = Family(
    source="PYSKL's DG-STGCN",
    backbones=("dg_stgcn",),
    recognises=_recognises,
    architecture=_architecture,
    prepared=_prepared,
    masking=Masking("block"),
    rules=(
        (r"^backbone\.data_bn\.", "data_norm."),
        (r"^cls_head\.fc_cls\.", "head.fc."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.A$", r"blocks.\1.graph.adjacency"),
        (r"^backbone\.gcn\.(\d+)\.gcn\.(alpha|beta)$", r"blocks.\1.graph.\2"),
        (r"^backbone\.gcn\.(\d+)\.gcn\.pre\.0\.", r"blocks.\1.graph.pre.conv."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.pre\.1\.", r"blocks.\1.graph.pre.bn."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.conv1\.", r"blocks.\1.graph.source."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.conv2\.", r"blocks.\1.graph.target."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.post\.", r"blocks.\1.graph.post.conv."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.bn\.", r"blocks.\1.graph.post.bn."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.down\.0\.", r"blocks.\1.graph.residual.conv."),
        (r"^backbone\.gcn\.(\d+)\.gcn\.down\.1\.", r"blocks.\1.graph.residual.bn."),
        *SIX_BRANCH_RULES,
        (r"^backbone\.gcn\.(\d+)\.residual\.(conv|bn)\.", r"blocks.\1.residual.\2."),
    ),
    unused=((r"^backbone\.A$", "the graph that the blocks' own matrices started from"),),
    gathered=one_embedding,
    assumed=(
        Assumption(
            "gcn_ctr='T', gcn_ada='T' with tanh and softmax, as in all released networks: not in"
            " the file"
        ),
    ),
)
