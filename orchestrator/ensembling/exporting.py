"""A trial or ensemble of a sweep with what its exported file is held to: its stored logits, its
store, its accuracy. Loads networks, so it is no part of what reports need.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from orchestrator.ensembling.bundle import combined, open_bundle
from orchestrator.ensembling.find_model import FoundModel
from orchestrator.ensembling.results import Row
from orchestrator.ensembling.statistics.intervals import interval
from orchestrator.ensembling.trained_on import check_same_store
from orchestrator.record.copies import here
from orchestrator.record.folder import moved_store
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import digest_of
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores
from trainables.data.store.cache import open_store
from trainables.deploy.export.about import ExportedAccuracy
from trainables.deploy.export.export import Source
from trainables.deploy.export.whole import Member
from trainables.deploy.form import load_deploy


def source_of(found: FoundModel) -> Source:
    """UserError where it is no trial or ensemble that lies in its sweep, or a file of it is not
    there or was changed.
    """
    if found.kind not in ("trial", "ensemble", "bundle") or (
        found.kind == "bundle" and found.row is None
    ):
        raise UserError(
            f"{found.place}: must be a trial or an ensemble in the folder of its sweep, whose"
            f" stored logits the file is held to, got {found.kind} {found.name}"
        )
    bundle = open_bundle(found)
    members = [
        Member(trial, load_deploy(bundle.files[trial]), data)
        for trial, data in bundle.members.items()
    ]
    folders = {trial: _trial_folder(found, trial) for trial in bundle.members}
    data = members[0].data
    place = found.row.division.store if found.row else data.store
    try:
        store = open_store(place)
    except UserError as error:
        advice = [] if found.run is None else moved_store(place, found.run)
        raise UserError.of([*error.problems, *advice]) from error
    check_same_store(place, store, [folder.load() for folder in folders.values()], found.run)
    if store.info.meaning != bundle.description.meaning:
        raise UserError(
            f"{place}: must have the classes and joints that {found.place} was made for"
        )
    parts = store.split(data.protocol, data.selection)
    split: Literal["selection", "test"] = (
        "selection"
        if all(each.selection_scores.is_file() for each in folders.values())
        else ("test")
    )
    tables = {trial: _scores(folder, split) for trial, folder in folders.items()}
    first = next(iter(tables.values()))
    for trial, table in tables.items():
        if table.ids != first.ids:
            raise UserError(f"{folders[trial].path}: must be scored on the clips of the others")
    logits = combined(bundle.recipe, {trial: table.logits for trial, table in tables.items()})
    stored = Scores(first.ids, logits, first.labels if split == "selection" else None)
    return Source(
        name=found.name,
        kind="trial" if "trial" in bundle.recipe else "ensemble",
        members=members,
        digests=[digest_of(bundle.files[trial]) for trial in bundle.members],
        recipe=bundle.recipe,
        store=store,
        stored=stored,
        split=split,
        training=parts.train,
        accuracy=_accuracy(stored, found.row),
    )


def _trial_folder(found: FoundModel, trial: str) -> TrialDir:
    if found.run is not None:
        return TrialDir(found.run / "trials" / trial)
    assert found.path is not None
    return TrialDir(found.path)


def _scores(folder: TrialDir, split: str) -> Scores:
    file: Path = folder.selection_scores if split == "selection" else folder.test_scores
    return Scores.load(folder.checked(here(file), folder.load()))


def _accuracy(stored: Scores, row: Row | None) -> list[ExportedAccuracy]:
    """On the selection split, from the stored logits; on test as the final evaluation has it."""
    found = []
    if stored.labels is not None:
        right = int((np.argmax(stored.logits, axis=1) == stored.labels).sum())
        found.append(
            ExportedAccuracy(split="selection", clips=len(stored.ids), top1=right / len(stored.ids))
        )
    if row is not None:
        test, sealed = row.test, row.division.held_out
        low, high = interval(test.right, test.clips) if sealed else (None, None)
        found.append(
            ExportedAccuracy(split="test", clips=test.clips, top1=test.top1, low=low, high=high)
        )
    return found
