"""What of a sweep's folder can be given back to the disk, and its removal.

Only files that a sweep makes are ever named here: whatever else lies in its folder stays.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.record.copies import remove
from orchestrator.record.folder import SCRATCH
from orchestrator.record.journal import read_journal
from orchestrator.record.lease import lease_files
from orchestrator.record.proposals import load_proposals
from orchestrator.record.resolved import FILE
from orchestrator.record.retention import (
    Policy,
    checkpoint_files,
    may_go,
    remove_checkpoint,
    unneeded_of_sweep,
)
from orchestrator.record.states import TrialState, load_trials
from orchestrator.search.making import asks
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import LEFTOVER
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Waste:
    """Files of one kind that can go."""

    what: str
    files: tuple[Path, ...]
    size: int  # bytes
    trials: tuple[TrialDir, ...] = ()  # whose checkpoints they are, if they are

    @classmethod
    def of(cls, what: str, files: Iterable[Path], trials: Iterable[TrialDir] = ()) -> Waste:
        """With the size of the files that are there."""
        known = tuple(files)
        return cls(what, known, sum(map(_size, known)), tuple(trials))


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What can go, and why something else stays."""

    wastes: tuple[Waste, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(waste.size for waste in self.wastes)


def find_waste(run: Path, sweep: Sweep, policy: Policy) -> Cleaning:
    """What nobody needs in the folder of a sweep that does not run: checkpoints, as `policy` says
    of finished trials, and whatever dead processes left.
    """
    states = load_trials(run)
    over = [state for state in states if state.ending in ("pruned", "failed", "discarded")]
    finished = [
        state
        for state in unneeded_of_sweep(states, sweep, policy).values()
        if state.ending == "finished"
    ]
    missing = _needed_by(run, sweep)
    stay = [s for s in finished if missing and not may_go(s, run, lambda trial: False)]
    groups = {
        "checkpoints of finished trials": [state for state in finished if state not in stay],
        **{
            f"checkpoints of {ending} trials": [state for state in over if state.ending == ending]
            for ending in ("pruned", "failed", "discarded")
        },
    }
    checkpoints = [_checkpoints(run, what, group) for what, group in groups.items()]
    taken = {path for waste in checkpoints for path in waste.files}
    left = [path for path in _leftovers(run) if path not in taken]
    wastes = (
        *checkpoints,
        Waste.of("shared beginnings that no trial needs", _unneeded_beginnings(run, sweep, states)),
        Waste.of("Ray Tune's scratch", _below(run / SCRATCH)),
        Waste.of("files that killed processes left half written", left),
    )
    kept = sum(bool(checkpoint_files(state.proposal.folder(run))) for state in stay)
    notes = (f"{kept} checkpoints of dense trials stay: {missing}",) if kept else ()
    return Cleaning(tuple(waste for waste in wastes if waste.files), notes)


def _needed_by(run: Path, sweep: Sweep) -> str:
    """Who may still need the weights of any dense trial; empty if nobody does."""
    events = [each for each in read_journal(run / "journal.jsonl") if _ends_or_begins(each)]
    finished = bool(events) and events[-1]["event"] == "sweep_finished"
    if not finished and asks(sweep):
        return "trials that are not proposed yet may start from them"
    if sweep.tracking.is_off or (finished and not events[-1].get("undelivered")):
        return ""
    return "MLflow may lack their weights until the sweep has finished with all delivered"


def _ends_or_begins(event: dict[str, object]) -> bool:
    return str(event["event"]).startswith("sweep_")


def _checkpoints(run: Path, what: str, states: Sequence[TrialState]) -> Waste:
    folders = [state.proposal.folder(run) for state in states]
    with_some = [folder for folder in folders if checkpoint_files(folder)]
    return Waste.of(
        what, (path for each in with_some for path in checkpoint_files(each)), with_some
    )


def _unneeded_beginnings(run: Path, sweep: Sweep, states: Sequence[TrialState]) -> list[Path]:
    """Trials that have not ended need theirs; while a sweep runs, others go at once."""
    from orchestrator.trials.beginnings import FOLDER, shared_beginnings, whole_file
    from orchestrator.trials.space import all_trials

    found = [path for path in _below(run / FOLDER) if whole_file(path.name)]
    if not found:
        return []
    trials = all_trials(sweep, [state.proposal for state in states])
    ended = {state.proposal.trial for state in states if state.ended}
    needed = {each.file(run) for each in shared_beginnings(sweep, trials) if each.branching - ended}
    return [path for path in found if path not in needed]


def _leftovers(run: Path) -> list[Path]:
    """What `write_atomic`, a download or the making of a lease had not finished."""
    found = [path for path in _below(run) if LEFTOVER.fullmatch(path.name)]
    found += run.glob(".lease.*.partial")
    for folder in (run / "sources").glob(".*.partial"):
        found += _below(folder)
    return sorted(set(found))


def clean(run: Path, cleaning: Cleaning) -> int:
    """Remove what was found; returns the bytes that are free by that. Nothing may run the sweep."""
    before = cleaning.size
    for waste in cleaning.wastes:
        for folder in waste.trials:
            remove_checkpoint(folder)
        if not waste.trials:
            _remove(run, waste.files)
    shutil.rmtree(run / SCRATCH, ignore_errors=True)  # folders without a file
    return before - sum(_size(path) for waste in cleaning.wastes for path in waste.files)


_HALF = r"\.[^/]+\.[0-9a-f]{8}\.partial"
_TOP = (
    r"sweep\.yaml|journal\.jsonl|epochs\.jsonl|running\.json|times\.json|evaluation\.json|drain"
    r"|cancel|\.lock|\.lease\.[^/]+"
)
_SCORES = r"scores\.(selection|test)\.parquet"
_MODEL = r"(\.?model[^/]*/)(bundle\.json|README\.md|[^/]+\.pt)"
_TRIAL = (
    rf"(config|cost|latency|levels|result|failure|sparsity)\.json|metrics\.parquet|deploy\.pt"
    rf"|{_SCORES}|levels/[^/]+/{_SCORES}|checkpoint/((next\.)?best|last)\.pt|\.lock|{_MODEL}"
)
_SHARED = r"shared/[0-9a-f]{16}\.pt"
_ENSEMBLE = rf"ensembles/[^/]+/((members|weights|result)\.json|scores\.parquet|{_MODEL})"
_EVALUATION = rf"{_ENSEMBLE}|predictions/\d+\.parquet|evaluation\.json|journal\.jsonl"
_REPORT = r"report/(report\.md|index\.html|tables/[^/]+\.csv|figures/[^/]+\.(png|svg|pdf))"
_SOURCES = r"sources/[^/]+/((config|result)\.json|checkpoint/(best|last)\.pt)"


def find_everything(run: Path) -> Cleaning:
    """All files that the sweep made, that by which it is known as one after all others but those
    that hold its folder; what else lies there is noted, and stays.
    """
    names = "|".join(re.escape(proposal.trial) for proposal in load_proposals(run)) or "(?!)"
    ours = re.compile(
        rf"{_TOP}|trials/({names})/({_TRIAL})|{_EVALUATION}|asked/[^/]+/({_EVALUATION})"
        rf"|{_REPORT}|{_SOURCES}|{_SHARED}|{re.escape(SCRATCH)}/.+|(.+/)?{_HALF}"
    )
    mine: list[Path] = []
    others: list[str] = []
    for path in _below(run):
        name = path.relative_to(run).as_posix()
        if name == FILE:
            continue
        if ours.fullmatch(name):
            mine.append(path)
        else:
            others.append(name)
    holding = [run / ".lock", *lease_files(run)]
    mine.sort(key=lambda path: (path.parent == run, path))
    last = [path for path in mine if path in holding]
    first = [path for path in mine if path not in holding]
    notes = [f"what no sweep made stays: {len(others):,}, such as {min(others)}"] if others else []
    return Cleaning((Waste.of("the whole sweep", (*first, run / FILE, *last)),), tuple(notes))


def _below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, and every link; links are not followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (Path(place) / name for name in (*files, *links))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _remove(run: Path, files: Iterable[Path]) -> None:
    """Remove files below `run`, and folders there that are empty by that."""
    folders: set[Path] = set()
    for path in files:
        try:
            remove(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be removed: {error.strerror}") from error
        folders |= {each for each in path.parents if run in each.parents}
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    with suppress(OSError):
        run.rmdir()
