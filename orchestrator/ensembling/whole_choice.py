"""The whole choice of a sweep, made again on parts of the selection clips: the trial of every cell,
then the ensembles with their weights.

What is chosen on some clips is evaluated on others, so that the luck of choosing shows. Test scores
and test labels take no part. What was settled before the stored scores is not chosen again: which
epoch of a trial was kept, which trials were stopped early, which are within the constraints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.build import Ensemble, build_ensembles
from orchestrator.ensembling.collect import contenders, member_of
from orchestrator.ensembling.cross_fitting import COPY, FOLDS, folds_of
from orchestrator.ensembling.evaluate import (
    Accuracy,
    BoolArray,
    IntArray,
    accuracy_on_selection,
    log_softmax,
    ranks,
)
from orchestrator.ensembling.members import (
    SWEEP,
    Division,
    Member,
    SeedRun,
    SeedScores,
    by_its_seeds,
)
from orchestrator.ensembling.pools import names_of
from orchestrator.ensembling.statistics.luck import Bags, Luck, first_best, luck, out_of_bag
from orchestrator.record.folder import load_folder
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig, Objective, Sweep

FloatArray = npt.NDArray[np.floating[Any]]
Axes = Mapping[str, Any]

TRIAL_DRAWS = 500
MOST_ENSEMBLE_DRAWS, LEAST_ENSEMBLE_DRAWS = 100, 40
LOGITS_IN_ALL = 400_000_000
"""Of the members in all draws together, about: large sweeps get fewer draws, which are counted."""


@dataclass(frozen=True, eq=False, slots=True)
class Contest:
    """The trials of one cell among which its member was chosen, and what each selection clip says
    of them.
    """

    chosen: Member
    rivals: tuple[Member, ...]  # T of them in the order of their ids, the chosen one among them
    first_tried: Member  # the rival that was proposed first
    hits: BoolArray  # (T, N) of the first seed, which stands for the trial
    keys: tuple[FloatArray, ...]  # what decides, the most important first: (T, N) by clip or (T,)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the selection clips."""
        scores = self.chosen.selection
        return scores.ids if scores is not None else ()

    def winners(self, bags: Bags) -> IntArray:
        """Which rival each bag chooses, (B,)."""
        shape = (len(bags.counts), len(self.rivals))
        return first_best(
            [
                bags.totals(key) if key.ndim == 2 else np.broadcast_to(key, shape)
                for key in self.keys
            ]
        )

    def luck(self, seed: int) -> Luck | None:
        """Of choosing this trial; None where there was nothing to choose, or on nothing."""
        clips = self.hits.shape[1]
        if len(self.rivals) < 2 or clips < 2:
            return None
        bags = Bags.drawn(clips, TRIAL_DRAWS, np.random.default_rng(seed))
        accuracies = out_of_bag(self.hits, self.winners(bags), bags)
        naive = self.hits[self.rivals.index(self.chosen)].mean()
        return luck(len(self.rivals), float(naive), accuracies, clips, seed)


def contests(runs: Sequence[Path], sweep: Sweep, members: Sequence[Member]) -> dict[str, Contest]:
    """By name of a member: the trials that it was chosen from, in its own sweep where there are
    several. Their selection scores are read one after the other, and only what each clip says of
    the objectives is kept.

    A member has no rivals where it was not chosen in these sweeps, or where they were scored on
    other clips.
    """
    found: dict[str, Contest] = {}
    for run, name in zip(runs, names_of(runs), strict=True):
        several = len(runs) > 1
        chooser = load_folder(run) if several else sweep
        candidates = contenders(run, chooser)
        for member in members:
            if several and member.axes[SWEEP] != name:
                continue
            of_cell = [member_of(run, each) for each in candidates.get(member.cell, ())]
            own = [_beside(each, member, f"{name}/" if several else "") for each in of_cell]
            alike = all(_comparable(each, member) for each in own)
            known = alike and member.trial in [each.trial for each in own]
            # the chosen one as it is
            rivals = [member if each.trial == member.trial else each for each in own]
            found[member.name] = _contest(member, rivals if known else [member], chooser.objectives)
    return {
        member.name: found.get(member.name) or _contest(member, [member], sweep.objectives)
        for member in members
    }


