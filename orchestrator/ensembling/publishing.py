"""A trial or an ensemble in the layout that model hubs read: weights as safetensors, a card with
metadata, a configuration, and the program that runs them with torch alone.

The program is an exported one (torch.export), not source text: a loader that holds the code of
every backbone, stream and normalisation would be a second copy of them, and another one for each
network. What is published is held to the stored logits before it is written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ensembling.bundle import open_bundle
from orchestrator.ensembling.find_model import CONFIG, PUBLISHED, FoundModel
from orchestrator.ensembling.model_card import FILE as CARD
from orchestrator.ensembling.model_card import as_markdown, card_of
from trainables.contract.disk import (
    check_form,
    digest_of,
    read_json,
    sync_folder,
    write_atomic,
    write_json,
)
from trainables.contract.errors import UserError

FORM = 1
PROGRAM, WEIGHTS = "model.pt2", "model.safetensors"
FILES = (CARD, CONFIG, PROGRAM, WEIGHTS)


@dataclass(frozen=True, slots=True)
class Published:
    """What was written."""

    folder: Path
    bytes: int
    tensors: int
    largest_difference: float  # of a logit from the stored one
    clips: int  # on which that was found
    split: str


def publish(
    found: FoundModel,
    out: Path,
    *,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Published:
    """Write the folder `out`, whole or not at all. force: whether one that was published there is
    replaced; a folder of anything else never is.

    UserError where it cannot be written there, or is no trial or ensemble of a sweep; GateFailed
    where the program does not give the stored logits.
    """
    check_target(out, force=force)
    from orchestrator.ensembling.exporting import source_of
    from trainables.deploy.export.export import Asked, export
    from trainables.deploy.export.weights import save_weights

    source, bundle = source_of(found), open_bundle(found)
    with _building(out) as folder:
        about, _ = export(source, folder / PROGRAM, Asked("pt2"), note)
        tensors = save_weights(folder / PROGRAM, folder / WEIGHTS)
        content: dict[str, Any] = {
            PUBLISHED: FORM,
            "model_type": "orchestrate-skeleton-action",
            "id2label": {str(k): name for k, name in enumerate(about.classes)},
            "about": about.model_dump(mode="json"),
            "sha256": {name: digest_of(folder / name) for name in (PROGRAM, WEIGHTS)},
        }
        write_json(folder / CONFIG, content)
        card = as_markdown(card_of(found, bundle), USAGE)
        write_atomic(folder / CARD, card.encode())
        size = sum(file.stat().st_size for file in folder.iterdir())
        _put_in_place(folder, out)
    assert about.check is not None
    return Published(
        out, size, tensors, about.check.largest_difference, about.check.clips, about.check.split
    )


USAGE = (
    "With torch and safetensors alone, in this folder; `clips` is (N, C, T, V, M) in float32:",
    "",
    "```python",
    "import torch",
    "from safetensors.torch import load_file",
    "",
    f'program = torch.export.load("{PROGRAM}").module()',
    f'program.load_state_dict(load_file("{WEIGHTS}"))',
    "logits, probabilities = program(clips)",
    "```",
    "",
    f"{PROGRAM} centres and resamples clips, makes streams, runs the networks and fuses them. It"
    f" holds the same weights as {WEIGHTS}, so it also runs without that file.",
    "",
    "With orchestrate: `orchestrate predict FOLDER CLIPS...`",
)


def check_target(out: Path, *, force: bool) -> None:
    """UserError unless the folder may be written."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: must be a folder, or not be there yet")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not is_published(out):
        raise UserError(f"{out}: must be a new folder or a published one, but holds other files")
    if not force:
        raise UserError(f"{out}: there is a published model already; --force replaces it")
    others = sorted(file.name for file in out.iterdir() if file.name not in FILES)
    if others:
        raise UserError(
            f"{out}: must hold a published model and nothing else to be replaced, but holds"
            f" {others[0]} too"
        )


def is_published(folder: Path) -> bool:
    """Whether `publish` wrote what is there."""
    if not (folder / CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and PUBLISHED in config


def program_of(folder: Path) -> Path:
    """The program of a published folder; UserError where a file of it is missing or changed."""
    config = read_json(folder / CONFIG)
    check_form(folder / CONFIG, config.get(PUBLISHED), FORM)
    problems, digests = [], config.get("sha256")
    for name in (PROGRAM, WEIGHTS):
        file = folder / name
        if not file.is_file():
            problems.append(f"{file}: is missing, {CONFIG} names it")
        elif not isinstance(digests, dict) or digest_of(file) != digests.get(name):
            problems.append(f"{file}: must be the file that {CONFIG} names, but it was changed")
    if problems:
        raise UserError.of(problems)
    return folder / PROGRAM


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, which vanishes unless it is put in its place."""
    folder = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.partial")
    try:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{out}: cannot be written: {error.strerror}") from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename the folder to `out`; an earlier one is moved aside first, and back where that fails,
    so that one of the two is there at any moment but this.
    """
    sync_folder(folder)
    old = folder.with_name(f"{folder.name}.replaced")
    try:
        if out.is_dir():
            out.rename(old)
        folder.rename(out)
    except OSError as error:
        if old.is_dir():
            old.rename(out)
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    sync_folder(out.absolute().parent)
    shutil.rmtree(old, ignore_errors=True)
