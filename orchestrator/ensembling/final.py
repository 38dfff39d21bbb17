"""The last stage of a sweep: ensembles built on the selection split, then every member and ensemble
evaluated on the test split, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.build import Built, Ensemble, build_ensembles
from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.evaluate import Accuracy, BoolArray, accuracy, paired, ranks
from orchestrator.ensembling.members import (
    Division,
    Member,
    SeedRun,
    SeedScores,
    dense_counterparts,
)
from orchestrator.ensembling.results import (
    VERSION,
    Comparison,
    FinalEvaluation,
    LevelRow,
    Role,
    Row,
    SeedGain,
    SeedSpread,
    Size,
    TestSplit,
    predictions_file,
)
from orchestrator.ensembling.sealed import (
    TestLabels,
    read_test_labels,
    unchanged,
)
from orchestrator.record.folder import store_digest
from orchestrator.record.journal import Journal
from orchestrator.record.proposals import load_proposals
from trainables.contract.disk import write_json
from trainables.contract.scores import Scores

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

Entry = Member | Ensemble
Truth = Mapping[Division, TestLabels]


def finalize(
    run: Path, sweep: Sweep, members: Sequence[Member], missing: Mapping[str, str]
) -> FinalEvaluation:
    """Build the ensembles, read the test labels, evaluate, write `ensembles/` and `evaluation.json`
    (last).

    missing: cells without a member and why. The same members, recipes and stores are evaluated
    once: a second call returns what is on disk and leaves the test labels alone, also where a cell
    without a member has another reason by now or a network was timed again. Without any member
    nothing is read either.
    """
    inputs = _digest(sweep, members)
    known = FinalEvaluation.load(run)
    if (
        known is not None
        and known.inputs == inputs
        and known.missing.keys() == missing.keys()
        and unchanged(known.stores)
    ):
        now = _timed_again(known, members).model_copy(update={"missing": dict(missing)})
        if now != known:
            now.save(run)
        return now
    cells = {proposal.cell: proposal.axes for proposal in load_proposals(run)}
    built = build_ensembles(sweep.ensembles, members, cells)
    journal = Journal(run / "journal.jsonl")
    for ensemble in built.ensembles:
        _save(run, ensemble)
        journal.append(
            "ensemble_built",
            ensemble=ensemble.name,
            members=[member.trial for member in ensemble.members],
        )
    truth = (
        read_test_labels(
            {each.division: each.test.ids for each in members}, journal, "final evaluation"
        )
        if members
        else {}
    )
    evaluation = _evaluate(inputs, members, built, truth, missing)
    for row in evaluation.rows:
        if row.kind == "ensemble":
            write_json(_folder(run, row.name) / "result.json", row.model_dump(mode="json"))
    _save_predictions(run, [*members, *built.others, *built.ensembles], truth)
    evaluation.save(run)
    return evaluation


def _save_predictions(run: Path, entries: Sequence[Entry], truth: Truth) -> None:
    """What every entry says of each test clip, a table for each division."""
    for number, (division, labels) in enumerate(truth.items()):
        own = [entry for entry in entries if entry.division == division]
        firsts = {entry.name: entry.test.logits.argmax(axis=1) for entry in own}
        Predictions(own[0].test.ids, labels.labels, labels.classes, firsts).save(
            predictions_file(run, number)
        )


def _digest(sweep: Sweep, members: Sequence[Member]) -> str:
    """Names what the evaluation depends on: its version, the recipes and what the trials of all
    seeds say, however they came to say it.
    """
    recipes = [recipe.model_dump(mode="json") for recipe in sweep.ensembles]
    trials = [[member.cell, *(_named(run) for run in member.seeds)] for member in members]
    return hashlib.sha256(
        json.dumps([VERSION, recipes, trials], sort_keys=True).encode()
    ).hexdigest()[:16]


def _named(run: SeedRun) -> list[str]:
    """The trial and a digest of its scores: a trial that was trained again is another one."""
    return [
        run.trial,
        *(
            hashlib.sha256(each.test.logits.tobytes()).hexdigest()[:16]
            for each in (run.scores, *run.levels.values())
        ),
    ]


def _folder(run: Path, name: str) -> Path:
    return run / "ensembles" / name


def _save(run: Path, ensemble: Ensemble) -> None:
    """What can be known without test labels."""
    folder = _folder(run, ensemble.name)
    write_json(
        folder / "members.json",
        {
            "members": [
                {"trial": member.trial, "cell": member.cell, "axes": dict(member.axes)}
                for member in ensemble.members
            ],
            "missing": list(ensemble.missing),
            "left_out": list(ensemble.left_out),
        },
    )
    write_json(
        folder / "weights.json",
        {
            "method": ensemble.method,
            "combine": ensemble.combine,
            "weights": ensemble.weights,
            **({"temperatures": ensemble.temperatures} if ensemble.temperatures else {}),
        },
    )
    ensemble.test.save(folder / "scores.parquet")


def _evaluate(
    inputs: str, members: Sequence[Member], built: Built, truth: Truth, missing: Mapping[str, str]
) -> FinalEvaluation:
    """Pure: entries and labels in, everything the report says about accuracy out."""
    entries: list[Entry] = [*members, *built.others, *built.ensembles]
    hits = {each.name: _hits(each.test, truth[each.division].labels) for each in entries}
    rows = tuple(
        _row(each, dense_counterparts(each.axes, each.division, members), truth[each.division])
        for each in entries
    )
    by_name = {row.name: row for row in rows}
    return FinalEvaluation(
        inputs=inputs,
        stores={division.store: store_digest(division.store) or "" for division in truth},
        splits=tuple(_split(division, labels, members) for division, labels in truth.items()),
        rows=rows,
        comparisons=tuple(
            each
            for ensemble in built.ensembles
            for each in _comparisons(ensemble, members, by_name, hits, truth)
        ),
        missing=dict(missing),
        skipped=built.skipped,
    )


def _split(division: Division, labels: TestLabels, members: Sequence[Member]) -> TestSplit:
    own = [member for member in members if member.division == division]
    selection = own[0].selection
    noted = [member.result.store_checksums for member in own]
    return TestSplit(
        division=division,
        dataset=labels.dataset,
        classes=len(labels.classes),
        selection_clips=len(selection.ids) if selection else 0,
        test_clips=len(labels.labels),
        clean_clips=int(labels.clean.sum()),
        clean_classes=len(np.unique(labels.labels[labels.clean])),
        same_store=all(each == labels.checksums for each in noted) if all(noted) else None,
    )


def _row(entry: Entry, dense: Sequence[Member], truth: TestLabels) -> Row:
    """One line of the results."""
    networks = entry.members if isinstance(entry, Ensemble) else (entry,)
    logits = entry.has_probabilities if isinstance(entry, Ensemble) else True
    size = _size(networks)
    # a masked network has as many parameters as a dense one, zeros included; one of several levels
    # says nothing of it
    single = dense or [
        network for network in networks if network.config.sparsity.network == "single"
    ]
    dense_params = max((network.result.cost.params for network in single), default=None)
    common: dict[str, Any] = {
        "name": entry.name,
        "axes": dict(entry.axes),
        "division": entry.division,
        "trials": tuple(network.trial for network in networks),
        "selection": _on_selection(entry.selection, logits),
        "test": accuracy(entry.test.logits, truth.labels, logits=logits),
        "clean": _clean(entry.test, truth, logits),
        "size": size,
        "share_of_dense": size.nonzero_params / dense_params if dense_params else None,
        "seeds": _spread(list(entry.by_seed.values()), truth),
    }
    if isinstance(entry, Member):
        return Row(kind="member", dense=entry.dense, levels=_level_rows(entry, truth), **common)
    return Row(
        kind="ensemble",
        dense=False,
        weights=entry.weights,
        temperatures=entry.temperatures,
        method=entry.method,
        combine=entry.combine,
        budget=dict(entry.limits),
        missing=entry.missing,
        left_out=entry.left_out,
        **common,
    )


def _on_selection(scores: Scores | None, logits: bool = True) -> Accuracy | None:
    return (
        None
        if scores is None or scores.labels is None
        else accuracy(scores.logits, scores.labels, logits=logits)
    )


def _clean(test: Scores, truth: TestLabels, logits: bool = True) -> Accuracy | None:
    """Accuracy on the test clips without a copy; None when all clips are such, or none is."""
    part = truth.clean_part
    return None if part is None else accuracy(test.logits[part], truth.labels[part], logits=logits)


def _size(networks: Sequence[Member]) -> Size:
    costs = [network.result.cost for network in networks]
    return Size(
        params=sum(cost.params for cost in costs),
        nonzero_params=sum(cost.nonzero_params for cost in costs),
        deploy_params=sum(cost.deploy_params for cost in costs),
        deploy_nonzero_params=sum(cost.deploy_nonzero_params for cost in costs),
        deploy_gmacs=sum(cost.deploy_gmacs for cost in costs),
        peak_mb=max(cost.deploy_peak_mb for cost in costs),
        latency_ms=_total([cost.deploy_latency_ms for cost in costs]),
        batch64_latency_ms=_total([cost.deploy_batch64_latency_ms for cost in costs]),
        latency_device=_words(cost.latency_device for cost in costs),
        latency_threads=max(cost.latency_threads or 0 for cost in costs) or None,
        latency_measured=_words(cost.latency_measured for cost in costs),
    )


def _timed_again(known: FinalEvaluation, members: Sequence[Member]) -> FinalEvaluation:
    """The evaluation of these members with what their latencies are by now."""
    networks = {member.trial: member for member in members}
    rows = [
        row.model_copy(
            update={
                "size": _size([networks[trial] for trial in row.trials])
                if networks.keys() >= set(row.trials)
                else row.size
            }
        )
        for row in known.rows
    ]
    return known.model_copy(update={"rows": tuple(rows)})


def _total(figures: Sequence[float | None]) -> float | None:
    """Their sum; None where one of them was not measured."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def _words(each: Iterable[str | None]) -> str | None:
    """Every different one; None without any."""
    return ", ".join(sorted({word for word in each if word is not None})) or None


