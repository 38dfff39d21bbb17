"""Addresses at which MLflow has no store are refused before anything starts."""

from __future__ import annotations

import pytest

from orchestrator.planning.check import check_sweep, store_problem
from trainables.contract.errors import UserError

RULE = (
    "must be none, https://HOST of an MLflow server, sqlite:///FILE, or a database's postgresql://,"
    " mysql:// or mssql://, got "
)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("htp://host:5000", f"{RULE}'htp://host:5000', did you mean 'http'?"),
        ("postgres://me@host/db", f"{RULE}'postgres://me@host/db', did you mean 'postgresql'?"),
        ("s3://bucket/runs", f"{RULE}'s3://bucket/runs'"),
        ("mlruns", f"{RULE}'mlruns'"),
        ("file:///srv/mlruns", f"{RULE}'file:///srv/mlruns'"),
        ("http://", "must name a host, got 'http://'"),
        (
            "sqlite://mlflow.db",
            "must have three slashes before the path of its file, got 'sqlite://mlflow.db'",
        ),
    ],
)
def test_what_is_no_address_of_a_store(address, problem, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    assert store_problem(address) == problem


@pytest.mark.parametrize(
    "address",
    [
        *("none", "http://127.0.0.1:5000", "https://host/path", "sqlite:////srv/mlflow.db"),
        *("sqlite:///mlflow.db?timeout=60", "postgresql+psycopg://host/db", "mysql://host/db"),
        *("databricks", "databricks://profile"),
    ],
)
def test_what_may_be_one(address):
    assert store_problem(address) is None


def test_folders_are_taken_where_mlflow_takes_them(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert store_problem("./mlruns") is None
    assert store_problem("file:///srv/mlruns") is None


def test_no_password_is_shown():
    assert "secret" not in str(store_problem("postgres://me:secret@host/db"))


def test_the_place_in_the_file_is_named(planned):
    sweep, _ = planned("tracking.uri=postgres://host/db")
    with pytest.raises(UserError) as refused:
        check_sweep(sweep, data=False)
    [problem] = refused.value.problems
    assert problem.startswith(f"--set tracking.uri: {RULE}'postgres://host/db'")
