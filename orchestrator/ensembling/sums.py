"""Weighted sums of score tables: several sums of the same tables in one pass, clips in pieces that
stay in the cache. Pure functions on arrays; checks nothing.

The weight of a table that is softened or normalised is divided, clip by clip, by what its scores
would be divided by, so that one small matrix product per clip makes all sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.sweep.presets import Combine

FloatArray = npt.NDArray[np.floating[Any]]
Tables = Sequence[FloatArray] | FloatArray
"""(N, K) each, or all in one array (S, N, K), of which nothing is copied."""

PIECE = 1 << 18  # numbers of the tables at a time: they and what is made of them stay in the cache
AT_ONCE = 16  # tables
FEWEST_CLIPS = 16  # at a time


@dataclass(frozen=True, slots=True)
class Weights:
    """What is summed of S tables, and the weight of each; 0 leaves a table out."""

    factors: Sequence[float]  # (S,)
    how: Combine


@dataclass(frozen=True, eq=False, slots=True)
class _Kind:
    """The wanted sums of one kind."""

    how: Combine
    which: Sequence[int]  # their numbers among all that are wanted
    factors: FloatArray  # (P, S)
    room: FloatArray  # (n, P, K)


def pieces(
    tables: Tables, wanted: Sequence[Weights]
) -> Iterator[tuple[slice, Sequence[int], FloatArray]]:
    """(clips, numbers of wanted sums, these sums (n, P, K)), until every sum has been given of all
    clips of the tables (N, K). An array is overwritten when the next one is asked for.

    In the precision of the tables, at least single; of probabilities the sums of w_i softmax(x_i).
    """
    clips, classes = tables[0].shape
    kind, most = np.result_type(np.float32, *tables), min(AT_ONCE, len(tables))
    step = min(clips, max(FEWEST_CLIPS, PIECE // max(1, most * classes)))
    kinds = list[_Kind]()
    for how in dict.fromkeys(each.how for each in wanted):
        which = [number for number, each in enumerate(wanted) if each.how == how]
        factors = np.array([wanted[number].factors for number in which], kind)
        kinds.append(_Kind(how, which, factors, np.empty((step, len(which), classes), kind)))
    room = np.empty((2, most, step, classes), kind)
    for start in range(0, clips, step):
        part = slice(start, min(start + step, clips))
        count = part.stop - start
        for first in range(0, len(tables), AT_ONCE):
            group = slice(first, first + AT_ONCE)
            own = _stacked(tables[group], part, room[0])
            for each in kinds:
                scores, weights = _to_multiply(own, each.factors[:, group], each.how, room[1])
                total = each.room[:count]
                if first == 0:
                    np.matmul(weights, scores, out=total)
                else:
                    total += np.matmul(weights, scores)
        for each in kinds:
            yield part, each.which, each.room[:count]


def _stacked(tables: Tables, clips: slice, room: FloatArray) -> FloatArray:
    """Some clips of S tables, (S, n, K); copied where they do not lie in one array."""
    if isinstance(tables, np.ndarray) and tables.dtype == room.dtype:
        return tables[:, clips]
    for table, rows in zip(tables, room, strict=False):
        rows[: clips.stop - clips.start] = table[clips]
    return room[: len(tables), : clips.stop - clips.start]


def _to_multiply(
    scores: FloatArray, factors: FloatArray, how: Combine, room: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """For each clip the rows (n, S, K) of scores (S, n, K), and their weights (n, P, S), whose
    product is the sums with factors (P, S).
    """
    count, clips = scores.shape[:2]
    weights: FloatArray = np.broadcast_to(factors, (clips, *factors.shape))
    if how == "probabilities":
        scores, totals = powers(scores, room[:count, :clips])
        weights = weights / totals.T[:, None]
    elif how == "normalised":
        weights = weights / deviations(scores).T[:, None]
    return scores.transpose(1, 0, 2), weights


def powers(scores: FloatArray, room: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Numbers (..., K) and their sums (...,) whose ratio is the softmax of scores (..., K).

    exp(x), which is as exact as exp(x - max(x)) while the sum is neither so large that a weight
    divided by it could lose bits (as numbers below the smallest normal one do) nor so small that a
    share above that number could be lost; else that.
    room: for the numbers, where there is some.
    """
    largest = np.sqrt(np.finfo(scores.dtype).max)
    with np.errstate(over="ignore", invalid="ignore"):
        raised: FloatArray = np.exp(scores, out=room)
        totals: FloatArray = np.einsum("...k->...", raised)
        unsafe = ~((totals >= 0.5) & (totals <= largest))
        if unsafe.any():
            rows = scores[unsafe]
            shifted = np.exp(rows - rows.max(axis=-1, keepdims=True))
            raised[unsafe], totals[unsafe] = shifted, shifted.sum(axis=-1)
    return raised, totals


def deviations(scores: FloatArray) -> FloatArray:
    """The standard deviation of each row of scores (..., K), (...,); 1 where all are equal.

    sqrt(mean(x^2) - mean(x)^2), which is exact enough while the mean is at most three deviations
    from 0; else from the differences to the mean, in double precision.
    """
    classes = scores.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        means: FloatArray = np.einsum("...k->...", scores) / scores.dtype.type(classes)
        squares = np.einsum("...k,...k->...", scores, scores) / scores.dtype.type(classes)
        variances: FloatArray = squares - means * means
        unsafe = ~((variances > means * means / 9) & (variances < np.inf))
    spread: FloatArray = np.sqrt(np.maximum(variances, 0))
    if unsafe.any():
        rows = scores[unsafe]
        equal = rows.min(axis=-1) == rows.max(axis=-1)
        spread[unsafe] = np.where(equal, 1, rows.std(axis=-1, dtype=np.float64))
    return spread