def _level_rows(member: Member, truth: TestLabels) -> tuple[LevelRow, ...]:
    """Each level by itself, of the first seed and over all that have scores of it."""
    return tuple(
        LevelRow(
            level=level,
            selection=_on_selection(scores.selection),
            test=accuracy(scores.test.logits, truth.labels, logits=True),
            clean=_clean(scores.test, truth),
            seeds=_spread(
                [run.levels[level] for run in member.seeds if level in run.levels], truth
            ),
        )
        for level, scores in member.seeds[0].levels.items()
    )


def _spread(by_seed: Sequence[SeedScores], truth: TestLabels) -> SeedSpread | None:
    """Mean and standard deviation over the seeds; None with a single one."""
    if len(by_seed) < 2:
        return None
    hits = [_hits(each.test, truth.labels) for each in by_seed]
    tests = [float(each.mean()) for each in hits]
    part = truth.clean_part
    clean = None if part is None else [float(each[part].mean()) for each in hits]
    held = [each.selection for each in by_seed if each.selection is not None]
    selections = [
        float(_hits(each, each.labels).mean()) for each in held if each.labels is not None
    ]
    complete = len(selections) == len(by_seed)
    return SeedSpread(
        seeds=len(by_seed),
        selection_mean=fmean(selections) if complete else None,
        selection_std=stdev(selections) if complete else None,
        test_mean=fmean(tests),
        test_std=stdev(tests),
        clean_mean=fmean(clean) if clean else None,
        clean_std=stdev(clean) if clean else None,
    )