def _beside(rival: Member, member: Member, sweep: str) -> Member:
    """The rival in the place of the member: under its name and with its store, which may have
    moved.
    """
    return replace(
        rival,
        name=member.name,
        axes=member.axes,
        trial=f"{sweep}{rival.trial}",
        seeds=tuple(replace(run, trial=f"{sweep}{run.trial}") for run in rival.seeds),
    ).at_store(member.division.store)


def _comparable(rival: Member, member: Member) -> bool:
    """Whether the two were scored on the same clips."""
    tables = [each.selection for each in (rival, member)]
    ids = [None if table is None else table.ids for table in tables]
    return rival.division == member.division and ids[0] == ids[1]


def _contest(
    member: Member, proposed: Sequence[Member], objectives: Sequence[Objective]
) -> Contest:
    rivals = sorted(proposed, key=lambda each: each.trial)
    criteria = [_criteria(each, objectives) for each in rivals]
    return Contest(
        chosen=member,
        rivals=tuple(rivals),
        first_tried=proposed[0],
        hits=np.stack([_hits(each.seeds[0].scores.selection) for each in rivals]),
        keys=tuple(np.stack(each) for each in zip(*criteria, strict=True)),
    )


def _criteria(member: Member, objectives: Sequence[Objective]) -> list[FloatArray]:
    """How good a trial is by each objective, more is better: by clip, (N,), summed over the seeds,
    where selection clips decide; one number where they do not.
    """
    found: list[FloatArray] = []
    for objective in objectives:
        sign = 1.0 if objective.goal == "maximize" else -1.0
        tables = [each.scores.selection for each in member.seeds]
        by_clip = [_by_clip(table, objective.metric) for table in tables if table is not None]
        if by_clip and all(each is not None for each in by_clip):
            found.append(sign * np.sum(np.stack([each for each in by_clip if each is not None]), 0))
            continue
        values = [each.result.metrics().get(objective.metric) for each in member.seeds]
        known = [value for value in values if value is not None]
        total = sign * sum(known) if len(known) == len(values) else -np.inf
        found.append(np.array(total))
    return found


def _by_clip(scores: Scores, metric: str) -> FloatArray | None:
    """What each clip adds to a metric, (N,); None where it is not one of selection clips."""
    assert scores.labels is not None  # selection scores have them
    if metric == "selection_loss":
        own = np.take_along_axis(log_softmax(scores.logits), scores.labels[:, None], axis=1)
        return -own[:, 0]
    most = {"selection_top1": 1, "selection_top5": 5}.get(metric)
    if most is None:
        return None
    return (ranks(scores.logits, scores.labels) < most).astype(np.float32)


def _hits(scores: Scores | None) -> BoolArray:
    if scores is None or scores.labels is None:
        return np.zeros(0, dtype=bool)
    right: BoolArray = ranks(scores.logits, scores.labels) == 0
    return right


