"""What the papers' way of choosing would have said: trials and weights chosen by their accuracy on
the test clips themselves. Only where it is asked for, and never beside what was chosen honestly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.ensembling.build import Ensemble, build_ensembles
from orchestrator.ensembling.evaluate import IntArray, accuracy
from orchestrator.ensembling.members import Division, Member, SeedRun, SeedScores
from orchestrator.ensembling.results import ChosenOnTest
from orchestrator.ensembling.rows import hits_of
from orchestrator.ensembling.sealed import TestLabels
from orchestrator.ensembling.whole_choice import Contest
from trainables.contract.scores import Scores

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig


def chosen_on_test(
    contests: Mapping[str, Contest],
    recipes: Sequence[EnsembleConfig],
    cells: Mapping[str, Mapping[str, Any]],
    truth: Mapping[Division, TestLabels],
) -> tuple[ChosenOnTest, ...]:
    """Of every cell the trial of highest test top-1 (mean over seeds; of equal ones the first id),
    and every recipe with what its strategy chooses of these on the test clips.
    """
    members = [
        _seen(max(each.rivals, key=partial(_on_test, labels=labels)), labels)
        for each in contests.values()
        for labels in [truth[each.chosen.division].labels]
    ]
    ensembles = build_ensembles(recipes, members, cells).ensembles
    entries: list[Member | Ensemble] = [*members, *ensembles]
    return tuple(_row(each, truth[each.division].labels) for each in entries)


def _on_test(member: Member, labels: IntArray) -> float:
    hits = [hits_of(run.scores.test, labels).sum() for run in member.seeds]
    return float(sum(hits))


def _seen(member: Member, labels: IntArray) -> Member:
    """The member with its test scores in the place of its selection scores."""

    def of(run: SeedRun) -> SeedRun:
        def labelled() -> Scores:
            test = run.scores.test
            return Scores(test.ids, test.logits, labels)

        return replace(run, scores=SeedScores(labelled, lambda: run.scores.test), levels={})

    return replace(member, seeds=tuple(map(of, member.seeds)))


def _row(entry: Member | Ensemble, labels: IntArray) -> ChosenOnTest:
    ensemble = entry if isinstance(entry, Ensemble) else None
    networks = ensemble.members if ensemble else (entry,)
    logits = ensemble.has_probabilities if ensemble else True
    return ChosenOnTest(
        name=entry.name,
        kind="ensemble" if ensemble else "member",
        trials=tuple(each.trial for each in networks if isinstance(each, Member)),
        weights=dict(ensemble.weights) if ensemble else {},
        test=accuracy(entry.test.logits, labels, logits=logits),
    )
