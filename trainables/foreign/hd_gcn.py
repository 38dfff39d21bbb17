"""Checkpoints of HD-GCN's released code."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from trainables.foreign.family import (
    Architecture,
    Assumption,
    Family,
    State,
    Tensors,
    joined,
    shape_of,
)
from trainables.foreign.ms_tcn import ms_tcn_rules, one_squeeze

BLOCK = r"l(\d+)"


def _recognises(theirs: Tensors) -> bool:
    return "l1.gcn1.conv_down.0.0.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    joints = shape_of(theirs, "l1.gcn1.PA", 4)[-1]
    return Architecture(
        model={
            "backbone": "hd_gcn",
            "temporal": "ms_tcn",
            "channels": shape_of(theirs, "l1.gcn1.bn.weight", 1)[0],
            "kernel_size": shape_of(theirs, "l1.tcn1.branches.0.3.conv.weight", 4)[2],
        },
        classes=shape_of(theirs, "fc.weight", 2)[0],
        joints=joints,
        persons=shape_of(theirs, "data_bn.weight", 1)[0] // (3 * joints),
    )


def _aliases(theirs: Tensors) -> dict[str, str]:
    """Their `conv_d` is a second name of the last layer's modules, `conv.<L - 1>`; where both are
    stored it is the one that loading leaves.
    """
    aliases = {}
    layers = Counter(
        match[1]
        for name in theirs
        if (match := re.match(rf"^({BLOCK}\.gcn1\.conv)_down\.\d+\.0\.weight$", name))
    )
    for module, count in layers.items():
        for name in [name for name in theirs if name.startswith(f"{module}_d.")]:
            aliases[name.replace("_d.", f".{count - 1}.", 1)] = "conv_d holds the same layer"
    return {name: why for name, why in aliases.items() if name in theirs}


def _gathered(state: State) -> State:
    """The layers of a hierarchy, separate modules there, are one module in ours."""
    tensors = dict(state)
    for graph in sorted({name.split(".layer_")[0] for name in state if ".layer_" in name}):
        layers = 1 + max(
            int(name.split(".layer_")[1].split(".")[0])
            for name in state
            if name.startswith(f"{graph}.layer_")
        )
        ends = [name for name in state if name.startswith(f"{graph}.last.")]
        for name in ends:
            tensors[name.replace(".last.", f".layer_{layers - 1}.")] = tensors.pop(name)
        for part, ours, subsets in (
            ("reduce", "reduce", ("",)),
            ("subset", "embed", ("_0", "_1", "_2")),
            ("edge", "edge", ("",)),
        ):
            tensors = joined(
                tensors,
                [
                    f"{graph}.layer_{layer}.{part}{subset}"
                    for layer in range(layers)
                    for subset in subsets
                ],
                f"{graph}.{ours}",
            )
        if ends:  # parts that are missing have the rules' names
            last = (rf"\.layer_{layers - 1}\.(subset|edge)", r".last.\1")
            tensors = {
                name: replace(piece, missing=tuple(re.sub(*last, part) for part in piece.missing))
                for name, piece in tensors.items()
            }
    renamed = {
        re.sub(r"\.embed\.bn\.", ".embed_bn.", re.sub(r"\.embed\.conv\.", ".embed.", name)): piece
        for name, piece in tensors.items()
    }
    return one_squeeze(
        {
            name: replace(piece, tensor=piece.tensor.flatten()) if name.endswith(".bias") else piece
            for name, piece in renamed.items()
        }
    )


HD_GCN = Family(
    source="HD-GCN's released code",
    backbones=("hd_gcn",),
    recognises=_recognises,
    architecture=_architecture,
    rules=(
        (r"^data_bn\.", "data_norm."),
        (r"^fc\.", "head.fc."),
        (rf"^{BLOCK}\.gcn1\.PA$", r"blocks.\1.graph.adjacency"),
        (rf"^{BLOCK}\.gcn1\.conv_down\.(\d+)\.0\.", r"blocks.\1.graph.layer_\2.reduce.conv."),
        (rf"^{BLOCK}\.gcn1\.conv_down\.(\d+)\.1\.", r"blocks.\1.graph.layer_\2.reduce.bn."),
        (
            rf"^{BLOCK}\.gcn1\.conv\.(\d+)\.([012])\.0\.",
            r"blocks.\1.graph.layer_\2.subset_\3.conv.",
        ),
        (rf"^{BLOCK}\.gcn1\.conv\.(\d+)\.([012])\.1\.", r"blocks.\1.graph.layer_\2.subset_\3.bn."),
        (rf"^{BLOCK}\.gcn1\.conv\.(\d+)\.3\.conv\.0\.", r"blocks.\1.graph.layer_\2.edge.conv."),
        (rf"^{BLOCK}\.gcn1\.conv\.(\d+)\.3\.conv\.1\.", r"blocks.\1.graph.layer_\2.edge.bn."),
        (rf"^{BLOCK}\.gcn1\.conv_d\.([012])\.0\.", r"blocks.\1.graph.last.subset_\2.conv."),
        (rf"^{BLOCK}\.gcn1\.conv_d\.([012])\.1\.", r"blocks.\1.graph.last.subset_\2.bn."),
        (rf"^{BLOCK}\.gcn1\.conv_d\.3\.conv\.0\.", r"blocks.\1.graph.last.edge.conv."),
        (rf"^{BLOCK}\.gcn1\.conv_d\.3\.conv\.1\.", r"blocks.\1.graph.last.edge.bn."),
        (rf"^{BLOCK}\.gcn1\.aha\.conv_down\.0\.", r"blocks.\1.graph.attention.reduce.conv."),
        (rf"^{BLOCK}\.gcn1\.aha\.conv_down\.1\.", r"blocks.\1.graph.attention.reduce.bn."),
        (rf"^{BLOCK}\.gcn1\.aha\.edge_conv\.conv\.0\.", r"blocks.\1.graph.attention.edge.conv."),
        (rf"^{BLOCK}\.gcn1\.aha\.edge_conv\.conv\.1\.", r"blocks.\1.graph.attention.edge.bn."),
        (rf"^{BLOCK}\.gcn1\.aha\.aggregate\.", r"blocks.\1.graph.attention.expand."),
        (rf"^{BLOCK}\.gcn1\.down\.0\.", r"blocks.\1.graph.residual.conv."),
        (rf"^{BLOCK}\.gcn1\.down\.1\.", r"blocks.\1.graph.residual.bn."),
        (rf"^{BLOCK}\.gcn1\.bn\.", r"blocks.\1.graph.bn."),
        # (1, C, 1, 1), before BatchNorm
        (
            rf"^{BLOCK}\.tcn1\.branches\.([01])\.3\.bias$",
            r"blocks.\1.temporal.dilated.\2.conv.bias",
        ),
        *ms_tcn_rules(BLOCK),
        (rf"^{BLOCK}\.residual\.", r"blocks.\1.residual."),
    ),
    blocks_from=1,
    aliases=_aliases,
    gathered=_gathered,
    # which joints a layer joins: numbers inside the released code
    absent=(r"\.attention\.joints$",),
    assumed=(
        Assumption("centre=root (joint {root}): not in the file, --set model.centre", "centre"),
    ),
)
