"""What a PYSKL checkpoint does not show of its network. Knows no backbone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.contract.errors import UserError
from trainables.foreign.family import COUNTER, Prepared, Said, Tensors, shape_of

DATA_NORM = "backbone.data_bn."
COORDINATES = 3


def one_norm_per_person(theirs: Tensors, said: Said, joints: int) -> Prepared:
    """For networks whose coordinates are normalised for each person apart (data_bn_type 'MVC').

    Statistics of one person are those of a network for one person, or of 'VC', where all persons
    share them: the file does not show which. Shared ones are repeated for each person.
    """
    features, alone = shape_of(theirs, f"{DATA_NORM}weight", 1)[0], COORDINATES * joints
    if features != alone or said.persons == 1:
        return Prepared(theirs)
    if said.persons is None:
        raise UserError(
            f"{DATA_NORM}weight: holds the statistics of one person, which are those of a network"
            " for one person or those that all persons share (data_bn_type='VC'); the file does"
            " not show which: say --persons"
        )
    repeated = {
        name: tensor.repeat(said.persons)
        if name.startswith(DATA_NORM) and not name.endswith(COUNTER)
        else tensor
        for name, tensor in theirs.items()
    }
    text = (
        f"data_bn_type='VC': the statistics that {said.persons} persons share are stored once for"
        " each; training on would let them part"
    )
    return Prepared(repeated, assumed=(text,))


def check_shared_norm(theirs: Tensors, joints: int) -> None:
    """UserError unless all persons share the statistics of coordinates (data_bn_type 'VC')."""
    features = shape_of(theirs, f"{DATA_NORM}weight", 1)[0]
    if features != COORDINATES * joints and features % (COORDINATES * joints) == 0:
        raise UserError(
            f"{DATA_NORM}weight: must have {COORDINATES * joints} elements (data_bn_type='VC'), got"
            f" {features}: this network normalises {features // (COORDINATES * joints)} persons"
            " apart (data_bn_type='MVC'), which the backbone here does not"
        )


def adjacency(theirs: Tensors, said: Said) -> Prepared:
    """How ST-GCN's `A` and `PA` of every block make its adjacency (gcn_adaptive), as far as the
    tensors show it.

    'importance' multiplies them. Where A is 0 no gradient reaches PA, whose elements start equal
    and stay equal there. 'offset' adds them, and PA differs there. None trains nothing: A is the
    same in every block.
    """
    asked = said.options.get("adjacency")
    graphs = _by_block(theirs, "A")
    parts = _by_block(theirs, "PA")
    if not parts:
        alike = len(graphs) > 1 and all(torch.equal(graphs[0], other) for other in graphs[1:])
        if asked == "fixed" or (asked is None and alike and len(graphs[0]) == 3):
            text = "gcn_adaptive=None: A is the same in every block"
            return Prepared(theirs, assumed=() if asked else (text,), model={"adjacency": "fixed"})
        return Prepared(theirs)
    if asked is not None and asked != "learned":
        return Prepared(theirs)
    if asked is None:
        unreached = [part[graph == 0] for graph, part in zip(graphs, parts, strict=False)]
        if len(graphs) != len(parts) or not all(len(values) > 1 for values in unreached):
            raise UserError(
                "backbone.gcn.0.gcn.PA: is a factor of A (gcn_adaptive='importance') or added to"
                " it ('offset'), and the file does not show which: say --set"
                " model.adjacency=scaled or --set model.adjacency=learned"
            )
        if all(bool((values == values[0]).all()) for values in unreached):
            return Prepared(theirs)
    return _offset(theirs, asked is None)


def _by_block(theirs: Tensors, last: str) -> Sequence[Tensor]:
    return [
        tensor
        for name, tensor in theirs.items()
        if re.fullmatch(rf"backbone\.gcn\.\d+\.gcn\.{last}", name)
    ]


def _offset(theirs: Tensors, concluded: bool) -> Prepared:
    """PA added to A."""
    parts = {name.removesuffix("PA") + "A": name for name in theirs if name.endswith(".gcn.PA")}
    lost = [name for name in parts if name not in theirs]
    if lost:
        raise UserError.of(f"{name}: must be in the checkpoint, but is missing" for name in lost)
    sums = {
        name: tensor + theirs[parts[name]] if name in parts else tensor
        for name, tensor in theirs.items()
        if name not in parts.values()
    }
    text = (
        "gcn_adaptive='offset': PA, which differs where A is 0, is added to A; --set"
        " model.adjacency=scaled makes it a factor"
    )
    return Prepared(
        sums, dict.fromkeys(parts.values(), "is added to A"), (text,) if concluded else ()
    )
