"""Checkpoints of InfoGCN's released code."""

from __future__ import annotations

from trainables.foreign.family import Architecture, Assumption, Family, Tensors, shape_of
from trainables.foreign.ms_tcn import ms_tcn_rules, one_squeeze


def _recognises(theirs: Tensors) -> bool:
    return "to_joint_embedding.weight" in theirs and "l1.agcn.shared_topology" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    _, joints, channels = shape_of(theirs, "pos_embedding", 3)
    return Architecture(
        model={
            "backbone": "info_gcn",
            "temporal": "ms_tcn",
            "channels": channels,
            "kernel_size": shape_of(theirs, "l1.tcn.branches.0.3.conv.weight", 4)[2],
            "subsets": shape_of(theirs, "l1.agcn.shared_topology", 3)[0],
        },
        classes=shape_of(theirs, "decoder.weight", 2)[0],
        joints=joints,
        persons=shape_of(theirs, "data_bn.weight", 1)[0] // (joints * channels),
    )


INFO_GCN = Family(
    source="InfoGCN's released code",
    backbones=("info_gcn",),
    recognises=_recognises,
    architecture=_architecture,
    rules=(
        (r"^to_joint_embedding\.", "data_norm.linear."),
        (r"^pos_embedding$", "data_norm.position"),
        (r"^data_bn\.", "data_norm.bn."),
        (r"^fc\.", "head.hidden."),
        (r"^fc_mu\.", "head.mu."),
        (r"^fc_logvar\.", "head.logvar."),
        (r"^decoder\.", "head.decoder."),
        (r"^l(\d+)\.agcn\.shared_topology$", r"blocks.\1.graph.topology"),
        (r"^l(\d+)\.agcn\.conv_d\.(\d+)\.", r"blocks.\1.graph.project.\2."),
        (r"^l(\d+)\.agcn\.attn\.ln\.", r"blocks.\1.graph.norm."),
        (r"^l(\d+)\.agcn\.attn\.to_qk\.", r"blocks.\1.graph.compare."),
        (r"^l(\d+)\.agcn\.bn\.", r"blocks.\1.graph.bn."),
        (r"^l(\d+)\.agcn\.down\.0\.", r"blocks.\1.graph.residual.conv."),
        (r"^l(\d+)\.agcn\.down\.1\.", r"blocks.\1.graph.residual.bn."),
        *ms_tcn_rules(r"l(\d+)", "tcn"),
        (r"^l(\d+)\.residual\.", r"blocks.\1.residual."),
    ),
    unused=(
        (
            r"^A_vector$",
            "the skeleton's hop matrix: here a choice of the data stream, applied to the clips",
        ),
        (r"^z_prior$", "class priors, drawn anew: only training reads them"),
    ),
    blocks_from=1,
    gathered=one_squeeze,
    absent=(r"^priors$",),  # class priors, which the released code does not save
    assumed=(
        Assumption(
            "k of the skeleton matrix: not in the file; clips come as the stream gives them"
            " (infogcn_hop1 is k = 1)"
        ),
    ),
)
