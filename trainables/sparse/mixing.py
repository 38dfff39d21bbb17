"""Joints mixed by matrices and both gradients of that, as functions of arrays, compiled.

Knows no networks.
"""

from __future__ import annotations

import numpy as np

from trainables.sparse.convolution import in_parts
from trainables.sparse.rows import WIDTH, Numbers

MIXED = range(9, WIDTH + 1)
"""Joints for which there are kernels; fewer would be padded to more than three times as many."""


def mixed(rows: Numbers, matrices: Numbers, *, threads: int = 1) -> Numbers:
    """y_{n, k} = x_n A_k: (N, R, V), (K, V, V) -> (N, K, R, V)."""
    from trainables.sparse.mixing_kernels import mix_each

    samples, frames, joints = rows.shape
    out = np.empty((samples, len(matrices), frames, joints), rows.dtype)
    padded, source = _padded(matrices, rows), np.ascontiguousarray(rows).reshape(samples, -1)
    result = out.reshape(samples, -1)
    in_parts(lambda part: mix_each(source[part], padded, joints, result[part]), samples, threads)
    return out


def rows_gradient(gradient: Numbers, matrices: Numbers, *, threads: int = 1) -> Numbers:
    """dx_n = sum_k dy_{n, k} A_k^T: (N, K, R, V) -> (N, R, V)."""
    from trainables.sparse.mixing_kernels import mix_and_add

    samples, _, frames, joints = gradient.shape
    out = np.zeros((samples, frames, joints), gradient.dtype)
    padded = _padded(matrices.transpose(0, 2, 1), gradient)
    source = np.ascontiguousarray(gradient).reshape(samples, -1)
    result = out.reshape(samples, -1)
    in_parts(lambda part: mix_and_add(source[part], padded, joints, result[part]), samples, threads)
    return out


def matrices_gradient(rows: Numbers, gradient: Numbers, *, threads: int = 1) -> Numbers:
    """dA_k = sum_n x_n^T dy_{n, k}: (N, R, V), (N, K, R, V) -> (K, V, V)."""
    from trainables.sparse.mixing_kernels import outer_each

    samples, each, _, joints = gradient.shape
    x = np.ascontiguousarray(rows).reshape(samples, -1)
    given = np.ascontiguousarray(gradient).reshape(samples, -1)
    sums = np.zeros((samples, each, joints * WIDTH))

    def run(part: slice) -> None:
        outer_each(x[part], given[part], joints, np.empty(joints * WIDTH, x.dtype), sums[part])

    in_parts(run, samples, threads)
    of_each = sums.sum(axis=0).reshape(each, joints, WIDTH)
    found: Numbers = of_each[..., :joints].astype(rows.dtype)
    return found


def _padded(matrices: Numbers, like: Numbers) -> Numbers:
    """Rows of WIDTH numbers: (K, V, V) -> (K, V WIDTH)."""
    each, joints, _ = matrices.shape
    padded = np.zeros((each, joints, WIDTH), like.dtype)
    padded[..., :joints] = matrices
    return padded.reshape(each, -1)
