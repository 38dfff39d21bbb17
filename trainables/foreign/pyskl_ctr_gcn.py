"""Checkpoints of PYSKL's CTR-GCN."""

from __future__ import annotations

from trainables.foreign.ctr_gcn import gathered, unit_rules
from trainables.foreign.family import (
    Architecture,
    Family,
    Prepared,
    Said,
    Tensors,
    shape_of,
)
from trainables.foreign.pyskl import one_norm_per_person


def _recognises(theirs: Tensors) -> bool:
    return "backbone.net.0.gcn1.convs.0.conv1.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    joints = shape_of(theirs, "backbone.net.0.gcn1.A", 3)[-1]
    return Architecture(
        model={
            "backbone": "ctr_gcn",
            "convention": "pyskl",
            "temporal": "ms_tcn",
            "kernel_size": shape_of(theirs, "backbone.net.0.tcn1.branches.0.3.conv.weight", 4)[2],
            "channels": shape_of(theirs, "backbone.net.0.gcn1.bn.weight", 1)[0],
        },
        classes=shape_of(theirs, "cls_head.fc_cls.weight", 2)[0],
        joints=joints,
        persons=shape_of(theirs, "backbone.data_bn.weight", 1)[0] // (3 * joints),
    )


def _prepared(theirs: Tensors, said: Said) -> Prepared:
    return one_norm_per_person(theirs, said, shape_of(theirs, "backbone.net.0.gcn1.A", 3)[-1])


PYSKL = Family(
    source="PYSKL's CTR-GCN",
    backbones=("ctr_gcn",),
    recognises=_recognises,
    architecture=_architecture,
    prepared=_prepared,
    rules=(
        (r"^backbone\.data_bn\.", "data_norm."),
        (r"^cls_head\.fc_cls\.", "head.fc."),
        *unit_rules(r"backbone\.net\.(\d+)"),
    ),
    unused=((r"^backbone\.A$", "the skeleton graph, which no layer reads"),),
    gathered=gathered,
)
