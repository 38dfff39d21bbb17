"""PYSKL's names of the six temporal branches that ST-GCN++ and DG-STGCN have. Knows no backbone."""

from __future__ import annotations

from trainables.foreign.family import State, joined

EMBEDDINGS = tuple(f"embed_{branch}" for branch in range(5))

SIX_BRANCH_RULES: tuple[tuple[str, str], ...] = (
    *(
        (
            rf"^backbone\.gcn\.(\d+)\.tcn\.branches\.{branch}\.{number}\.",
            rf"blocks.\1.temporal.{embedding}.{part}.",
        )
        for branch, embedding in enumerate(EMBEDDINGS)
        for number, part in ((0, "conv"), (1, "bn"))
    ),
    (
        r"^backbone\.gcn\.(\d+)\.tcn\.branches\.([0-3])\.3\.conv\.",
        r"blocks.\1.temporal.dilated.\2.",
    ),
    (r"^backbone\.gcn\.(\d+)\.tcn\.branches\.5\.", r"blocks.\1.temporal.pointwise."),
    (r"^backbone\.gcn\.(\d+)\.tcn\.add_coeff$", r"blocks.\1.temporal.coefficients"),
    (r"^backbone\.gcn\.(\d+)\.tcn\.transform\.0\.", r"blocks.\1.temporal.norm."),
    (r"^backbone\.gcn\.(\d+)\.tcn\.transform\.2\.", r"blocks.\1.temporal.project.conv."),
    (r"^backbone\.gcn\.(\d+)\.tcn\.bn\.", r"blocks.\1.temporal.project.bn."),
)
"""`one_embedding` completes them."""


def one_embedding(state: State) -> State:
    """The five 1x1 convolutions with BatchNorm of every block are one in ours."""
    for temporal in sorted(
        {
            name.split(".temporal.embed_")[0] + ".temporal"
            for name in state
            if ".temporal.embed_" in name
        }
    ):
        state = joined(
            state, [f"{temporal}.{embedding}" for embedding in EMBEDDINGS], f"{temporal}.embed"
        )
    return state
