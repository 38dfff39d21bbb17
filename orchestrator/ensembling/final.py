"""The last stage of a sweep: ensembles built on the selection split, then every member and ensemble
evaluated on the test split, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from orchestrator.ensembling.budgets import Measure
from orchestrator.ensembling.build import Built, Ensemble, build_ensembles
from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.collect import contenders
from orchestrator.ensembling.comparisons import Truth, against_first, comparisons_of
from orchestrator.ensembling.evaluate import BoolArray
from orchestrator.ensembling.fronts import front_point, fronts_of, still_hold
from orchestrator.ensembling.members import Division, Member, SeedRun, dense_counterparts
from orchestrator.ensembling.paper_style import chosen_on_test
from orchestrator.ensembling.pools import Pool
from orchestrator.ensembling.results import (
    VERSION,
    FinalEvaluation,
    FirstTried,
    FrontPoint,
    Row,
    TestSplit,
    predictions_file,
)
from orchestrator.ensembling.rows import (
    SEED,
    Entry,
    evaluated_row,
    hits_of,
    size_of,
)
from orchestrator.ensembling.sealed import SealedTest, TestLabels, checked_test, unchanged
from orchestrator.ensembling.shipping import in_shipping_order
from orchestrator.ensembling.whole_choice import Choices, Contest, choices_of
from orchestrator.record.commands import command
from orchestrator.record.folder import load_folder, store_digest
from orchestrator.record.journal import Journal
from orchestrator.record.proposals import load_proposals
from trainables.contract.addresses import is_address
from trainables.contract.artifacts import LATENCIES
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError
from trainables.contract.frozen import without_defaults

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

FILES = ("members.json", "weights.json", "scores.parquet", "result.json")
"""Of an ensemble."""


def finalize(
    run: Path,
    sweep: Sweep,
    members: Sequence[Member],
    missing: Mapping[str, str],
    *,
    paper_style: bool = False,
) -> FinalEvaluation:
    """The final evaluation of a sweep, in its folder; see `evaluate`. missing: cells without a
    member and why.
    """
    cells = {proposal.cell: proposal.axes for proposal in load_proposals(run)}
    pool = Pool(tuple(members), cells, dict(missing), (run,))
    purpose = f"final evaluation{', paper style' if paper_style else ''}"
    return evaluate(run, sweep, pool, purpose, paper_style=paper_style)


def evaluate(
    out: Path, sweep: Sweep, pool: Pool, purpose: str, *, paper_style: bool = False
) -> FinalEvaluation:
    """Build the sweep's ensembles of the pool's networks, read the test labels, evaluate, write
    `ensembles/` and `evaluation.json` (last) into the folder `out`; the journals of the pool's
    sweeps note that labels were read.

    The same members, recipes and stores are evaluated once: a second call returns what is on disk
    and leaves the test labels alone, also where a cell without a member has another reason by now
    or a network was timed again. Without any member nothing is read either. paper_style: also what
    choosing on the test clips would have given; it stays in the file, and is returned where it is
    asked for alone.
    """
    members, missing = pool.members, pool.missing
    inputs = _digest(pool, sweep)
    known = _known(out, pool, inputs)
    if known is not None and (known.paper_style or not paper_style):
        _restore(out, known, sweep, pool)
        return known if paper_style else known.model_copy(update={"paper_style": ()})
    sealed = _checked(pool)
    built, shipping = in_shipping_order(
        build_ensembles(sweep.ensembles, members, pool.cells), sweep.ensembles
    )
    choices = choices_of(pool.runs, sweep, members, built.ensembles, pool.cells, SEED)
    curves = fronts_of(pool) if out in pool.runs else {}
    places = [run / "journal.jsonl" for run in dict.fromkeys((out, *pool.runs))]
    journal = Journal(places[0], others=places[1:])
    for ensemble in built.ensembles:
        _save(out, ensemble)
        journal.append(
            "ensemble_built",
            ensemble=ensemble.name,
            members=[member.trial for member in ensemble.members],
        )
    truth = sealed.read(journal, purpose)
    evaluation = _evaluate(inputs, members, built, choices, truth, missing).model_copy(
        update={
            "shipping": shipping,
            "fronts": _points(curves, truth),
            "paper_style": (
                chosen_on_test(choices.contests, sweep.ensembles, pool.cells, truth)
                if paper_style
                else ()
            ),
        }
    )
    for row in evaluation.rows:
        if row.kind == "ensemble":
            write_json(_folder(out, row.name) / "result.json", row.model_dump(mode="json"))
    _save_predictions(out, [*members, *built.others, *built.ensembles], truth)
    evaluation.save(out)
    return evaluation


def _checked(pool: Pool) -> SealedTest:
    """The test splits of the pool's networks; UserError, with what helps where a store is gone."""
    wanted = {each.division: each.test.ids for each in pool.members}
    try:
        return checked_test(wanted)
    except UserError as error:
        stores = [Path(each.store) for each in wanted if not is_address(each.store)]
        lost = next((store for store in stores if not store.exists()), None)
        if lost is None or not pool.runs:
            raise
        resume = command("resume", pool.runs[0], "--set", "data.store=PLACE")
        here = "" if lost.is_absolute() else f", or run this where {lost} leads to it"
        raise UserError(f"{error}; where it was moved, `{resume}` says its place{here}") from error


