"""Checkpoints of Sparse-ST-GCN's code: beside every masked `weight` stands a `weight_score` S.

The code makes the mask anew in every forward pass, m = 1[S >= tau], with tau the k-th smallest of
the scores and k = 1 + round(level (n - 1)). The level is no part of the file.
"""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from torch import Tensor

from trainables.contract.errors import UserError
from trainables.foreign.family import Masking, Prepared, Said, Tensors

SCORE = ".weight_score"
BESIDE = r"\.(weight_score|zeros|ones)$"
"""Names of the scores, and of the constants of which the code makes its masks."""

_BLOCK = re.compile(r"^backbone\.(?:gcn|net)\.(\d+)\.")
_STRIDED = re.compile(r"^backbone\.gcn\.\d+\.residual\.")


def holds_scores(theirs: Tensors) -> bool:
    """Whether these are tensors of a network with masks from scores."""
    return any(name.endswith(SCORE) for name in theirs)


def masked(theirs: Tensors, said: Said, masking: Masking | None, source: str) -> Prepared:
    """`theirs` with weights times their masks; tensors without scores as they are.

    UserError where the level is not said, has no effect, or the code's masks are unknown here.
    """
    if not holds_scores(theirs):
        if said.level is not None:
            raise UserError("--level: has no effect: the checkpoint holds no weight_score")
        return Prepared(theirs)
    if masking is None:
        raise UserError(
            f"the checkpoint's weight_score tensors cannot be read for {source}, whose network"
            " differs in Sparse-ST-GCN's code; save its weights as weight * (weight_score >="
            " threshold), without scores, and import these"
        )
    if said.level is None:
        raise UserError(
            "the checkpoint holds the scores of masks (weight_score, Sparse-ST-GCN's code), but not"
            " the sparsity level of the masks: --level 0.8, say"
        )
    masks = _masks(theirs, masking, said.level)
    tensors = {
        name: tensor * masks[name] if name in masks else tensor
        for name, tensor in theirs.items()
        if not re.search(BESIDE, name)
    }
    beside = {
        name: "made the mask that its weight is stored with here"
        for name in theirs
        if re.search(BESIDE, name)
    }
    kept = sum(int(mask.sum()) for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    within = "all blocks" if masking.scope == "network" else "each block"
    residuals = "; strided residuals at threshold 0, as released" * masking.residuals_at_zero
    text = (
        f"masks at level {said.level:g}, one threshold for {within}{residuals}: {kept:,} of"
        f" {total:,} weights are kept, the others are 0"
    )
    return Prepared(tensors, beside, (text,))


def _masks(theirs: Tensors, masking: Masking, level: float) -> dict[str, Tensor]:
    """Name of a weight -> its mask of 0 and 1."""
    scores = {name: tensor for name, tensor in theirs.items() if name.endswith(SCORE)}
    groups: dict[str, list[Tensor]] = defaultdict(list)
    problems = []
    for name, score in scores.items():
        weight = theirs.get(_weight(name))
        if weight is None or weight.shape != score.shape:
            problems.append(
                f"{name}: must have a weight of its shape {tuple(score.shape)} beside it"
            )
        elif score.isnan().any():
            problems.append(f"{name}: must hold numbers, got nan")
        groups[_group(name, masking)].append(score.flatten())
    if problems:
        raise UserError.of(problems)
    thresholds = {group: threshold(torch.cat(found), level) for group, found in groups.items()}
    return {
        _weight(name): score
        >= (
            0.0
            if masking.residuals_at_zero and _STRIDED.match(name)
            else thresholds[_group(name, masking)]
        )
        for name, score in scores.items()
    }


def threshold(scores: Tensor, level: float) -> float:
    """The k-th smallest of `scores` (n,), k = 1 + round(level (n - 1)), halves to even."""
    k = 1 + round(0.01 * (100 * level) * (scores.numel() - 1))
    return float(scores.kthvalue(k).values)


def _weight(score: str) -> str:
    return score.removesuffix("_score")


def _group(name: str, masking: Masking) -> str:
    block = _BLOCK.match(name)
    return block[1] if block and masking.scope == "block" else ""