@dataclass(frozen=True, eq=False, slots=True)
class WholeChoice:
    """Everything that chooses on selection clips, of the members of one division."""

    contests: Mapping[str, Contest]
    recipes: Sequence[EnsembleConfig]
    cells: Mapping[str, Axes]

    def contenders(self, built: Sequence[Ensemble]) -> dict[str, int]:
        """By name of an ensemble in which something was chosen, weights or one of several trials:
        how many trials of the cells that it could be made of that was from.
        """
        known = {each.name: each for each in built}
        rivals = {
            seed.name: len(contest.rivals)
            for contest in self.contests.values()
            for seed in by_its_seeds(contest.chosen)
        }
        among: dict[str, int] = {}
        for ensemble in built:
            parts = _parts(ensemble, known)
            counts = [rivals[name] for name in parts if name in rivals]
            chose = any(known[name].chosen_on is not None for name in parts if name in known)
            if chose or max(counts, default=1) > 1:
                among[ensemble.name] = sum(counts)
        return among

    def ensembles(
        self, members: Sequence[Member], inside: IntArray, outside: IntArray
    ) -> tuple[Ensemble, ...]:
        """The ensembles chosen on the clips `inside` (some of them repeated); their `test` scores
        are of the clips `outside`.
        """
        ids = next(iter(self.contests.values())).ids
        seen, left = ((_distinct(ids, rows), rows) for rows in (inside, outside))
        parts = [_of_parts(member, seen, left) for member in members]
        return build_ensembles(self.recipes, parts, self.cells).ensembles

    def luck(self, built: Sequence[Ensemble], seed: int) -> dict[str, Luck]:
        """By name of an ensemble: how much of its selection figure is luck, of choosing trials and
        weights together. Nothing is said of one in which nothing was chosen, or that most draws
        could not build.
        """
        clips, classes = self.shape
        contenders = self.contenders(built)
        if clips < 2 or not contenders:
            return {}
        work = LOGITS_IN_ALL // (len(self.contests) * clips * classes)
        draws = min(MOST_ENSEMBLE_DRAWS, max(LEAST_ENSEMBLE_DRAWS, work))
        bags = Bags.drawn(clips, draws, np.random.default_rng(seed))
        accuracies: dict[str, list[float]] = {}
        for outside, ensembles in self._in_turn(bags):
            for each in ensembles:
                hits = ranks(each.test.logits, self.labels[outside]) == 0
                accuracies.setdefault(each.name, []).append(float(hits.mean()))
        selections = {each.name: each.selection for each in built}
        return {
            name: luck(count, float(_hits(selections[name]).mean()), np.array(known), clips, seed)
            for name, count in contenders.items()
            if len(known := accuracies.get(name, [])) > len(bags.counts) / 2
        }

    def cross_fitted(self, built: Sequence[Ensemble], seed: int) -> dict[str, Accuracy]:
        """By name of an ensemble: its accuracy on the selection clips, a fifth of which are scored
        with what was chosen, trials and weights, on the other four at a time; nothing is said of
        one in which nothing was chosen, or that one of them could not build. It has no interval:
        the folds share what they choose on, so that one for independent clips covers too little
        (about 90 % in planted cases).
        """
        clips, _ = self.shape
        chosen = [each for each in built if each.name in self.contenders(built)]
        if clips < FOLDS or not chosen:
            return {}
        fold = folds_of(self.labels, FOLDS, seed)
        rows: dict[str, list[tuple[IntArray, FloatArray]]] = {}
        bags = Bags((fold != np.arange(FOLDS)[:, None]).astype(np.float32))
        for outside, ensembles in self._in_turn(bags):
            for each in ensembles:
                rows.setdefault(each.name, []).append((outside, each.test.logits))
        found: dict[str, Accuracy] = {}
        for each in chosen:
            parts = rows.get(each.name, [])
            if len(parts) == FOLDS:
                order = np.concatenate([outside for outside, _ in parts])
                logits = np.concatenate([own for _, own in parts])
                found[each.name] = accuracy_on_selection(
                    logits, self.labels[order], logits=each.has_probabilities
                )
        return found

    @property
    def labels(self) -> IntArray:
        """Of the selection clips."""
        scores = self._scores
        return scores.labels if scores and scores.labels is not None else np.zeros(0, np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """Selection clips and classes."""
        return self._scores.logits.shape if self._scores else (0, 0)

    @property
    def _scores(self) -> Scores | None:
        return next(iter(self.contests.values())).chosen.selection

    def _in_turn(self, bags: Bags) -> Iterator[tuple[IntArray, tuple[Ensemble, ...]]]:
        """Of each bag the clips that it lacks and the ensembles it chooses, none where a
        strategy's answer is no weights.
        """
        for bag, members in enumerate(self._members(bags)):
            outside = bags.outside(bag)
            try:
                chosen = self.ensembles(members, bags.inside(bag), outside)
            except UserError:
                continue
            yield outside, chosen

    def _members(self, bags: Bags) -> Iterator[list[Member]]:
        """The members that each bag chooses."""
        winners = {name: each.winners(bags) for name, each in self.contests.items()}
        for bag in range(len(bags.counts)):
            yield [each.rivals[winners[name][bag]] for name, each in self.contests.items()]


def _parts(ensemble: Ensemble, known: Mapping[str, Ensemble]) -> set[str]:
    """The ensemble and whatever its choice was from: its sources, where it chose their weights also
    those that got none, and what these are made of.
    """
    names = {*ensemble.weights, *(ensemble.left_out if ensemble.chosen_on is not None else ())}
    return {ensemble.name, *names}.union(
        *(_parts(known[name], known) for name in names if name in known)
    )


Part = tuple[tuple[str, ...], IntArray]  # names of rows, and which rows of a table they are


def _distinct(ids: tuple[str, ...], rows: IntArray) -> tuple[str, ...]:
    """A name for each of the rows (which rise), sorted: a clip's own, and one that follows it
    before any other clip's where the clip is repeated.
    """
    times = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return tuple(
        f"{ids[row]}{COPY}{time:04d}" if time else ids[row]
        for row, time in zip(rows.tolist(), times.tolist(), strict=True)
    )


def _of_parts(member: Member, selection: Part, test: Part) -> Member:
    """The member as if `selection` were all selection clips and `test`, other selection clips, the
    test split.
    """

    def of(run: SeedRun) -> SeedRun:
        scores = SeedScores(
            partial(_rows, run.scores, *selection, labelled=True),
            partial(_rows, run.scores, *test, labelled=False),
        )
        return replace(run, scores=scores, levels={})

    return replace(member, seeds=tuple(map(of, member.seeds)))


def _rows(scores: SeedScores, ids: tuple[str, ...], rows: IntArray, *, labelled: bool) -> Scores:
    table = scores.selection
    assert table is not None
    labels = table.labels[rows] if labelled and table.labels is not None else None
    return Scores(ids, table.logits[rows], labels)


@dataclass(frozen=True, eq=False, slots=True)
class Choices:
    """What is known of how the members and ensembles of a sweep were chosen, by their names."""

    contests: Mapping[str, Contest]
    # of those that were chosen, and on clips that were held out
    lucks: Mapping[str, Luck]
    cross_fitted: Mapping[str, Accuracy]  # of ensembles

    def of(self, name: str) -> dict[str, Luck | Accuracy | None]:
        """The fields of a row."""
        return {"luck": self.lucks.get(name), "cross_fitted": self.cross_fitted.get(name)}


def choices_of(
    runs: Sequence[Path],
    sweep: Sweep,
    members: Sequence[Member],
    built: Sequence[Ensemble],
    cells: Mapping[str, Axes],
    seed: int,
) -> Choices:
    """Make the choice of every member and ensemble again; `cells` holds the axes of all cells."""
    found = contests(runs, sweep, members)
    lucks = {name: own for name, each in found.items() if (own := each.luck(seed)) is not None}
    fitted: dict[str, Accuracy] = {}
    divisions: dict[Division, dict[str, Contest]] = {}
    for name, each in found.items():
        divisions.setdefault(each.chosen.division, {})[name] = each
    for division, contested in divisions.items():
        ensembles = [each for each in built if each.division == division]
        if division.held_out and ensembles:
            whole = WholeChoice(contested, sweep.ensembles, cells)
            lucks |= whole.luck(ensembles, seed)
            fitted |= whole.cross_fitted(ensembles, seed)
    return Choices(found, lucks, fitted)
