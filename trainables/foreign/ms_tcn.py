"""The temporal branches that CTR-GCN's repository and those that took them over name alike.

Knows no backbone.
"""

from __future__ import annotations

from trainables.foreign.family import State, joined

SQUEEZES = tuple(f"squeeze_{branch}" for branch in range(3))


def ms_tcn_rules(block: str, module: str = "tcn1") -> tuple[tuple[str, str], ...]:
    """Renaming of `<block>.<module>.*`; `block`: a pattern with the block's number as its group.
    `one_squeeze` completes it.
    """
    branches = rf"^{block}\.{module}\.branches\."
    return (
        *(
            (rf"{branches}{branch}\.{number}\.", rf"blocks.\1.temporal.{squeeze}.{part}.")
            for branch, squeeze in enumerate(SQUEEZES)
            for number, part in ((0, "conv"), (1, "bn"))
        ),
        (rf"{branches}([01])\.3\.", r"blocks.\1.temporal.dilated.\2."),
        (rf"{branches}2\.4\.", r"blocks.\1.temporal.pool_bn."),
        (rf"{branches}3\.0\.", r"blocks.\1.temporal.pointwise.conv."),
        (rf"{branches}3\.1\.", r"blocks.\1.temporal.pointwise.bn."),
    )


def one_squeeze(state: State) -> State:
    """The three 1x1 convolutions of every block are one in ours."""
    for temporal in sorted(
        {
            name.split(".temporal.squeeze_")[0] + ".temporal"
            for name in state
            if ".temporal.squeeze_" in name
        }
    ):
        state = joined(
            state, [f"{temporal}.{squeeze}" for squeeze in SQUEEZES], f"{temporal}.squeeze"
        )
    return state
