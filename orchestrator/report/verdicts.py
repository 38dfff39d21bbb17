"""What is to be said of an ensemble beside single networks, in words and with its uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.ensembling.evaluate import Paired
from orchestrator.ensembling.results import Comparison, FinalEvaluation, Role, Row
from orchestrator.report.tables import percent

MOST_SHORT = 12  # ensembles beside the last one that get a line
MOST_TIED = 6  # networks that are equally good are named, the others counted


def verdicts(evaluation: FinalEvaluation) -> list[str]:
    """What is to be said of the final ensemble, the last one of the sweep file: one line for each
    network it is held against, then a short one for each other ensemble of the same recipe.
    """
    ensembles = [row for row in evaluation.rows if row.kind == "ensemble"]
    if not ensembles:
        return ["No ensemble was built, so there is nothing to hold against the single networks."]
    last = ensembles[-1]
    lines = verdicts_of(last, evaluation) + _without_dense(last, evaluation)
    siblings = [row for row in ensembles[:-1] if _recipe(row) == _recipe(last)]
    lines += [short for row in siblings[:MOST_SHORT] if (short := _short(row, evaluation))]
    if len(siblings) > MOST_SHORT:
        lines.append(
            f"{len(siblings) - MOST_SHORT} more ensembles of this recipe are in the table."
        )
    return [*lines, *filter(None, [evaluation.shipping])]


def _recipe(row: Row) -> tuple[object, ...]:
    """What the ensembles of one entry of the sweep file have in common: several are made only
    where `per` tells them apart, and their names begin alike.
    """
    return row.name.split(".")[0], row.method, row.combine, frozenset(row.axes)


def _short(row: Row, evaluation: FinalEvaluation) -> str:
    """The ensemble against one network of each role, without how the figures come about."""
    if alone := _alone(row, evaluation):
        return f"`{row.name}` is `{alone}` alone."
    own = [each for each in evaluation.comparisons if each.ensemble == row.name]
    accuracies = {each.name: percent(each.test.top1) for each in evaluation.rows}
    owners: dict[str, list[str]] = {}
    for role in dict.fromkeys(each.role for each in own):
        first = next(each for each in own if each.role == role)
        owners.setdefault(first.against, []).append(OWNERS[role])
    parts = []
    for against, names in owners.items():
        found = next(each for each in own if each.against == against)
        equals = f", one of {len(found.tied)} equally good ones" if found.tied else ""
        parts.append(
            f"against {', which is '.join(names)}, `{against}` ({accuracies[against]} %{equals}):"
            f" {100 * found.test.difference:+.2f} points{_interval_clause(found)}, it is"
            f" {judgement(found.test)}{decided_by(found.test)}"
        )
    return f"`{row.name}` ({accuracies[row.name]} %) {'; '.join(parts)}." if parts else ""


def _alone(row: Row, evaluation: FinalEvaluation) -> str:
    """The only network of an ensemble; empty where it has several."""
    if len(row.trials) > 1:
        return ""
    return next(
        (
            each.name
            for each in evaluation.rows
            if each.kind == "member" and each.trials == row.trials
        ),
        "",
    )


def verdicts_of(row: Row, evaluation: FinalEvaluation) -> list[str]:
    """One line for each network the ensemble is held against; its best member may be the dense
    network, too. Networks that are equally good where they are chosen share a line.
    """
    alone = _alone(row, evaluation)
    own = [
        each
        for each in evaluation.comparisons
        if each.ensemble == row.name and each.against != alone
    ]
    lines = [f"`{row.name}` is `{alone}` alone: no other network was given weight."] * bool(alone)
    counts = Counter(each.role for each in own)
    for role in counts:
        same = [each for each in own if each.role == role]
        if len(same) > 1:
            networks = {each.against for each in same}
            alike = [
                each for each in counts if {c.against for c in own if c.role == each} == networks
            ]
            if role == alike[0]:
                names = ", which is ".join(OWNERS[each] for each in alike)
                lines.append(_tie(same, names, evaluation))
            continue
        # of equally good networks one may be the only one left, the others being the ensemble
        roles = [each.role for each in own if each.against == same[0].against]
        roles = [each for each in roles if counts[each] == 1]
        if role == roles[0]:  # else the line of its other role says it
            names = ", which is ".join(OWNERS[each] for each in roles)
            lines.append(_verdict(same[0], names, evaluation))
    return lines


OWNERS: dict[Role, str] = {
    "best member": "its best member",
    "dense network": "the dense single network",
}


def _tie(same: Sequence[Comparison], owner: str, evaluation: FinalEvaluation) -> str:
    """The ensemble against several networks of which none is better than the others where they are
    chosen: against each, and what holds for all of them.
    """
    rows, first = {row.name: row for row in evaluation.rows}, same[0]
    ensemble, chosen = rows[first.ensemble], rows[first.against]
    found = chosen.selection if first.chosen_on == "selection" else chosen.test
    known = "" if found is None else f" ({percent(found.top1)} %)"
    singles = [
        f"`{each.against}` ({percent(rows[each.against].test.top1)} %)"
        f" {100 * each.test.difference:+.2f} points, standard error {100 * each.test.error:.2f},"
        f" sign test p = {each.test.p_value:.2g}"
        for each in same[:MOST_TIED]
    ]
    if len(same) > MOST_TIED:
        singles.append(f"{len(same) - MOST_TIED} more in tables/comparisons.csv")
    kinds: dict[str, list[Comparison]] = {}
    for each in same:
        kinds.setdefault(judgement(each.test), []).append(each)
    summary = ", ".join(
        judgement(alike[0].test, "each of them" if len(kinds) == 1 else _named(alike))
        for alike in kinds.values()
    )
    return (
        f"`{first.ensemble}` ({percent(ensemble.test.top1)} %) against {owner}:"
        f" {len(same)} networks are equally good on {first.chosen_on}{known}, so none of them is"
        f" the best. Against {'; '.join(singles)}. **The ensemble is {summary}**."
    )


def _named(alike: Sequence[Comparison]) -> str:
    """The networks by name, where they are few."""
    names = [f"`{each.against}`" for each in alike]
    if len(names) > MOST_TIED:
        return f"{len(names)} of them"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _verdict(found: Comparison, owner: str, evaluation: FinalEvaluation) -> str:
    """One comparison in words, with its uncertainty."""
    rows = {row.name: row for row in evaluation.rows}
    ensemble, other, test = rows[found.ensemble], rows[found.against], found.test
    training = ensemble.size.nonzero_params / other.size.nonzero_params
    deploy = ensemble.size.deploy_nonzero_params / other.size.deploy_nonzero_params
    return (
        f"`{found.ensemble}` ({percent(ensemble.test.top1)} %) against {owner}, `{found.against}`"
        f" ({percent(other.test.top1)} %, chosen on {found.chosen_on}):"
        f" {100 * test.difference:+.2f} points, standard error"
        f" {100 * test.error:.2f}{_interval_clause(found)}. **The ensemble is"
        f" {judgement(test)}**{decided_by(test)}, with {deploy:.2f} times its non-zero parameters"
        f" in the deploy form and {training:.2f} times in the training form. Of {test.clips} test"
        f" clips only the ensemble has {test.first_only} right, only the other"
        f" {test.second_only}.{_seeds_clause(found)}{_clean_clause(found, ensemble, other)}"
    )


def _interval_clause(found: Comparison) -> str:
    """The bootstrap interval of the difference; empty where they differ on no clip, and in
    evaluations of version 5.
    """
    if found.bootstrap is None or found.bootstrap.clips is None:
        return ""
    low, high = found.bootstrap.clips
    return f", 95 % interval {100 * low:+.2f} to {100 * high:+.2f}"


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
        f" {judgement(clean)}."
    )


def judgement(found: Paired, other: str = "it") -> str:
    """What the sign test allows to be said of the first of the two."""
    if not found.distinguishable:
        return f"not distinguishable from {other} on these clips"
    return f"{'better' if found.difference > 0 else 'worse'} than {other}"


def decided_by(found: Paired) -> str:
    """What the judgement rests on, as an interval beside it may look otherwise."""
    return f" by the sign test (p = {found.p_value:.2g})"


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
