"""An ensemble that is asked for on the command line, built and evaluated beside what its sweeps
have.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.final import evaluate
from orchestrator.ensembling.pools import Pool
from orchestrator.ensembling.results import FILE, FinalEvaluation
from orchestrator.record.folder import load_folder
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.sweep.asked import Asked, asked_ensemble
from trainables.contract.errors import UserError
from trainables.contract.frozen import without_defaults

log = logging.getLogger(__name__)

FOLDER = "asked"
"""In a sweep's folder: ensembles that its file does not describe."""


def evaluate_asked(
    pool: Pool, asked: Asked, called: str | None, out: Path | None
) -> tuple[FinalEvaluation, Path]:
    """Evaluate the ensemble that is asked for, of the networks of the pool; returns what was found
    and the folder that holds it. The sweeps' own evaluations stay as they are; their journals
    note that the test labels were read. What another ensemble left in that folder is replaced, and
    that is said.

    UserError, before anything is written or read, where no ensemble can be built.
    """
    axes = pool.axes()
    name = called or "asked"
    recipe = asked_ensemble(asked.fields(name, axes), axes, held_out=pool.held_out)
    if called is None:
        content = json.dumps([without_defaults(recipe), sorted(pool.cells)], sort_keys=True)
        name = f"{recipe.method}-{hashlib.sha256(content.encode()).hexdigest()[:6]}"
        name = name.rpartition(":")[2]  # of a strategy by its path
        recipe = recipe.model_copy(update={"name": name})
    if name in {*pool.cells, *(run.trial for each in pool.members for run in each.seeds)}:
        raise UserError(f"--called: must be a name of its own, '{name}' is that of a network")
    beside = pool.runs[0] if pool.runs else Path()
    place = out or beside / FOLDER / name
    _check_free(place)
    built = build_ensembles((recipe,), pool.members, pool.cells)
    if not built.ensembles:
        raise UserError.of(f"{each}: {why}" for each, why in built.skipped.items())
    before = FinalEvaluation.load(place)
    sweep = _sweep_of(pool).model_copy(update={"ensembles": (recipe,)})
    evaluation = evaluate(place, sweep, pool, f"ensemble {name}")
    if before is not None and before.inputs != evaluation.inputs:
        log.warning("%s: replaces what was evaluated there before", place)
        _remove_others(place, evaluation)
    return evaluation, place


def _remove_others(place: Path, evaluation: FinalEvaluation) -> None:
    names = {row.name for row in evaluation.rows}
    for folder in (place / "ensembles").iterdir():
        if folder.name not in names:
            shutil.rmtree(folder)


def _sweep_of(pool: Pool) -> Sweep:
    """The first sweep; where there is none, one of the same data that says nothing else."""
    if pool.runs:
        return load_folder(pool.runs[0])
    data = pool.members[0].division.model_dump(mode="json", exclude_none=True)
    return parse_sweep("mlflow", json.dumps({"version": 1, "name": "mlflow", "data": data}))


_UNDER_WAY = {"journal.jsonl", "ensembles", "predictions"}
"""What an evaluation writes before its last file."""


def _check_free(place: Path) -> None:
    """UserError where the folder holds something else than an ensemble that was asked for, whole or
    one whose evaluation was ended halfway.
    """
    if not place.exists() or ((place / FILE).is_file() and not (place / "resolved.json").exists()):
        return
    if place.is_file() or any(
        entry.name not in _UNDER_WAY and not entry.name.endswith(".partial")
        for entry in place.iterdir()
    ):
        raise UserError(
            f"{place}: must be a new or an empty folder, or one of an ensemble that was asked for"
        )
