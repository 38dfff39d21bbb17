"""Gathers the bundle of what a sweep ships, with its card."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.ensembling.bundle import FILE, Bundle
from orchestrator.ensembling.find_model import found_row
from orchestrator.ensembling.model_card import FILE as CARD
from orchestrator.ensembling.model_card import as_markdown, card_of
from orchestrator.ensembling.results import FinalEvaluation, Row
from trainables.contract.disk import write_atomic, write_json
from trainables.contract.errors import UserError
from trainables.data.store.writing import sha256


def bundle_folder(run: Path, row: Row) -> Path:
    """Where the bundle of an ensemble or of a single network lies."""
    if row.kind == "ensemble":
        return run / "ensembles" / row.name / "model"
    return run / "trials" / row.trials[0] / "model"


def write_bundle(run: Path, evaluation: FinalEvaluation) -> Path | None:
    """Gather the bundle of the evaluation's headline anew; returns its folder, None where there is
    nothing to ship.

    Its description is an earlier bundle's, or the store's where that is still the one that the
    trials noted. UserError where a file is missing.
    """
    row = evaluation.headline
    if row is None:
        return None
    out = bundle_folder(run, row)
    partial = out.with_name(f".{out.name}.partial")
    try:
        bundle = Bundle.of_row(run, evaluation, row)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for trial, file in bundle.files.items():
            shutil.copyfile(file, partial / f"{trial}.pt")
        content = {
            "description": bundle.description.model_dump(mode="json"),
            "members": {
                trial: data.model_dump(mode="json") for trial, data in bundle.members.items()
            },
            "digests": {trial: sha256(partial / f"{trial}.pt") for trial in bundle.members},
            "recipe": bundle.recipe,
        }
        write_json(partial / FILE, content)
        card = card_of(found_row(run, row), bundle)
        write_atomic(partial / CARD, as_markdown(card, _usage(out)).encode())
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    except OSError as error:
        place = Path(error.filename or partial)
        if place.is_relative_to(partial):  # a name that nobody has given
            raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error
        raise UserError(f"{place}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _usage(folder: Path) -> list[str]:
    """How a bundle is run, for its card."""
    return [
        "With orchestrate, beside this folder wherever it lies:",
        "",
        "```",
        f"orchestrate predict {folder.name}/ CLIPS...",
        f"orchestrate predict {folder.name}/ --stream < FRAMES.jsonl",
        "```",
        "",
        "Where it lies in its sweep, `orchestrate publish` and `orchestrate export` make of it",
        "what runs without orchestrate.",
    ]
