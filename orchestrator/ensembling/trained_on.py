"""What the classes, joints and units were that a sweep's networks were trained on. The store that
lies at the same path by now may be another one, or have other names of classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.ensembling.find_model import BUNDLE
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.copies import place_of
from orchestrator.record.folder import moved_store, store_digest
from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import FAILURES
from trainables.data.store.cache import open_outline
from trainables.data.store.description import Description
from trainables.data.store.reading import Store


def description_of(store: str, results: Sequence[TrialResult], run: Path | None) -> Description:
    """What the store said of itself when these trials were trained on it: by a bundle of the sweep
    `run`, else by the store itself where it is still the same one.

    UserError where it is neither.
    """
    frozen = None if run is None else _frozen(store, results, run)
    if frozen is not None:
        return frozen
    try:
        opened = open_outline(store)
    except UserError as error:
        raise UserError(
            f"{store}: the store must be there to say what the classes and joints are: {error}",
            *([] if run is None else moved_store(store, run)),
        ) from error
    check_same_store(store, opened, results, run)
    return Description.model_validate(
        {name: getattr(opened.info, name) for name in Description.model_fields}
    )


def check_same_store(
    place: str, store: Store, results: Sequence[TrialResult], run: Path | None
) -> None:
    """UserError unless the store is the one that the trials noted; where they noted no meaning, the
    one that the sweep's final evaluation saw.
    """
    unlike = [
        f"trial {result.trial}"
        for result in results
        if result.store_checksums not in ({}, store.info.checksums)
        or result.store_meaning not in ("", store.info.meaning)
    ]
    if run is not None and not all(result.store_meaning for result in results):
        evaluation = FinalEvaluation.load(run)
        seen = "" if evaluation is None else evaluation.stores.get(place, "")
        if seen not in ("", store_digest(place)):
            unlike.append(f"the evaluation of {place_of(run)}")
    if unlike:
        raise UserError(
            f"{place}: must be the store that {unlike[0]} knows, but its clips, classes or joints"
            " are others; bring back the one that was trained on"
        )


def _frozen(store: str, results: Sequence[TrialResult], run: Path) -> Description | None:
    """As a bundle of the sweep has it, of networks that were trained on the same content."""
    for file in sorted(run.glob(f"*/*/model/{BUNDLE}")):
        try:
            content: dict[str, Any] = json.loads(file.read_text())
            description = Description.model_validate(content["description"])
            stores = {data["store"] for data in content["members"].values()}
            trained = [TrialDir(run / "trials" / trial).load() for trial in content["members"]]
        except FAILURES:
            continue  # a damaged bundle says nothing; the store may
        same = all(
            result.store_checksums == other.store_checksums
            and result.store_meaning in ("", description.meaning)
            for result in results
            for other in trained
        )
        if store in stores and same:
            return description
    return None
