"""Adjacency matrices and joint hierarchies of a skeleton tree. Knows numpy, nothing of models.

A tree is its `parents`: joint v hangs on joint parents[v], the root on itself. All joint numbers
are 0-based.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from trainables.contract.model import ModelConfig
from trainables.layouts import Layout, Matrix

HIERARCHY_LEVELS = 7
"""HD-GCN cuts NTU's skeleton into 7 levels: joints further from the centre than 6 links belong to
the last.
"""


def column_normalised(links: Matrix) -> Matrix:
    """Every column divided by its sum; columns of zeros stay."""
    sums = links.sum(axis=0)
    return links / np.where(sums == 0, 1.0, sums)


def spatial(parents: Sequence[int]) -> Matrix:
    """(3, V, V): identity, child -> parent links, parent -> child links; entry [j, i] of the link i
    -> j, columns normalised (ST-GCN).
    """
    inward = np.zeros((len(parents), len(parents)))
    for child, parent in enumerate(parents):
        if child != parent:
            inward[parent, child] = 1.0
    return np.stack([np.eye(len(parents)), column_normalised(inward), column_normalised(inward.T)])


def stgcn_spatial(parents: Sequence[int]) -> Matrix:
    """(3, V, V) of PYSKL's graph of that name, centred at the root: the 1-hop adjacency with
    itself, columns normalised, cut into the joint itself, neighbours [j, i] with j at least as far
    from the centre as i, and the other neighbours.
    """
    far = distances(parents, _root(parents))
    links = np.eye(len(parents))
    for child, parent in enumerate(parents):
        links[child, parent] = links[parent, child] = 1.0
    normalised = column_normalised(links)
    itself = np.eye(len(parents), dtype=bool)
    outside = (far[:, None] >= far[None, :]) & ~itself
    return np.stack([normalised * itself, normalised * outside, normalised * ~(itself | outside)])


def distances(parents: Sequence[int], start: int) -> np.ndarray:
    """(V,) links between each joint and `start`."""
    neighbours: list[set[int]] = [set() for _ in parents]
    for child, parent in enumerate(parents):
        if child != parent:
            neighbours[child].add(parent)
            neighbours[parent].add(child)
    hops = {start: 0}
    frontier = [start]
    while frontier:
        reached = [
            joint for near in frontier for joint in sorted(neighbours[near]) if joint not in hops
        ]
        hops |= {
            joint: hops[near] + 1
            for near in frontier
            for joint in neighbours[near]
            if joint not in hops
        }
        frontier = list(dict.fromkeys(reached))
    return np.array([hops[joint] for joint in range(len(parents))])


def hierarchy(parents: Sequence[int], centre: int) -> list[list[int]]:
    """Joints by distance from the centre of mass, nearest first: HD-GCN's level sets, at most
    `HIERARCHY_LEVELS`.
    """
    levels = np.minimum(distances(parents, centre), HIERARCHY_LEVELS - 1)
    return [
        [int(joint) for joint in np.flatnonzero(levels == level)]
        for level in range(int(levels.max()) + 1)
    ]


def hierarchical(parents: Sequence[int], centre: int) -> Matrix:
    """(L, 3, V, V): for every pair of adjacent levels the joints of both themselves, all links
    inner -> outer joint, all links outer -> inner joint; entry [j, i] of the link i -> j, columns
    normalised (HD-GCN, section 3.1).
    """
    levels, size = hierarchy(parents, centre), len(parents)
    layers = []
    for inner, outer in pairwise(levels):
        itself, forward = np.zeros((size, size)), np.zeros((size, size))
        itself[inner + outer, inner + outer] = 1.0
        forward[np.ix_(outer, inner)] = 1.0
        layers.append(np.stack([itself, column_normalised(forward), column_normalised(forward.T)]))
    return np.stack(layers)


def centre_joint(centre: str | int, parents: Sequence[int]) -> int:
    """The 0-based joint that `model.centre` names."""
    return _root(parents) if isinstance(centre, str) else centre - 1


def graph_parents(model: ModelConfig, layout: Layout) -> tuple[int, ...]:
    """The tree a backbone's graphs are made of; UserError where the layout lacks a joint the model
    names.
    """
    return model.card.tree(model, layout)


def _root(parents: Sequence[int]) -> int:
    return next(v for v, parent in enumerate(parents) if v == parent)
