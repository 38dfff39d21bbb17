"""How the scores of several members become one: sums of logits, of probabilities or of normalised
logits with given weights. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.evaluate import IntArray, ranks
from orchestrator.ensembling.sums import FloatArray, Tables, Weights, deviations, pieces, powers
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
        if first is None:
            first, total = each, np.zeros_like(each.logits)
        check_same_clips(first, each)
        for part, _, sums in pieces([each.logits], [Weights([factor], how)]):
            total[part] += sums[:, 0]
    assert first is not None  # check_factors: there is a factor
    if how == "probabilities":
        total = _as_logits(total, factors)
    return Scores(ids=first.ids, logits=total, labels=first.labels)


def check_same_clips(first: Scores, other: Scores) -> None:
    """UserError where two score tables are not of the same clips."""
    if other.ids != first.ids:
        raise UserError(
            f"members must be scored on the same clips, got {_difference(first.ids, other.ids)}"
        )


def combine_rows(rows: Tables, factors: Sequence[float], how: Combine) -> npt.NDArray[np.float32]:
    """The sums of `combine_scores` on bare arrays (N, K) whose rows belong together."""
    return weighted_sum(rows, factors, how).astype(np.float32, copy=False)


def weighted_sum(rows: Tables, factors: Sequence[float], how: Combine) -> FloatArray:
    """The same in the precision of the rows."""
    return weighted_sums(rows, [Weights(factors, how)])[0]


def weighted_sums(rows: Tables, wanted: Sequence[Weights]) -> list[FloatArray]:
    """Several such sums of the same tables (N, K), made together."""
    _check_fit(rows, wanted)
    found = [np.empty(rows[0].shape, np.result_type(np.float32, *rows)) for _ in wanted]
    for part, which, sums in pieces(rows, wanted):
        for place, number in enumerate(which):
            own, each = sums[:, place], wanted[number]
            soft = each.how == "probabilities"
            found[number][part] = _as_logits(own, each.factors) if soft else own
    return found


def ranks_of_sums(rows: Tables, wanted: Sequence[Weights], labels: IntArray) -> IntArray:
    """How many classes stand before the label in each of P sums of the same tables, (P, N): as
    `ranks` of `weighted_sums`, of which no more than a piece is in memory.
    """
    _check_fit(rows, wanted)
    found = np.empty((len(wanted), len(labels)), np.int64)
    for part, which, sums in pieces(rows, wanted):
        own = np.repeat(labels[part], len(which))
        before = ranks(sums.reshape(-1, sums.shape[-1]), own)
        found[which, part] = before.reshape(-1, len(which)).T
    return found


def _check_fit(rows: Tables, wanted: Sequence[Weights]) -> None:
    for factors in (each.factors for each in wanted):
        if len(rows) != len(factors) or not len(rows):
            raise UserError(
                f"weights must be one per score table, got {len(factors)} for {len(rows)}"
            )
    if any(each.shape != rows[0].shape for each in rows):
        raise UserError(
            f"score tables must have the same rows and classes, got {[each.shape for each in rows]}"
        )
    for each in wanted:
        check_factors(each.factors, each.how)


def _as_logits(total: FloatArray, factors: Sequence[float]) -> FloatArray:
    """Of summed probabilities; those below what float32 holds count as its smallest normal
    number.
    """
    mean = total / total.dtype.type(sum(factors))
    logs: FloatArray = np.log(np.maximum(mean, np.finfo(np.float32).tiny, out=mean), out=mean)
    return logs


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
        return (scores / deviations(scores)[..., None]).astype(np.float32, copy=False)
    raised, totals = powers(scores)
    return np.divide(raised, totals[..., None], out=raised).astype(np.float32, copy=False)


def _difference(ids: tuple[str, ...], others: tuple[str, ...]) -> str:
    """A short account of how two sets of ids differ."""
    only, extra = sorted(set(ids) - set(others)), sorted(set(others) - set(ids))
    return (
        f"{len(ids)} and {len(others)} clips; {len(only)} only in the first {only[:3]},"
        f" {len(extra)} only in the second {extra[:3]}"
    )
