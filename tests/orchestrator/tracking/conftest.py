"""One database, and made-up trials to track."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from orchestrator.tracking.client import open_client
from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.artifacts import TrialDir


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Its tables alone: making them takes two seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_database):
    """One database for all tests of a file."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with (
        closing(sqlite3.connect(empty_database)) as made,
        closing(sqlite3.connect(path)) as copied,
    ):
        made.backup(copied)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Folder of each made-up trial by cell."""
    made = [
        Trial("joint", 0.6, wrong_selection=(0,)),
        Trial("bone", 0.0, state="failed"),
        Trial("bone", 0.6, state="unfinished"),
    ]
    run = make_run(tmp_path_factory.mktemp("sweep"), made)
    return {trial.cell: TrialDir(run / "trials" / trial.name) for trial in made}
