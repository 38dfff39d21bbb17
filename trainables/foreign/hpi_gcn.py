"""Checkpoints of HPI-GCN's released code: the training form of RP and OP, and the deploy form its
conversion leaves.
"""

from __future__ import annotations

from dataclasses import replace

from trainables.foreign.family import Architecture, Family, State, Tensors, joined, shape_of

STEM_BRANCHES = ("input_map", "diff_map1", "diff_map2", "diff_map3", "diff_map4")
"""The five branches of explicit motion modelling in the order in which their outputs are
concatenated.
"""


def _is_op(theirs: Tensors) -> bool:
    return "l2.gcn.space_att.to_v.weight" in theirs


def _trained(theirs: Tensors) -> bool:
    return "l2.tcn1.TCN_origin.conv.weight" in theirs


def _deployed(theirs: Tensors) -> bool:
    return "l2.tcn1.TCN_reparam.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    if _deployed(theirs) and not _is_op(theirs):
        matrices, joints = 1, shape_of(theirs, "l2.gcn.space_att.A", 2)[-1]
    else:
        matrices, joints, _ = shape_of(theirs, "l2.gcn.space_att.PA", 3)
    kernel = shape_of(
        theirs,
        "l2.tcn1.TCN_reparam.weight" if _deployed(theirs) else "l2.tcn1.TCN_origin.conv.weight",
        4,
    )
    return Architecture(
        model={
            "backbone": "hpi_gcn_op" if _is_op(theirs) else "hpi_gcn_rp",
            "channels": kernel[0],
            "kernel_size": kernel[2],
            "input_block": "emm" if "input_map.0.weight" in theirs else "conv",
            "groups" if _is_op(theirs) else "adjacencies": matrices,
        },
        classes=shape_of(theirs, "fc.weight", 2)[0],
        joints=joints,
        persons=shape_of(theirs, "data_bn.weight", 1)[0] // (3 * joints),
    )


def _one_stem(state: State) -> State:
    """The five input branches are one grouped convolution and one BatchNorm in ours."""
    for theirs, ours in (("0", "conv"), ("1", "bn")):
        state = joined(state, [f"{branch}.{theirs}" for branch in STEM_BRANCHES], f"stem.{ours}")
    return state


_COMMON = (
    (r"^data_bn\.", "data_norm."),
    (r"^fc\.", "head.fc."),
    (r"^((input_map|diff_map\d)\..*)", r"\1"),
    (r"^l(\d+)\.gcn\.(?:conv0|space_att\.to_v)\.", r"blocks.\1.graph.embed."),
)

TRAINED = Family(
    source="HPI-GCN's released code, training form",
    backbones=("hpi_gcn_rp", "hpi_gcn_op"),
    recognises=_trained,
    architecture=_architecture,
    rules=(
        *_COMMON,
        (r"^l1\.TCN_origin\.", "stem."),
        (r"^l(\d+)\.gcn\.space_att\.PA$", r"blocks.\1.graph.mixing.matrices"),
        (r"^l(\d+)\.gcn\.conv_bn1\.TCN_origin\.", r"blocks.\1.graph.expand."),
        (r"^l(\d+)\.gcn\.space_att\.to_out\.", r"blocks.\1.graph.expand.body."),
        (r"^l(\d+)\.gcn\.norm\.", r"blocks.\1.graph.expand.bn."),
        (r"^l(\d+)\.gcn\.residual\.TCN_origin\.", r"blocks.\1.graph.residual."),
        (r"^l(\d+)\.tcn1\.TCN_origin\.", r"blocks.\1.temporal.body.branches.origin."),
        (r"^l(\d+)\.tcn1\.TCN_1x1\.", r"blocks.\1.temporal.body.branches.pointwise."),
        (r"^l(\d+)\.tcn1\.TCN_avg\.conv\.", r"blocks.\1.temporal.body.branches.average.pointwise."),
        (r"^l(\d+)\.tcn1\.TCN_avg\.bn\.bn\.", r"blocks.\1.temporal.body.branches.average.pad_bn."),
        (r"^l(\d+)\.tcn1\.TCN_avg\.avgbn\.", r"blocks.\1.temporal.body.branches.average.bn."),
        *(
            (
                rf"^l(\d+)\.tcn1\.TCN_1x1_{theirs}\.{part}\.",
                rf"blocks.\1.temporal.body.branches.{size}.{ours}.",
            )
            for theirs, size in (("kxk", 5), ("7x7", 7))
            for part, ours in (
                ("conv1", "pointwise"),
                (r"bn1\.bn", "pad_bn"),
                ("conv2", "conv"),
                ("bn2", "bn"),
            )
        ),
        (r"^l(\d+)\.bn\.", r"blocks.\1.temporal.bn."),
        (r"^l(\d+)\.residual\.TCN_origin\.", r"blocks.\1.residual."),
    ),
    unused=((r"\.space_att\.SA$", "the frozen skeleton graph, which no layer reads"),),
    blocks_from=2,
    gathered=_one_stem,
)

DEPLOYED = replace(
    TRAINED,
    source="HPI-GCN's released code, deploy form",
    recognises=_deployed,
    rules=(
        *_COMMON,
        (r"^l1\.conv_bn\.", "stem."),
        (r"^l(\d+)\.gcn\.space_att\.A$", r"blocks.\1.graph.mixing.matrix"),
        (r"^l(\d+)\.gcn\.space_att\.PA$", r"blocks.\1.graph.mixing.matrices"),
        (r"^l(\d+)\.gcn\.conv_bn1\.conv_bn\.", r"blocks.\1.graph.expand."),
        (r"^l(\d+)\.gcn\.space_att\.to_out\.", r"blocks.\1.graph.expand.0."),
        (r"^l(\d+)\.gcn\.norm\.", r"blocks.\1.graph.expand.1."),
        (r"^l(\d+)\.gcn\.residual\.conv_bn\.", r"blocks.\1.graph.residual."),
        (r"^l(\d+)\.tcn1\.TCN_reparam\.", r"blocks.\1.temporal.0."),
        (r"^l(\d+)\.bn\.", r"blocks.\1.temporal.1."),
        (r"^l(\d+)\.residual\.conv_bn\.", r"blocks.\1.residual."),
    ),
    deployed=True,
)
