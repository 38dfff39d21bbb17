"""How the scores of several members become one: sums of logits, of probabilities or of normalised
logits with given weights. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.evaluate import CHUNK, FloatArray, log_softmax
from orchestrator.sweep.presets import Combine
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores


def combine_scores(scores: Iterable[Scores], factors: Sequence[float], how: Combine) -> Scores:
    """One score table from several that hold the same ids, which are taken one after the other.

    logits: sum_i w_i x_i. probabilities: log(sum_i w_i softmax(x_i) / sum_i w_i), again logits:
    their softmax is the mean probability. normalised: sum_i w_i x_i / std(x_i), the standard
    deviation over the classes of a clip, as HD-GCN's script has it (Lee et al. 2023).
    """
    check_factors(factors, how)
    first: Scores | None = None
    total: FloatArray = np.empty(0)
    for each, factor in zip(scores, factors, strict=True):
        term = _term(each.logits, factor, how)
        if first is None:
            first, total = each, term
        else:
            check_same_clips(first, each)
            total += term
    assert first is not None  # check_factors: there is a factor
    if how == "probabilities":
        total = _as_logits(total, factors)
    rows = total.astype(np.float32, copy=False)
    return Scores(ids=first.ids, logits=rows, labels=first.labels)


def _term(rows: FloatArray, factor: float, how: Combine) -> FloatArray:
    """What a table adds to the sum."""
    if how == "probabilities":
        return factor * np.exp(log_softmax(rows))
    term: FloatArray = (rows if how == "logits" else _normalised(rows)) * float(factor)
    return term


def check_same_clips(first: Scores, other: Scores) -> None:
    """UserError where two score tables are not of the same clips."""
    if other.ids != first.ids:
        raise UserError(
            f"members must be scored on the same clips, got {_difference(first.ids, other.ids)}"
        )


def combine_rows(
    rows: Sequence[FloatArray], factors: Sequence[float], how: Combine
) -> npt.NDArray[np.float32]:
    """The sums of `combine_scores` on bare arrays (N, K) whose rows belong together."""
    return weighted_sum(rows, factors, how).astype(np.float32, copy=False)


def weighted_sum(rows: Sequence[FloatArray], factors: Sequence[float], how: Combine) -> FloatArray:
    """The same in the precision of the rows; probabilities in double precision."""
    if len(rows) != len(factors) or not rows:
        raise UserError(f"weights must be one per score table, got {len(factors)} for {len(rows)}")
    if any(each.shape != rows[0].shape for each in rows):
        raise UserError(
            f"score tables must have the same rows and classes, got {[each.shape for each in rows]}"
        )
    check_factors(factors, how)
    kind = np.float64 if how == "probabilities" else np.result_type(*rows)
    total: FloatArray = np.zeros(rows[0].shape, kind)
    for start in range(0, len(total), CHUNK):  # so that the temporary arrays stay in the cache
        part = slice(start, start + CHUNK)
        for each, factor in zip(rows, factors, strict=True):
            total[part] += _term(each[part], factor, how)
        if how == "probabilities":
            total[part] = _as_logits(total[part], factors)
    return total


def _normalised(rows: FloatArray) -> FloatArray:
    """Each row (K,) over its standard deviation; a row of equal scores stays as it is."""
    deviations = rows.std(axis=-1, keepdims=True)
    normalised: FloatArray = rows / np.where(deviations > 0, deviations, 1).astype(rows.dtype)
    return normalised


def _as_logits(total: FloatArray, factors: Sequence[float]) -> FloatArray:
    """Of summed probabilities; those below what float32 holds count as its smallest normal
    number.
    """
    mean: FloatArray = np.log(np.maximum(total / sum(factors), np.finfo(np.float32).tiny))
    return mean


def check_factors(factors: Sequence[float], how: Combine) -> None:
    """UserError where weights cannot be; a negative one could make negative probabilities."""
    if not all(np.isfinite(factors)) or sum(factors) <= 0:
        raise UserError(f"weights must be numbers with a positive sum, got {list(factors)}")
    if how == "probabilities" and min(factors) < 0:
        raise UserError(
            f"weights must not be negative where probabilities are averaged, got {list(factors)}"
        )


def summands(scores: npt.NDArray[np.float32], how: Combine) -> npt.NDArray[np.float32]:
    """What the weights multiply, (..., K), of scores of that shape: the scores themselves, their
    softmax, or themselves over their standard deviation, in single precision.
    """
    if how == "logits":
        return scores
    if how == "normalised":
        return _normalised(scores).astype(np.float32, copy=False)
    powers: npt.NDArray[np.float32] = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _difference(ids: tuple[str, ...], others: tuple[str, ...]) -> str:
    """A short account of how two sets of ids differ."""
    only, extra = sorted(set(ids) - set(others)), sorted(set(others) - set(ids))
    return (
        f"{len(ids)} and {len(others)} clips; {len(only)} only in the first {only[:3]},"
        f" {len(extra)} only in the second {extra[:3]}"
    )
