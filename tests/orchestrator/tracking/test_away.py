"""What a store's error means: nobody is there now, or it would be the same at any time."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from orchestrator.tracking.client import is_away, may_pass, open_client
from orchestrator.tracking.mlflow import MLflowTracker
from trainables.contract.errors import UserError


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def answering():
    """Serves every request with the status in `answering.status`, and notes who asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.headers.get("Authorization"))
            self.send_response(server.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"no")

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.asked = 200, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def asked(address):
    """The error of asking a store."""
    try:
        open_client(address).search_experiments(max_results=1)
    except Exception as error:
        return error
    raise AssertionError(f"{address} answers")


@pytest.mark.parametrize(
    ("address", "away"),
    [
        ("http://127.0.0.1:9", True),
        ("https://127.0.0.1:9", True),
        ("http://nobody.invalid:5000", True),  # a name may be made later, as in Kubernetes
        ("http://", False),
        ("http://[", False),
        ("http://127.0.0.1:port", False),
        ("ftp://127.0.0.1", False),
        ("nonsense://x", False),
        ("postgresql+psycopg2://u:p@127.0.0.1:9/x", True),
        ("postgresql+nothing://u:p@127.0.0.1:9/x", False),
    ],
)
def test_an_address_is_wrong_or_nobody_is_there_now(address, away):
    error = asked(address)
    assert is_away(error) is away
    assert not away or may_pass(error)


@pytest.mark.parametrize(
    ("status", "away"),
    [(401, False), (403, False), (404, False), (429, True), (500, True), (502, True), (503, True)],
)
def test_a_server_refuses_or_cannot_answer_now(answering, status, away):
    answering.status = status
    error = asked(answering.address)
    assert is_away(error) is away
    assert not away or may_pass(error)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_an_error_at_the_start(answering, status):
    answering.status = status
    with pytest.raises(UserError, match=f"must be an MLflow store that answers.*{status}"):
        MLflowTracker(answering.address, "e").start_sweep("s", {}, {})


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({"USERNAME": "me", "PASSWORD": "word"}, "Basic bWU6d29yZA=="),
        ({"TOKEN": "abc"}, "Bearer abc"),
    ],
    ids=["basic", "token"],
)
def test_who_asks_is_said_by_the_environment(answering, monkeypatch, environment, sent):
    for name, value in environment.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    answering.status = 401
    asked(answering.address)
    assert set(answering.asked) == {sent}


@pytest.mark.parametrize(
    ("said", "away"),
    [
        ("FATAL: the database system is starting up", True),
        ("FATAL: sorry, too many clients already", True),
        ("server closed the connection unexpectedly", True),
        ("database is locked", True),
        ('connection to server at "10.0.0.7", port 5432 failed: timeout expired', True),
        ('FATAL: password authentication failed for user "me"', False),
        ('FATAL: database "x" does not exist', False),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_database_refuses_or_takes_nobody_now(said, away, wrapped):
    error: Exception = OperationalError("select 1", None, Exception(said))
    if wrapped:
        outer = MlflowException("it failed")
        outer.__cause__, error = error, outer
    assert is_away(error) is away
