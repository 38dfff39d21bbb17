"""MLflow runs that trials start from (`sparsity.from`): found, checked, their files fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from orchestrator.tracking.mlflow import FOLDER, MLFLOW_STATUS, WEIGHTS
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError
from trainables.contract.secrets import redacted
from trainables.contract.sparsity import run_of


@dataclass(frozen=True, slots=True)
class TrialRun:
    """The MLflow run of a finished trial, and where its files are: in `folder`, or among its
    artifacts where that is None.
    """

    run: str
    folder: Path | None
    client: Any

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
        try:
            for name in (
                TrialDir(target).config_file.name,
                WEIGHTS,
                TrialDir(target).result_file.name,
            ):
                self.client.download_artifacts(self.run, name, str(partial))
        except load_mlflow() as error:
            raise UserError(
                f"MLflow run {self.run}: its files must be there to start from it:"
                f" {reason_of(error)}"
            ) from error
        shutil.rmtree(target, ignore_errors=True)  # an earlier copy, damaged since
        partial.rename(target)
        return target


def find_trial(uri: str, run: str) -> TrialRun:
    """The run `run` of the MLflow store at `uri`; UserError unless it is of a finished trial whose
    weights can be had.
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
        tracked = client.get_run(run)
        kind, status = tracked.data.tags.get("kind", "no trial"), tracked.info.status
        if kind != "trial" or status != MLFLOW_STATUS["finished"]:
            raise UserError(
                f"must be the run of a finished trial, but run {run} at {shown} is {status} (kind:"
                f" {kind})"
            )
        folder = tracked.data.tags.get(FOLDER, "")
        if folder and TrialDir(Path(folder)).is_complete():
            return TrialRun(run, Path(folder), client)
        if client.list_artifacts(run, WEIGHTS):
            return TrialRun(run, None, client)
    except load_mlflow() as error:
        raise UserError(
            f"must be a run of the MLflow store at {shown}: {reason_of(error)}"
        ) from error
    raise UserError(
        f"needs the weights of run {run}, but its folder '{folder}' is not here, and only dense"
        " trials log theirs"
    )


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
