"""Checkpoints of PYSKL's CTR-GCN."""

from __future__ import annotations

from trainables.foreign.ctr_gcn import gathered, unit_rules
from trainables.foreign.family import Architecture, Family, Tensors


def _recognises(theirs: Tensors) -> bool:
    return "backbone.net.0.gcn1.convs.0.conv1.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    joints = theirs["backbone.net.0.gcn1.A"].shape[-1]
    return Architecture(
        model={
            "backbone": "ctr_gcn",
            "convention": "pyskl",
            "kernel_size": theirs["backbone.net.0.tcn1.branches.0.3.conv.weight"].shape[2],
            "channels": theirs["backbone.net.0.gcn1.bn.weight"].shape[0],
        },
        classes=theirs["cls_head.fc_cls.weight"].shape[0],
        joints=joints,
        persons=theirs["backbone.data_bn.weight"].shape[0] // (3 * joints),
    )


PYSKL = Family(
    source="PYSKL's CTR-GCN",
    backbones=("ctr_gcn",),
    recognises=_recognises,
    architecture=_architecture,
    rules=((r"^backbone\.data_bn\.", "data_norm."), (r"^cls_head\.fc_cls\.", "head.fc."), *unit_rules(r"backbone\.net\.(\d+)")),
    unused=((r"^backbone\.A$", "the skeleton graph, which no layer reads"),),
    gathered=gathered,
)