def _known(out: Path, pool: Pool, inputs: str) -> FinalEvaluation | None:
    """What was found of these inputs before, with what is known by now of latencies and of cells
    without a member; None where something has changed.
    """
    known = FinalEvaluation.load(out)
    if (
        known is None
        or known.inputs != inputs
        or known.missing.keys() != pool.missing.keys()
        or not unchanged(known.stores)
    ):
        return None
    now = _timed_again(known, pool.members).model_copy(update={"missing": dict(pool.missing)})
    if out in pool.runs and (now.rows != known.rows or not still_hold(known.fronts, pool)):
        now = now.model_copy(update={"fronts": _points_again(out, known, pool)})
    if now != known:
        now.save(out)
    return now


def _restore(out: Path, known: FinalEvaluation, sweep: Sweep, pool: Pool) -> None:
    """Write the files of ensembles that are gone, or whose latencies are no longer those, again;
    none of them needs a label.
    """
    for row in known.rows:
        file = _folder(out, row.name) / "result.json"
        if row.kind == "ensemble" and file.is_file() and _load(file) != row:
            write_json(file, row.model_dump(mode="json"))
    lacking = {
        row.name: row
        for row in known.rows
        if row.kind == "ensemble"
        and not all((_folder(out, row.name) / name).is_file() for name in FILES)
    }
    if not lacking:
        return
    for each in build_ensembles(sweep.ensembles, pool.members, pool.cells).ensembles:
        if each.name in lacking:
            _save(out, each)
            result = lacking[each.name].model_dump(mode="json")
            write_json(_folder(out, each.name) / "result.json", result)


def _load(file: Path) -> Row | None:
    """The result of an ensemble; None of a damaged one."""
    try:
        return Row.model_validate_json(file.read_bytes())
    except ValidationError:
        return None


def _points(curves: Mapping[Measure, Sequence[Ensemble]], truth: Truth) -> tuple[FrontPoint, ...]:
    """What was chosen for the fronts, evaluated on the test split."""
    return tuple(
        front_point(each, measure, truth[each.division].labels, truth[each.division].clean_part)
        for measure, chosen in curves.items()
        for each in chosen
    )


def _points_again(out: Path, known: FinalEvaluation, pool: Pool) -> tuple[FrontPoint, ...]:
    """The fronts chosen by the latencies of now. What is new in them is evaluated on the labels
    that the evaluation wrote down: a latency is no reason to read those of the store again.
    """
    curves = fronts_of(pool)
    if not any(curves.values()):
        return ()
    before = {frozenset(each.weights.items()): each for each in known.fronts}
    said = known.predictions(out, known.rows[0])  # fronts are of one division
    clean = _clean_part(known, pool)
    points = list[FrontPoint]()
    for measure, chosen in curves.items():
        for each in chosen:
            old = before.get(frozenset(each.weights.items()))
            point = front_point(each, measure, said.labels if said else None, clean)
            if old is not None:  # also where the store or the predictions are gone
                point = point.model_copy(update={"test": old.test, "clean": old.clean})
            points.append(point)
    return tuple(points)


def _clean_part(known: FinalEvaluation, pool: Pool) -> BoolArray | None:
    """Which test clips of the pool's only division are no copies; None where that makes no
    difference, or the store is not here.
    """
    (split,) = known.splits
    if split.clean_clips in (0, split.test_clips):
        return None
    try:
        return _checked(pool).clean[split.division]
    except UserError:
        return None


