"""The door to an MLflow store: its address, one process at a time while it is made, and what its
errors mean. Knows no sweeps.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from orchestrator.sweep.secrets import expanded
from trainables.contract import locks
from trainables.contract.errors import UserError
from trainables.contract.secrets import redacted

SQLITE = "sqlite:///"
PLACE = "tracking.uri"
MAKING_S = 120.0
"""How long to wait for another process that makes the database: it takes two seconds."""

FINAL_CODES = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "CUSTOMER_UNAUTHORIZED",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "ENDPOINT_NOT_FOUND",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
)
"""Error codes of what would fail again, whoever answers."""

QUIET = {
    "alembic": logging.ERROR,
    "mlflow.store.db.utils": logging.CRITICAL,  # tells every error again, with its traceback
    "mlflow.models.signature": logging.ERROR,
    "mlflow.pyfunc": logging.WARNING,  # tells that it tries the example
    "mlflow.store.model_registry.abstract_store": logging.WARNING,  # tells that it waits
    "urllib3.connectionpool": logging.ERROR,
}
"""Loggers of others and from which level on they are heard."""


def absolute_uri(uri: str) -> str:
    """`sqlite:///relative.db` with the path made absolute, so that every process means the same
    file; other addresses as they are.
    """
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


def database_file(uri: str) -> Path | None:
    """The file of an SQLite store, None for any other."""
    if not uri.startswith(SQLITE):
        return None
    return Path(absolute_uri(uri).removeprefix(SQLITE).partition("?")[0])


def missing(uri: str) -> Path | None:
    """The place on this machine where a store would lie that is not there: its file, or the folder
    of a file store. None: it is there, or at an address that is to be asked.
    """
    address = expanded(uri, PLACE)
    place = database_file(address)
    if place is None and (address.startswith("file:") or not urlsplit(address).scheme):
        place = Path(unquote(urlsplit(address).path)).absolute()
    named = place is not None and address.partition("?")[0] not in (SQLITE, *NO_PLACES)
    return place if place is not None and named and not place.exists() else None


def lacks(uri: str, run: str) -> bool:
    """Whether a database file that is there has no run of that id, as one of another folder, or of
    another program. Nothing is asked of other stores.
    """
    file = database_file(expanded(uri, PLACE))
    if file is None:
        return False
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            asked = "select 1 from runs where run_uuid = ?"
            return database.execute(asked, (run,)).fetchone() is None
    except sqlite3.DatabaseError as error:
        return not isinstance(error, sqlite3.OperationalError) or "no such table" in str(error)


NO_PLACES = ("none", "databricks", "databricks-uc", "uc", f"{SQLITE}:memory:")
"""Addresses of one word that look like a file's, and are none."""


def is_server(uri: str) -> bool:
    """Whether a server answers there, whose address means the same on other machines."""
    parts = urlsplit(expanded(uri, PLACE))
    host = parts.hostname or ""
    on_this_machine = host in ("", "localhost", "::1") or host.startswith("127.")
    return parts.scheme in ("http", "https") and not on_this_machine


def load_mlflow() -> tuple[type[Exception], ...]:
    """Load MLflow, quietly, here and nowhere earlier; returns what its calls raise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # the outbox tries again; a single call must not take minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # our standard output is data
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.exceptions import MlflowException

    return (MlflowException, OSError)


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """Within: whatever goes wrong between us and the store at `uri` is one clear error."""
    try:
        yield
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"{PLACE}: {redacted(uri)} needs the Python package {error.name}, which is not"
            f" installed here: pip install '{DRIVERS.get(error.name or '', error.name)}'"
        ) from error
    except Exception as error:  # of MLflow, its database layer, its drivers
        raise UserError(
            f"{PLACE}: must be an MLflow store that answers, got '{redacted(uri)}':"
            f" {reason_of(error)}{ACCOUNT if 'error code 401' in str(error) else ''}"
        ) from error


ACCOUNT = (
    "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the"
    " environment to those of an account there"
)
"""What to do where a server does not know who asks."""

DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Module of a database's driver -> package that has it, where the names differ."""


def open_client(uri: str) -> Any:
    """A client of the store at `uri` (variables of the environment still in it).

    A database is made, where it is not there, by one process at a time: MLflow's own migration
    leaves a broken one where two start at once.
    """
    address = absolute_uri(expanded(uri, PLACE))
    load_mlflow()
    from mlflow import MlflowClient

    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    file = database_file(address)
    if file is None:
        with _reached(address):
            return MlflowClient(tracking_uri=address)
    busy = f"{PLACE}: {file} is being made by another process; try again"
    with locks.held(file.parent, patience=MAKING_S, busy=busy, name=f".{file.name}.lock"):
        return MlflowClient(tracking_uri=address)


PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Kind of a database server that MLflow takes -> the port that it has where none is said."""

REACH_S = 5.0
TIMED_DRIVERS = ("psycopg2", "psycopg", "mysqldb", "pymysql")
"""Drivers that take `connect_timeout`, in seconds."""


@contextmanager
def _reached(address: str) -> Iterator[None]:
    """An error at once where a server does not answer, or a database does not take us: MLflow
    itself tries for minutes, without a word. A database's driver is looked for before; other
    stores, and those behind a proxy, are not asked.

    Within: no other process makes the tables of a database of PostgreSQL.
    """
    kind = address.partition("://")[0].partition("+")[0]
    if kind in ("http", "https"):
        _reach_server(address)
    if kind not in PORTS:
        yield
        return
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.pool import NullPool

    url = make_url(address)
    url.get_dialect().import_dbapi()
    if url.host is not None:
        where = (url.host, url.port or PORTS[kind])
        socket.create_connection(where, timeout=REACH_S).close()
    asked = url.get_dialect().driver in TIMED_DRIVERS and "connect_timeout" not in url.query
    limit = {"connect_timeout": int(REACH_S)} if asked else {}
    with create_engine(url, poolclass=NullPool, connect_args=limit).connect() as database:
        if kind == "postgresql":
            _take_turn(database, address)
        yield


def _take_turn(database: Any, address: str) -> None:
    """Hold the lock of those that make tables until the transaction of this connection ends: a
    pooler may keep the connection itself, with all that belongs to it.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    database.execute(text(f"set local lock_timeout = {int(MAKING_S * 1000)}"))
    try:
        database.execute(text(f"select pg_advisory_xact_lock({MAKING_LOCK})"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", "")) != LOCK_NOT_AVAILABLE:
            raise
        raise UserError(
            f"{PLACE}: {redacted(address)} is being made by another process; try again"
        ) from error


MAKING_LOCK = 7_161_201
"""Ours, among the advisory locks of a database."""
LOCK_NOT_AVAILABLE = "55P03"
"""What PostgreSQL says after `lock_timeout`."""


def _reach_server(address: str) -> None:
    parts = urlsplit(address)
    if parts.hostname is None:
        raise UserError(f"{PLACE}: must name a host, got '{redacted(address)}'")
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    socket.create_connection((parts.hostname, port), timeout=REACH_S).close()


def check_store(uri: str) -> str:
    """What a store answers, in words; UserError where it does not. A database is not made."""
    file = database_file(expanded(uri, PLACE))
    if file is not None and not file.exists():
        there = next(folder for folder in file.absolute().parents if folder.exists())
        if not os.access(there, os.W_OK):
            raise UserError(f"{PLACE}: {there} must be a folder that can be written")
        return "will be made"
    with reported(uri):
        open_client(uri).search_experiments(max_results=1)
    return "answers"


def unanswered(uri: str) -> str:
    """Why a store does not answer this machine; empty: it does."""
    try:
        check_store(uri)
    except UserError as error:
        return redacted(str(error))
    return ""


def may_be_told(uri: str) -> bool:
    """Whether other machines may be told of a store, and reach the same one: a server's, without a
    password written out.
    """
    return redacted(uri) == uri and is_server(uri)


def experiment_id(client: Any, uri: str, name: str) -> str:
    """Id of the experiment, made if it is not there; beside a database file its artifacts lie
    beside that file.
    """
    known = client.get_experiment_by_name(name)
    if known is None:
        file = database_file(uri)
        beside = None if file is None else (file.parent / "mlartifacts" / name).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=beside))
        except load_mlflow():
            known = client.get_experiment_by_name(name)  # another sweep was faster
            if known is None:
                raise
    if known.lifecycle_stage != "active":
        raise UserError(
            f"tracking.experiment: '{name}' was deleted from {redacted(uri)}; restore it or give"
            " another name"
        )
    return str(known.experiment_id)


def every(search: Callable[..., Any], *what: Any, **options: Any) -> Iterator[Any]:
    """What a store finds; it gives a page at a time."""
    token = None
    while True:
        page = search(*what, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


class Answers:
    """A client of which every answered call is counted."""

    def __init__(self, client: Any, answered: Callable[[], None]) -> None:
        self._client = client
        self._answered = answered

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            answer = call(*arguments, **options)
            self._answered()
            return answer

        return counted


def may_pass(error: Exception) -> bool:
    """Whether a later attempt could succeed: False for what MLflow refuses, True for a connection
    that fails, a database that is locked and whatever a server cannot explain.
    """
    code = getattr(error, "error_code", None)
    if code is not None:
        return code not in FINAL_CODES
    return is_away(error) or (isinstance(error, OSError) and error.errno is None)


def is_away(error: BaseException) -> bool:
    """Whether the error says that nobody answers where the store is, or that it cannot answer now:
    what a wrong address or password does not say.
    """
    from requests import exceptions as http

    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(each, http.SSLError) for each in chain):
        return False
    silent = ConnectionError | TimeoutError | socket.gaierror
    unheard = http.ConnectionError | http.Timeout | http.RetryError
    return any(
        isinstance(each, silent | unheard)
        or (isinstance(each, OSError) and each.errno in UNREACHABLE)
        or (type(each).__name__ in DATABASE_ERRORS and any(say in str(each) for say in NOT_NOW))
        for each in chain
    )


UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)
DATABASE_ERRORS = ("OperationalError",)  # of SQLAlchemy and of every driver
NOT_NOW = (
    "starting up",
    "shutting down",
    "too many c",  # clients, connections
    "remaining connection slots",
    "server closed the connection",
    "server has gone away",
    "Lost connection",
    "database is locked",
    "timeout expired",
    "timed out",
)
"""Parts of what a database says that is there, or was, and takes nobody now."""


def reason_of(error: Exception) -> str:
    """The first line of an error, without passwords."""
    return redacted((str(error).splitlines() or [type(error).__name__])[0][:300])


def ui_command(uri: str, host: str, port: int) -> tuple[list[str], Mapping[str, str]]:
    """The command line that serves MLflow's interface on the store at `uri`, and what its
    environment needs beside ours: an address with a password is no business of a process list.

    A server that already runs is an error that names it.
    """
    address = absolute_uri(expanded(uri, PLACE))
    if address == "none":
        raise UserError(f"{PLACE}: is none, this sweep was not recorded in MLflow")
    if address.startswith(("http://", "https://")):
        raise UserError(f"{PLACE}: {redacted(uri)} is a server already, open it in a browser")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    return command, {"MLFLOW_BACKEND_STORE_URI": address}
