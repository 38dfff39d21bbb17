"""Joints -> stream: what one ensemble member sees of a clip.

Knows layouts and tensors, nothing of stores, batches or models.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainables.contract.config import StreamConfig
from trainables.layouts import Layout, Matrix


def joint_matrix(layout: Layout, stream: StreamConfig) -> Matrix:
    """H B (V, V): the stream's positions are this matrix times the joints; B is the bone matrix, H
    the k-hop representation.

    Both, and motion, are linear over different axes, so one product along the joints does all that
    is not motion.
    """
    matrix = layout.hop_matrix(stream.hops, stream.orientation)
    return matrix @ layout.bone_matrix() if stream.bone else matrix


def image_matrices(layout: Layout, stream: StreamConfig) -> Matrix:
    """(3, V, V): `joint_matrix` for x and y; the confidence of a bone is the mean of its two
    joints', and the k-hop representation leaves it.

    The root is both ends of its own bone, so that its confidence stays.
    """
    places = joint_matrix(layout, stream)
    confidence = (
        np.eye(layout.size) - layout.bone_matrix() / 2 if stream.bone else np.eye(layout.size)
    )
    return np.stack([places, places, confidence])


def mix_joints(joints: Tensor, matrix: Tensor) -> Tensor:
    """out[v] = sum_w matrix[v, w] joints[w].   joints: (N, C, T, V, M), matrix: (V, V) or one for
    each coordinate (C, V, V); same shape back.
    """
    mixed = exact_product(joints.movedim(-1, 1), matrix.mT)  # (N, M, C, T, V)
    return mixed.movedim(1, -1)


def motion(joints: Tensor) -> Tensor:
    """Displacement to the next frame, in units of `joints` per frame; zero at the last frame.

    joints: (N, C, T, V, M). m[t] = x[t + 1] - x[t] (Shi et al. 2020). Returns the same shape and
    memory order.
    """
    moved = torch.empty_like(joints)
    torch.sub(joints[:, :, 1:], joints[:, :, :-1], out=moved[:, :, :-1])
    moved[:, :, -1] = 0
    return moved


def to_stream(joints: Tensor, matrix: Tensor | None, *, moving: bool) -> Tensor:
    """The stream of `joints` (N, C, T, V, M).

    matrix: `joint_matrix` or `image_matrices` as a tensor; None: the identity. moving: whether
    motion is asked for.
    """
    positions = joints if matrix is None else mix_joints(joints, matrix)
    return motion(positions) if moving else positions


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right with every bit of float32: on CUDA in float64, since TF32 there would round
    metres to half a millimetre.
    """
    if left.is_cuda and left.dtype == torch.float32:
        return (left.double() @ right.double()).float()
    return left @ right
