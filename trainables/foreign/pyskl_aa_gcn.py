"""Checkpoints of PYSKL's AA-GCN, with its attention modules or without."""

from __future__ import annotations

from torch import Tensor

from trainables.foreign.family import Architecture, Family, Tensors, joined

FIRST = "backbone.gcn.0.gcn"


def _recognises(theirs: Tensors) -> bool:
    return f"{FIRST}.conv_a.0.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    subsets, joints, _ = theirs[f"{FIRST}.A"].shape
    kernel = theirs["backbone.gcn.0.tcn.conv.weight"]
    return Architecture(
        model={
            "backbone": "aa_gcn",
            "channels": kernel.shape[0],
            "temporal": "conv",
            "kernel_size": kernel.shape[2],
            "subsets": subsets,
            "attention": f"{FIRST}.conv_ta.weight" in theirs,
        },
        classes=theirs["cls_head.fc_cls.weight"].shape[0],
        joints=joints,
        persons=theirs["backbone.data_bn.weight"].shape[0] // (3 * joints),
    )


def _one_embedding(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The two convolutions of every subset whose products are its similarity are one of all subsets in ours."""
    first = ".graph.conv_a.0.weight"
    for block in [name.removesuffix(first) for name in state if name.endswith(first)]:
        parts = [name.split(".")[-2] for name in state if name.startswith(f"{block}.graph.conv_a.") and name.endswith(".weight")]
        pairs = [f"{block}.graph.{conv}.{subset}" for subset in sorted(parts, key=int) for conv in ("conv_a", "conv_b")]
        state = joined(state, pairs, f"{block}.graph.embed")
    return state


PYSKL = Family(
    source="PYSKL's AA-GCN",
    backbones=("aa_gcn",),
    recognises=_recognises,
    architecture=_architecture,
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
