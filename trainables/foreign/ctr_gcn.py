"""Checkpoints of CTR-GCN's repository: CTR-GCN and its baseline, ST-GCN-K5."""

from __future__ import annotations

import re

from trainables.foreign.family import Architecture, Family, State, Tensors, joined, shape_of
from trainables.foreign.ms_tcn import ms_tcn_rules, one_squeeze


def unit_rules(block: str) -> tuple[tuple[str, str], ...]:
    """Names inside a block; `block`: a pattern with its number as the group. `gathered` completes
    them.
    """
    return (
        (rf"^{block}\.gcn1\.(?:PA|A)$", r"blocks.\1.graph.adjacency"),
        (rf"^{block}\.gcn1\.alpha$", r"blocks.\1.graph.alpha"),
        (rf"^{block}\.gcn1\.convs\.(\d+)\.conv1\.", r"blocks.\1.graph.p_\2."),
        (rf"^{block}\.gcn1\.convs\.(\d+)\.conv2\.", r"blocks.\1.graph.q_\2."),
        (rf"^{block}\.gcn1\.convs\.(\d+)\.conv3\.", r"blocks.\1.graph.embed.\2."),
        (rf"^{block}\.gcn1\.convs\.(\d+)\.conv4\.", r"blocks.\1.graph.refine.\2."),
        (rf"^{block}\.gcn1\.conv_d\.(\d+)\.", r"blocks.\1.graph.project.\2."),
        (rf"^{block}\.gcn1\.bn\.", r"blocks.\1.graph.bn."),
        (rf"^{block}\.gcn1\.down\.0\.", r"blocks.\1.graph.residual.conv."),
        (rf"^{block}\.gcn1\.down\.1\.", r"blocks.\1.graph.residual.bn."),
        *ms_tcn_rules(block),
        (rf"^{block}\.tcn1\.(conv|bn)\.", r"blocks.\1.temporal.\2."),
        (rf"^{block}\.residual\.(conv|bn)\.", r"blocks.\1.residual.\2."),
    )


def gathered(state: State) -> State:
    """The convolutions to p and q of every block are one in ours,
    and so are MS-TCN's first three.
    """
    numbers: dict[str, set[int]] = {}
    for name in state:
        if match := re.match(r"^(.+)\.[pq]_(\d+)\.", name):
            numbers.setdefault(match[1], set()).add(int(match[2]))
    for graph, subsets in numbers.items():
        state = joined(
            state,
            [f"{graph}.{part}_{subset}" for part in "pq" for subset in sorted(subsets)],
            f"{graph}.relate",
        )
    return one_squeeze(state)


def _is_baseline(theirs: Tensors) -> bool:
    return "l1.gcn1.conv_d.0.weight" in theirs


def _recognises(theirs: Tensors) -> bool:
    return _is_baseline(theirs) or "l1.gcn1.convs.0.conv1.weight" in theirs


def _architecture(theirs: Tensors) -> Architecture:
    joints = shape_of(theirs, "l1.gcn1.PA", 3)[-1]
    dilated = "l1.tcn1.branches.0.3.conv.weight"
    return Architecture(
        model={
            "backbone": "st_gcn_k5" if _is_baseline(theirs) else "ctr_gcn",
            "temporal": "ms_tcn" if dilated in theirs else "conv",
            "kernel_size": shape_of(
                theirs, dilated if dilated in theirs else "l1.tcn1.conv.weight", 4
            )[2],
            "channels": shape_of(theirs, "l1.gcn1.bn.weight", 1)[0],
        }
        | ({} if _is_baseline(theirs) else {"convention": "official"}),
        classes=shape_of(theirs, "fc.weight", 2)[0],
        joints=joints,
        persons=shape_of(theirs, "data_bn.weight", 1)[0] // (3 * joints),
    )


OFFICIAL = Family(
    source="CTR-GCN's repository",
    backbones=("ctr_gcn", "st_gcn_k5"),
    recognises=_recognises,
    architecture=_architecture,
    rules=((r"^data_bn\.", "data_norm."), (r"^fc\.", "head.fc."), *unit_rules(r"l(\d+)")),
    blocks_from=1,
    gathered=gathered,
)
