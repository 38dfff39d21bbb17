"""MLflow runs that trials start from (`sparsity.from`) or ensembles take networks from: found,
checked, their files fetched.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.record.copies import bring, local_storage
from orchestrator.sweep import Sweep
from orchestrator.sweep.secrets import expanded
from orchestrator.tracking.client import (
    PLACE,
    absolute_uri,
    database_file,
    load_mlflow,
    open_client,
    reason_of,
    reported,
)
from orchestrator.tracking.mlflow import FOLDER, MLFLOW_STATUS
from orchestrator.tracking.records import WEIGHTS
from trainables.contract.addresses import is_address
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import StorageFailed, UserError
from trainables.contract.secrets import redacted
from trainables.contract.sparsity import run_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrialRun:
    """The MLflow run of a finished trial, and where its files are: in `folder`, or among its
    artifacts where that is None.
    """

    run: str
    folder: Path | None
    client: Any
    trial: str = ""  # its name
    noted: str = ""  # the folder that the run names, here or not

    def fetch(self, keep: Path) -> Path:
        """Folder of the trial, or of what others need to start from it: downloaded into `keep`,
        once. UserError where that does not succeed.
        """
        if self.folder is not None:
            return self.folder
        target, partial = keep / self.run, keep / f".{self.run}.partial"
        if TrialDir(target).is_complete():
            return target
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        known = TrialDir(target)
        self.download([known.config_file.name, WEIGHTS, known.result_file.name], partial)
        shutil.rmtree(target, ignore_errors=True)  # an earlier copy, damaged since
        partial.rename(target)
        return target

    def download(self, names: Iterable[str], into: Path) -> None:
        """These artifacts of the run; UserError where one cannot be had."""
        try:
            for name in names:
                self.client.download_artifacts(self.run, name, str(into))
        except load_mlflow() as error:
            raise UserError(
                f"MLflow run {self.run}: its files must be there to start from it, or to combine"
                f" it: {reason_of(error)}"
            ) from error


def find_trial(uri: str, run: str) -> TrialRun:
    """The run `run` of the MLflow store at `uri`; UserError unless it is of a finished trial whose
    weights can be had.
    """
    found, folder, artifacts = _finished(uri, run, weights=True)
    if folder is not None or WEIGHTS in artifacts:
        return found
    raise UserError(
        f"needs the weights of run {run}, but its folder '{found.noted}' is not here or has no"
        " checkpoint any more, and only dense trials log theirs"
    )


def fetch_scores(uri: str, run: str, keep: Path) -> TrialDir:
    """The folder of the finished trial that the run `run` of the MLflow store at `uri` records, or
    what ensembles need of it, downloaded into `keep`. UserError where that cannot be had.
    """
    found, folder, artifacts = _finished(uri, run, weights=False)
    if folder is not None:
        return TrialDir(folder)
    target = TrialDir(keep / run / "trials" / found.trial)
    needed = [target.config_file.name, target.result_file.name, target.test_scores.name]
    lacking = [name for name in needed if name not in artifacts]
    if lacking:
        raise UserError(f"MLflow run {run}: must hold {', '.join(lacking)} to be combined")
    target.path.mkdir(parents=True, exist_ok=True)
    held = [name for name in (target.selection_scores.name,) if name in artifacts]
    found.download([*needed, *held], target.path)
    return target


def _finished(uri: str, run: str, *, weights: bool) -> tuple[TrialRun, Path | None, set[str]]:
    """The run of a finished trial, its folder where that is here (weights: with its checkpoint),
    and else the names of its artifacts; UserError unless it is one.
    """
    address, shown = absolute_uri(expanded(uri, PLACE)), redacted(uri)
    if address == "none":
        raise UserError(
            "names an MLflow run, but tracking.uri, the store it is looked up in, is none"
        )
    # asked, MLflow would make one
    file = database_file(address)
    if file is not None and not file.is_file():
        raise UserError(
            f"names an MLflow run, but there is no MLflow store at {shown} (tracking.uri)"
        )
    with reported(uri):
        client = open_client(uri)
    try:
        found = client.get_run(run)
        tags, status = found.data.tags, found.info.status
        kind = tags.get("kind", "no trial")
        if kind != "trial" or status != MLFLOW_STATUS["finished"]:
            raise UserError(
                f"must be the run of a finished trial, but run {run} at {shown} is {status} (kind:"
                f" {kind})"
            )
        noted = tags.get(FOLDER, "")
        here = _folder_here(noted)
        if here is not None and (
            not here.is_complete() or (weights and not here.kept_file.is_file())
        ):
            here = None
        folder = None if here is None else here.path
        artifacts = {each.path for each in client.list_artifacts(run)} if folder is None else set()
    except load_mlflow() as error:
        raise UserError(
            f"must be a run of the MLflow store at {shown}: {reason_of(error)}"
        ) from error
    return TrialRun(run, folder, client, tags.get("trial", run), noted), folder, artifacts


def _folder_here(noted: str) -> TrialDir | None:
    """The trial's folder that its run names, brought here where that is an address; None where it
    names none, or the address does not have it now.
    """
    if not is_address(noted):
        return TrialDir(Path(noted)) if noted else None
    storage, *within = noted.rsplit("/", 3)
    try:
        folder = local_storage(storage).joinpath(*within)
        bring(folder)
    except (StorageFailed, UserError) as error:
        log.warning("%s", error)
        return None
    return TrialDir(folder)


def find_sources(sweep: Sweep, sources: Iterable[str]) -> dict[str, TrialRun]:
    """The MLflow runs that `sparsity.from` names as `sources`, by that text; UserError names all
    that no trial can start from.
    """
    found: dict[str, TrialRun] = {}
    problems: list[str] = []
    for source in sources:
        try:
            found[source] = find_trial(sweep.tracking.uri, run_of(source) or source)
        except UserError as error:
            problems.append(sweep.problem(sweep.place_of_leaf("sparsity.from"), str(error)))
    if problems:
        raise UserError.of(problems)
    return found
