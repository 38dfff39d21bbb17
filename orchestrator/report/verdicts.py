"""What is to be said of an ensemble beside single networks, in words and with its uncertainty."""

from __future__ import annotations

from orchestrator.ensembling.evaluate import Paired
from orchestrator.ensembling.results import Comparison, FinalEvaluation, Row
from orchestrator.report.tables import percent


def verdicts(evaluation: FinalEvaluation) -> list[str]:
    """What is to be said of the final ensemble, the last one of the sweep file: one line for each
    network it is held against.
    """
    last = [row for row in evaluation.rows if row.kind == "ensemble"][-1:]
    if not last:
        return ["No ensemble was built, so there is nothing to hold against the single networks."]
    return verdicts_of(last[0], evaluation) + _without_dense(last[0], evaluation)


def verdicts_of(row: Row, evaluation: FinalEvaluation) -> list[str]:
    """One line for each network the ensemble is held against; its best member may be the dense
    network, too.
    """
    against: dict[str, list[Comparison]] = {}
    for each in evaluation.comparisons:
        if each.ensemble == row.name:
            against.setdefault(each.against, []).append(each)
    owner = {"best member": "its best member", "dense network": "the dense single network"}
    return [
        _verdict(same[0], ", which is ".join(owner[each.role] for each in same), evaluation)
        for same in against.values()
    ]


def _verdict(found: Comparison, owner: str, evaluation: FinalEvaluation) -> str:
    """One comparison in words, with its uncertainty."""
    rows = {row.name: row for row in evaluation.rows}
    ensemble, other, test = rows[found.ensemble], rows[found.against], found.test
    training = ensemble.size.nonzero_params / other.size.nonzero_params
    deploy = ensemble.size.deploy_nonzero_params / other.size.deploy_nonzero_params
    return (
        f"`{found.ensemble}` ({percent(ensemble.test.top1)} %) against {owner}, `{found.against}`"
        f" ({percent(other.test.top1)} %, chosen on {found.chosen_on}):"
        f" {100 * test.difference:+.2f} points, standard error {100 * test.error:.2f}. Of"
        f" {test.clips} test clips only the ensemble has {test.first_only} right, only the other"
        f" {test.second_only} (sign test p = {test.p_value:.2g}). **The ensemble is"
        f" {_judgement(test)}**, with {training:.2f} times its non-zero parameters in the training"
        f" form and {deploy:.2f} times in the deploy"
        f" form.{_seeds_clause(found)}{_clean_clause(found, ensemble, other)}"
    )


def _seeds_clause(found: Comparison) -> str:
    """What the other seeds say; empty where there are none."""
    gain = found.over_seeds
    if gain is None:
        return ""
    return (
        f" The same ensemble and the same network in {gain.seeds} seeds: {100 * gain.mean:+.2f}"
        f" points on average, standard deviation {100 * gain.std:.2f}."
    )


def _clean_clause(found: Comparison, ensemble: Row, other: Row) -> str:
    """The same comparison without the copies; empty where that makes no difference, or no clip is
    left.
    """
    clean = found.clean
    if clean is None or ensemble.clean is None or other.clean is None:
        return ""
    return (
        f" On the {clean.clips} clips that are no copies, {percent(ensemble.clean.top1)} % against"
        f" {percent(other.clean.top1)} %: {100 * clean.difference:+.2f} points, standard error"
        f" {100 * clean.error:.2f}, only the ensemble has {clean.first_only} right, only the other"
        f" {clean.second_only} (sign test p = {clean.p_value:.2g}); there it is"
        f" {_judgement(clean)}."
    )


def _judgement(found: Paired) -> str:
    """What the sign test allows to be said of the first of the two."""
    if not found.distinguishable:
        return "not distinguishable from it on these clips"
    return "better than it" if found.difference > 0 else "worse than it"


def _without_dense(row: Row, evaluation: FinalEvaluation) -> list[str]:
    known = any(
        each.role == "dense network" for each in evaluation.comparisons if each.ensemble == row.name
    )
    return (
        []
        if known
        else [
            "The sweep trained no dense single network of this kind, so the ensemble is not held"
            " against one."
        ]
    )
