"""What is known of one code base's checkpoints, and the rules that turn its tensors into ours.

Knows no particular code base.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from trainables.contract.errors import UserError

Tensors = Mapping[str, Tensor]

COUNTER = ".num_batches_tracked"
"""End of the names of BatchNorm's count of training steps, which no forward pass reads."""

OTHER_COUNT = "a count of training steps unlike that of the BatchNorms it is joined with here"


@dataclass(frozen=True)
class Piece:
    """What one tensor of ours is filled with, and their tensors it is made of."""

    tensor: Tensor
    names: tuple[str, ...]
    # parts that the checkpoint lacks, by the names that the rules give them
    missing: tuple[str, ...] = ()
    misfit: str = ""  # why the parts cannot be put together

    @property
    def whole(self) -> bool:
        """Whether all parts are there and fit together."""
        return not self.missing and not self.misfit


State = dict[str, Piece]
"""Our names -> what they are filled with."""


def shape_of(theirs: Tensors, name: str, axes: int) -> tuple[int, ...]:
    """Sizes along that many axes; UserError where the tensor is missing, has another number of axes
    or an empty one.
    """
    if name not in theirs:
        raise UserError(f"{name}: must be in the checkpoint, but is missing")
    shape = tuple(theirs[name].shape)
    if len(shape) != axes or 0 in shape:
        raise UserError(
            f"{name}: must have {axes} {'axis, not' if axes == 1 else 'axes, none'} empty, got"
            f" shape {shape}"
        )
    return shape


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint's names and shapes say about its network."""

    model: dict[str, Any]  # options of `ModelConfig`, the backbone among them
    classes: int
    joints: int
    persons: int | None  # None where the shapes do not show it


@dataclass(frozen=True)
class Assumption:
    """Something that changes the results and that no checkpoint of a family shows."""

    text: str  # {root} stands for the number of the skeleton's root, from 1
    option: str | None = None  # of the model, that says it


@dataclass(frozen=True)
class Masking:
    """How Sparse-ST-GCN's code finds the thresholds of one backbone's masks."""

    scope: Literal["network", "block"]  # of the scores that one threshold is found among
    # strided residuals are called without a threshold, which leaves it at 0
    residuals_at_zero: bool = False


@dataclass(frozen=True)
class Said:
    """What the user says of a checkpoint, where its tensors do not show it."""

    layout: str | None = None  # a built-in layout or a layout file; None: the store's, or ntu25
    persons: int | None = None  # M; None: the store's, or 2
    level: float | None = None  # at which scores become masks (Sparse-ST-GCN)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the model


@dataclass(frozen=True)
class Prepared:
    """Their tensors, put into the form that a family's rules know."""

    tensors: Tensors
    unused: dict[str, str] = field(default_factory=dict)  # their name -> what became of it
    assumed: tuple[str, ...] = ()  # what was concluded, as the report says it
    model: dict[str, Any] = field(default_factory=dict)  # options that this shows


@dataclass(frozen=True)
class Family:
    """One code base's checkpoints of one backbone (or several of one build)."""

    source: str  # where such checkpoints come from, as the report names it
    backbones: tuple[str, ...]
    recognises: Callable[[Tensors], bool]  # whether names look like this family's
    architecture: Callable[[Tensors], Architecture]
    # (pattern of their name, our name); the first that matches wins
    rules: tuple[tuple[str, str], ...]
    # what the same tensors can mean is asked for or concluded; UserError where it must be said
    prepared: Callable[[Tensors, Said], Prepared] = lambda theirs, _said: Prepared(theirs)
    masking: Masking | None = None  # how Sparse-ST-GCN's code makes masks of its scores
    unused: tuple[tuple[str, str], ...] = ()  # (pattern of their name, why it is not needed)
    blocks_from: int = 0  # number of their first block: `blocks.N` in our names is counted from 0
    # names of tensors that are stored under two -> why this one is not needed
    aliases: Callable[[Tensors], dict[str, str]] = lambda _theirs: {}
    gathered: Callable[[State], State] = dict  # joins renamed tensors where the modules differ
    # patterns of our names that such a checkpoint cannot hold; they keep their construction
    absent: tuple[str, ...] = ()
    # a form without branches and BatchNorms, which fills `Folding.RELEASED` instead of the training
    # form
    deployed: bool = False
    assumed: tuple[Assumption, ...] = ()
    known_for: tuple[str, ...] = ()  # backbones that `source` is the usual source of; empty: all


