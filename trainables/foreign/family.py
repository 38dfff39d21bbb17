"""What is known of one code base's checkpoints, and the rules that turn its tensors into ours. Knows no particular code base."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint's names and shapes say about its network."""

    model: dict[str, Any]  # options of `ModelConfig`, the backbone among them
    classes: int
    joints: int
    persons: int | None  # None where the shapes do not show it


@dataclass(frozen=True)
class Family:
    """One code base's checkpoints of one backbone (or several of one build)."""

    source: str  # where such checkpoints come from, as the report names it
    backbones: tuple[str, ...]
    recognises: Callable[[Tensors], bool]  # whether names look like this family's
    architecture: Callable[[Tensors], Architecture]
    rules: tuple[tuple[str, str], ...]  # (pattern of their name, our name); the first that matches wins
    unused: tuple[tuple[str, str], ...] = ()  # (pattern of their name, why it is not needed)
    blocks_from: int = 0  # number of their first block: `blocks.N` in our names is counted from 0
    gathered: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict  # joins or splits renamed tensors where the modules differ
    absent: tuple[str, ...] = ()  # patterns of our names that such a checkpoint cannot hold; they keep their construction
    deployed: bool = False  # a form without branches and BatchNorms, which fills `Folding.RELEASED` instead of the training form


@dataclass(frozen=True)
class Converted:
    """Their tensors under our names, and what became of each."""

    state: dict[str, Tensor]
    unused: dict[str, str]  # their name -> why it is not needed
    unknown: tuple[str, ...]  # their names that no rule covers


def convert(family: Family, theirs: Tensors) -> Converted:
    """Rename every tensor by the family's rules."""
    state: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    unknown = []
    for name, tensor in theirs.items():
        reason = next((why for pattern, why in family.unused if re.search(pattern, name)), None)
        renamed = _renamed(family, name)
        if reason is not None:
            unused[name] = reason
        elif renamed is None:
            unknown.append(name)
        else:
            state[renamed] = tensor
    return Converted(family.gathered(state), unused, tuple(unknown))


def _renamed(family: Family, name: str) -> str | None:
    for pattern, replacement in family.rules:
        renamed, hits = re.subn(pattern, replacement, name)
        if hits:
            return re.sub(r"^blocks\.(\d+)", lambda match: f"blocks.{int(match[1]) - family.blocks_from}", renamed)
    return None


def joined(state: dict[str, Tensor], parts: Sequence[str], whole: str) -> dict[str, Tensor]:
    """`state` with tensors of the same rank put together along their first axis: `parts` are leading names, `whole` takes their place."""
    found = dict(state)
    for name in [name for name in state if name.startswith(f"{parts[0]}.")]:
        ending = name.removeprefix(parts[0])
        pieces = [found.pop(part + ending) for part in parts]
        found[whole + ending] = pieces[0] if pieces[0].dim() == 0 else torch.cat(pieces)
    return found
