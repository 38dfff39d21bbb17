"""Models that sweeps registered in an MLflow store, fetched: the bundle that predicts, and none of
the code that was registered with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.ensembling.bundle import FILE, Bundle
from orchestrator.ensembling.find_model import REGISTERED, FoundModel
from orchestrator.sweep.secrets import expanded
from orchestrator.tracking.client import (
    PLACE,
    absolute_uri,
    database_file,
    every,
    load_mlflow,
    open_client,
    reason_of,
    reported,
)
from orchestrator.tracking.runs import quoted
from trainables.contract.disk import cache_root
from trainables.contract.errors import UserError
from trainables.contract.names import listed
from trainables.contract.secrets import redacted

USUAL = "sqlite:///mlflow.db"


def fetched(found: FoundModel, uri: str | None = None) -> FoundModel:
    """The registered model as a bundle in the cache, where it is downloaded once, and again where
    it was changed. uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else that of sweeps whose
    files name none.

    UserError where there is no such store or model, or it is not one that a sweep registered.
    """
    store = uri or os.environ.get("MLFLOW_TRACKING_URI") or USUAL
    address = absolute_uri(expanded(store, PLACE))
    file = database_file(address)
    if file is not None and not file.is_file():  # asked, MLflow would make one
        raise UserError(
            f"{found.name}: there is no MLflow store at {redacted(store)}; --tracking names one"
        )
    with reported(store):
        client = open_client(store)
    try:
        version = _version(client, found.name, store)
        key = f"{address} {version.name} {version.version} {version.source}"
        folder = cache_root() / "registered" / hashlib.sha256(key.encode()).hexdigest()[:16]
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _download(found.name, f"{REGISTERED}{version.name}/{version.version}", address, folder)
    except load_mlflow() as error:
        raise UserError(
            f"{found.name}: cannot be had from {redacted(store)}: {reason_of(error)}"
        ) from error
    return replace(found, kind="bundle", path=folder)


def _is_whole(folder: Path) -> bool:
    """Whether a bundle lies there as it was written."""
    try:
        Bundle.load(folder)
    except UserError:
        return False
    return True


def _version(client: Any, text: str, store: str) -> Any:
    """The version of a registered model; UserError lists the models there are."""
    name, alias, version = _parts(text)
    if not client.search_registered_models(f"name = {quoted(name)}"):
        names = sorted(model.name for model in every(client.search_registered_models))
        raise UserError(
            f"{text}: must be a model registered at {redacted(store)}, there"
            f" are {listed(names, 12)}"
        )
    if alias is not None:
        aliases = dict(client.get_registered_model(name).aliases)
        if alias not in aliases:
            raise UserError(
                f"{text}: must be an alias of {name}, it has {listed(sorted(aliases), 12)}"
            )
        version = str(aliases[alias])
    versions = {
        str(one.version): one for one in client.search_model_versions(f"name = {quoted(name)}")
    }
    if version == "latest" and versions:
        version = max(versions, key=int)
    if version not in versions:
        raise UserError(
            f"{text}: must be a version of {name}, it has {listed(sorted(versions, key=int), 12)}"
        )
    return versions[version]


def _parts(text: str) -> tuple[str, str | None, str]:
    """Name, alias and version of `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
    rest = text.removeprefix(REGISTERED)
    if "@" in rest:
        name, _, alias = rest.partition("@")
        return name, alias, ""
    name, _, version = rest.rpartition("/")
    return name, None, version


def _download(text: str, source: str, address: str, folder: Path) -> None:
    """Put the bundle of a version at `folder`, whole or not at all."""
    import mlflow

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        got = mlflow.artifacts.download_artifacts(
            artifact_uri=source, dst_path=str(partial), tracking_uri=address
        )
        files = sorted(Path(got).rglob(FILE))
        if len(files) != 1:
            raise UserError(f"{text}: must be a model that a sweep registered, got another kind")
        try:
            files[0].parent.rename(folder)
        except OSError:
            if not (folder / FILE).is_file():  # else another process was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