def _save_predictions(run: Path, entries: Sequence[Entry], truth: Truth) -> None:
    """What every entry says of each test clip, a table for each division."""
    for number, (division, labels) in enumerate(truth.items()):
        own = [entry for entry in entries if entry.division == division]
        firsts = {entry.name: entry.test.logits.argmax(axis=1) for entry in own}
        Predictions(own[0].test.ids, labels.labels, labels.classes, firsts).save(
            predictions_file(run, number)
        )


def _digest(pool: Pool, sweep: Sweep) -> str:
    """Names what the evaluation depends on: its version, the recipes, what the trials of all seeds
    say, however they came to say it, and which trials they were chosen from; their latencies only
    where they take part in choosing.
    """
    asked = [without_defaults(recipe) for recipe in sweep.ensembles]
    trials = [[member.cell, *(_named(run) for run in member.seeds)] for member in pool.members]
    rivals: list[str] = []
    times: list[float | None] = []
    if any("latency_ms" in recipe.budget.given for recipe in sweep.ensembles):
        runs = [run for member in pool.members for run in member.seeds]
        times += [run.result.cost.deploy_latency_ms for run in runs]
    if any("sparse_latency_ms" in recipe.budget.given for recipe in sweep.ensembles):
        runs = [run for member in pool.members for run in member.seeds]
        times += [run.result.cost.sparse_latency_ms for run in runs]
    for run in pool.runs:
        chooser = sweep if len(pool.runs) == 1 else load_folder(run)
        names = LATENCIES if chooser.chooses_by_latency else ()
        for candidate in (each for own in contenders(run, chooser).values() for each in own):
            rivals.append(candidate[0][0].trial)
            known = (result.metrics() for _, result in candidate)
            times += [
                metrics.get(name)
                for metrics in known
                for name in names
                if name in metrics or not name.startswith("sparse_")  # noted since 0.6.0
            ]
    content = [VERSION, asked, trials, rivals, *([times] if times else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


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
            "options": dict(ensemble.options),
            "combine": ensemble.combine,
            "weights": ensemble.weights,
            **({"temperatures": ensemble.temperatures} if ensemble.temperatures else {}),
        },
    )
    ensemble.test.save(folder / "scores.parquet")


def _evaluate(
    inputs: str,
    members: Sequence[Member],
    built: Built,
    choices: Choices,
    truth: Truth,
    missing: Mapping[str, str],
) -> FinalEvaluation:
    """Pure: entries and labels in, everything the report says about accuracy out."""
    entries: list[Entry] = [*members, *built.others, *built.ensembles]
    hits = {each.name: hits_of(each.test, truth[each.division].labels) for each in entries}
    rows = tuple(
        evaluated_row(
            each, dense_counterparts(each.axes, each.division, members), truth[each.division]
        ).model_copy(update=choices.of(each.name))
        for each in entries
    )
    by_name = {row.name: row for row in rows}
    return FinalEvaluation(
        version=VERSION,
        inputs=inputs,
        stores={division.store: store_digest(division.store) or "" for division in truth},
        splits=tuple(_split(division, labels, members) for division, labels in truth.items()),
        rows=rows,
        comparisons=tuple(
            each
            for ensemble in built.ensembles
            for each in comparisons_of(ensemble, members, by_name, hits, truth)
        ),
        first_tried=_first_tried(choices.contests, truth),
        missing=dict(missing),
        skipped=built.skipped,
    )


def _first_tried(contested: Mapping[str, Contest], truth: Truth) -> tuple[FirstTried, ...]:
    found = [against_first(each, truth[each.chosen.division]) for each in contested.values()]
    return tuple(each for each in found if each is not None)


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


def _timed_again(known: FinalEvaluation, members: Sequence[Member]) -> FinalEvaluation:
    """The evaluation of these members with what their latencies are by now."""
    networks = {member.trial: member for member in members}
    rows = [
        row.model_copy(
            update={
                "size": size_of([networks[trial] for trial in row.trials])
                if networks.keys() >= set(row.trials)
                else row.size
            }
        )
        for row in known.rows
    ]
    return known.model_copy(update={"rows": tuple(rows)})
