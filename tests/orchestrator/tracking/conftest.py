"""One database, and made-up trials to track."""

from __future__ import annotations

import pytest

from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.artifacts import TrialDir


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests: making one takes two seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


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
