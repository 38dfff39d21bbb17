"""Ensembles held against single networks, clip by clip on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import numpy as np

from orchestrator.ensembling.build import Ensemble
from orchestrator.ensembling.evaluate import BoolArray, paired
from orchestrator.ensembling.members import Division, Member, dense_counterparts
from orchestrator.ensembling.results import Comparison, FirstTried, Role, Row, SeedGain
from orchestrator.ensembling.rows import SEED, hits_of
from orchestrator.ensembling.sealed import TestLabels
from orchestrator.ensembling.statistics.intervals import bootstrap
from orchestrator.ensembling.whole_choice import Contest

Truth = Mapping[Division, TestLabels]


def comparisons_of(
    ensemble: Ensemble,
    members: Sequence[Member],
    rows: Mapping[str, Row],
    hits: Mapping[str, BoolArray],
    truth: Truth,
) -> list[Comparison]:
    """The ensemble against its best member and against the best dense network, both chosen on the
    selection split where there is one; against each of them where several are equally good there.
    A dense network among its own members, another seed of one, is as good an opponent as any.
    """

    def skill(member: Member) -> float:
        row = rows[member.name]
        return row.selection.top1 if row.selection is not None else row.test.top1

    known = {member.name: member for member in (*members, *ensemble.members)}
    opponents: dict[Role, Sequence[Member]] = {
        "best member": ensemble.members,
        "dense network": dense_counterparts(ensemble.axes, ensemble.division, known.values()),
    }
    found: list[Comparison] = []
    for role, networks in opponents.items():
        top = max(map(skill, networks), default=0.0)
        best = [network for network in networks if skill(network) == top]
        tied = tuple(network.name for network in best) if len(best) > 1 else ()
        for network in best:
            comparison = _comparison(ensemble, network, role, hits, truth[ensemble.division])
            found.append(comparison.model_copy(update={"tied": tied}))
    return found


def _comparison(
    ensemble: Ensemble,
    network: Member,
    role: Role,
    hits: Mapping[str, BoolArray],
    truth: TestLabels,
) -> Comparison:
    first, second, part = hits[ensemble.name], hits[network.name], truth.clean_part
    return Comparison(
        ensemble=ensemble.name,
        against=network.name,
        role=role,
        chosen_on="selection" if ensemble.division.held_out else "test",
        test=paired(first, second),
        clean=None if part is None else paired(first[part], second[part]),
        over_seeds=_gain(ensemble, network, truth),
        bootstrap=bootstrap(first.astype(np.int64) - second, truth.subjects, SEED),
    )


def against_first(contest: Contest, truth: TestLabels) -> FirstTried | None:
    """The chosen trial of a cell against the first one; None where there was no other, or nothing
    to choose on.
    """
    chosen, first = contest.chosen, contest.first_tried
    if len(contest.rivals) < 2 or not chosen.division.held_out:
        return None
    ours, theirs = (
        [hits_of(run.scores.test, truth.labels) for run in each.seeds] for each in (chosen, first)
    )
    return FirstTried(
        cell=chosen.cell,
        contenders=len(contest.rivals),
        first=first.trial,
        chosen=chosen.trial,
        first_top1=float(np.mean(theirs)),
        chosen_top1=float(np.mean(ours)),
        test=None if first.trial == chosen.trial else paired(ours[0], theirs[0]),
    )


def _gain(ensemble: Ensemble, network: Member, truth: TestLabels) -> SeedGain | None:
    """The ensemble against the network in the seeds that both have; None with fewer than two."""
    ours, theirs = ensemble.by_seed, network.by_seed
    differences = [
        float(
            hits_of(ours[seed].test, truth.labels).mean()
            - hits_of(theirs[seed].test, truth.labels).mean()
        )
        for seed in ours
        if seed in theirs
    ]
    return (
        SeedGain(seeds=len(differences), mean=fmean(differences), std=stdev(differences))
        if len(differences) > 1
        else None
    )
