"""Weighted sums of score tables, clip by clip in double precision: what fast ones must equal."""

import numpy as np


def summand(row, how):
    """What a weight multiplies, of the scores (K,) of one clip."""
    row = np.asarray(row, np.float64)
    if how == "probabilities":
        shares = np.exp(row - row.max())
        return shares / shares.sum()
    if how == "normalised":
        return row / (row.std() or 1.0)
    return row


def weighted_sum(tables, factors, how):
    """(N, K)."""
    return np.array(
        [
            sum(f * summand(row, how) for f, row in zip(factors, rows, strict=True))
            for rows in zip(*tables, strict=True)
        ]
    )