@dataclass(frozen=True)
class Converted:
    """Their tensors under our names, and what became of each."""

    state: State
    unused: dict[str, str]  # their name -> why it is not needed
    unknown: tuple[str, ...]  # their names that no rule covers
    doubled: tuple[str, ...]  # their names whose place in the network another one fills


def convert(family: Family, theirs: Tensors) -> Converted:
    """Rename every tensor by the family's rules."""
    state: State = {}
    unused = dict(family.aliases(theirs))
    unknown = []
    for name, tensor in theirs.items():
        reason = unused.get(name) or next(
            (why for pattern, why in family.unused if re.search(pattern, name)), None
        )
        renamed = _renamed(family, name)
        if reason is not None:
            unused[name] = reason
        elif renamed is None:
            unknown.append(name)
        else:
            state[renamed] = Piece(tensor, (name,))
    state = family.gathered(state)
    accounted = (
        {name for piece in state.values() for name in piece.names} | unused.keys() | set(unknown)
    )
    left = [name for name in theirs if name not in accounted]
    unused |= {name: OTHER_COUNT for name in left if name.endswith(COUNTER)}
    return Converted(
        state, unused, tuple(unknown), tuple(name for name in left if not name.endswith(COUNTER))
    )


def _renamed(family: Family, name: str) -> str | None:
    for pattern, replacement in family.rules:
        renamed, hits = re.subn(pattern, replacement, name)
        if hits:
            return re.sub(
                r"^blocks\.(\d+)",
                lambda match: f"blocks.{int(match[1]) - family.blocks_from}",
                renamed,
            )
    return None


def their_names(family: Family, theirs: Tensors, state: State, ours: str) -> tuple[str, ...]:
    """What a tensor (or the parts of one) that is missing would be called in this checkpoint,
    judged by what is there; else our name.
    """
    known = {renamed: (name,) for name in theirs if (renamed := _renamed(family, name)) is not None}
    block = re.match(r"^blocks\.(\d+)(\..+)$", ours)
    if block is not None:
        alike = {name: piece.names for name, piece in state.items() if piece.whole} | known
        for other, names in alike.items():
            if re.fullmatch(rf"blocks\.\d+{re.escape(block[2])}", other):
                return tuple(
                    re.sub(r"\d+", str(int(block[1]) + family.blocks_from), name, count=1)
                    for name in names
                )
    module, _, last = ours.rpartition(".")
    for other, (name,) in known.items():
        guess = f"{name.rpartition('.')[0]}.{last}"
        if other.rpartition(".")[0] == module and _renamed(family, guess) == ours:
            return (guess,)
    return (f"{ours} (our name)",)


def joined(state: State, parts: Sequence[str], whole: str) -> State:
    """`state` with tensors of the same rank put together along their first axis: `parts` are
    leading names, `whole` takes their place.

    Counts of training steps are not added up: the first stands for those that are equal. What is
    missing or does not fit is noted.
    """
    tensors = dict(state)
    endings = dict.fromkeys(
        name.removeprefix(part) for part in parts for name in state if name.startswith(f"{part}.")
    )
    for ending in endings:
        missing = tuple(part + ending for part in parts if part + ending not in tensors)
        pieces = [tensors.pop(part + ending) for part in parts if part + ending in tensors]
        tensor, misfit = pieces[0].tensor, ""
        if ending.endswith(COUNTER):
            missing = ()
            pieces = [piece for piece in pieces if torch.equal(piece.tensor, tensor)]
        else:
            shapes = list(dict.fromkeys(tuple(piece.tensor.shape) for piece in pieces))
            if () in shapes or len({shape[1:] for shape in shapes}) > 1:
                misfit = f"do not fit together, with shapes {' and '.join(map(str, shapes))}"
            else:
                tensor = torch.cat([piece.tensor for piece in pieces])
        tensors[whole + ending] = Piece(
            tensor, tuple(name for piece in pieces for name in piece.names), missing, misfit
        )
    return tensors