def _hits(scores: Scores, labels: npt.NDArray[np.int64]) -> BoolArray:
    """(N,): whether the first choice is right."""
    right: BoolArray = ranks(scores.logits, labels) == 0
    return right


def _comparisons(
    ensemble: Ensemble,
    members: Sequence[Member],
    rows: Mapping[str, Row],
    hits: Mapping[str, BoolArray],
    truth: Truth,
) -> list[Comparison]:
    """The ensemble against its best member and against the best dense network, both chosen on the
    selection split where there is one; against each of them where several are equally good there.
    """

    def skill(member: Member) -> float:
        row = rows[member.name]
        return row.selection.top1 if row.selection is not None else row.test.top1

    opponents: dict[Role, Sequence[Member]] = {
        "best member": ensemble.members,
        "dense network": dense_counterparts(ensemble.axes, ensemble.division, members),
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
    )


def _gain(ensemble: Ensemble, network: Member, truth: TestLabels) -> SeedGain | None:
    """The ensemble against the network in the seeds that both have; None with fewer than two."""
    ours, theirs = ensemble.by_seed, network.by_seed
    differences = [
        float(
            _hits(ours[seed].test, truth.labels).mean()
            - _hits(theirs[seed].test, truth.labels).mean()
        )
        for seed in ours
        if seed in theirs
    ]
    return (
        SeedGain(seeds=len(differences), mean=fmean(differences), std=stdev(differences))
        if len(differences) > 1
        else None
    )
