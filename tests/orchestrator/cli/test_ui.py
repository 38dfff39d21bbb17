"""`orchestrate ui`: it serves a store that is there, and ends as it is asked to."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.record.journal import Journal
from orchestrator.tracking.pages import view_page
from tests.orchestrator.finished import finished
from tests.waiting import until

ROOT = Path(__file__).parents[3]
SLOW = """
import signal
import sys
from orchestrator.cli.commands import sweeps
from orchestrator.tracking import client

# a server that takes long to start
waits = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)"
client.ui_command = lambda uri, host, port: ([sys.executable, "-c", waits], {})
# whatever this was started by ignores
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["orchestrate", "ui", "--port", sys.argv[1]]
sweeps.main()
"""


def test_a_store_that_is_not_there_is_not_made(orchestrate, tmp_path, monkeypatch) -> None:
    run = finished(tmp_path)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    go = "; go to the folder in which the sweep was started, or name the store with --uri\n"
    file = tmp_path / "other/mlflow.db"
    assert orchestrate("ui", "small", "--storage", str(run.parent)) == (
        2,
        "",
        "tracking.uri of small: the MLflow store sqlite:///mlflow.db is not there:"
        f" {file} does not exist{go}",
    )
    for uri in ("sqlite:////gone/mlflow.db", "file:///gone", "gone/mlruns"):
        code, _, err = orchestrate("ui", "small", "--storage", str(run.parent), "--uri", uri)
        assert (code, err.partition(" does")[0].partition(" is not")[0]) == (
            2,
            f"--uri: the MLflow store {uri}",
        )
    code, _, err = orchestrate("ui", "--uri", "")
    assert (code, err) == (2, "--uri: must be a tracking store, got ''\n")
    assert orchestrate("ui")[2].startswith("--uri: the MLflow store sqlite:///mlflow.db is not")
    assert not list((tmp_path / "other").iterdir())


def test_a_named_store_is_shown_at_the_page_of_the_sweep(
    orchestrate, tmp_path, monkeypatch
) -> None:
    from orchestrator.cli.commands import serving

    run = finished(tmp_path)
    (tmp_path / "moved.db").touch()
    asked = []
    monkeypatch.setattr(serving, "serve", lambda *what: asked.append(what) or 0)
    uri = "sqlite:///moved.db"
    assert orchestrate("ui", "small", "--storage", str(run.parent), "--uri", uri)[0] == 0
    assert asked[0][1] == {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/moved.db"}


def test_a_store_of_another_sweep_is_not_shown(orchestrate, tmp_path, monkeypatch) -> None:
    from orchestrator.cli.commands import serving

    run = finished(tmp_path)
    Journal(run / "journal.jsonl").append("sweep_finished", mlflow=view_page("2", "c0ffee"))
    served = []
    monkeypatch.setattr(serving, "serve", lambda *what: served.append(what) or 0)
    asked = ("ui", "small", "--storage", str(run.parent), "--uri", "sqlite:///other.db")
    lacks = (
        "--uri: the MLflow store sqlite:///other.db has no run of small; go to the folder in which"
        " the sweep was started, or name the store with --uri\n"
    )
    (tmp_path / "other.db").write_text("no database, and longer than the first bytes of one\n" * 9)
    assert orchestrate(*asked) == (2, "", lacks)
    (tmp_path / "other.db").unlink()
    with closing(sqlite3.connect(tmp_path / "other.db")) as database, database:
        assert orchestrate(*asked) == (2, "", lacks)
        database.execute("create table runs (run_uuid text)")
        database.execute("insert into runs values ('decade')")
        database.commit()
        assert orchestrate(*asked) == (2, "", lacks)
        assert not served
        database.execute("insert into runs values ('c0ffee')")
    assert orchestrate(*asked)[0] == 0
    assert len(served) == 1


def test_asked_twice_a_server_that_does_not_end_is_killed(tmp_path) -> None:
    serves = (
        "import signal, sys; from orchestrator.cli.commands import serving;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); serving.GRACE_S = 600.0;"
        "serving.serve([sys.executable, '-c', sys.argv[1]], {})"
    )
    stays = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('told').touch())\n"
        "pathlib.Path('begun').touch()\n"
        "while True: time.sleep(0.05)"
    )
    served = subprocess.Popen(
        [sys.executable, "-c", serves, stays],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    for seen in ("begun", "told"):
        until((tmp_path / seen).exists)
        served.send_signal(signal.SIGINT)
    served.communicate(timeout=60)  # which ends where nobody holds stderr: the server is gone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_starts_ends_without_a_word(tmp_path, number) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    served = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(port)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until((tmp_path / "begun").exists)
    # to the group, as a terminal does
    os.killpg(served.pid, number)
    # ends where nobody holds stderr any more: the server has ended, too
    err = served.communicate(timeout=60)[1]
    assert (served.returncode, err.splitlines()[2:]) == (
        (130, ["interrupted"]) if number == signal.SIGINT else (143, [])
    )


def test_a_server_outlives_its_terminal_where_that_was_asked_for(tmp_path) -> None:
    serves = (
        "import signal, sys; from orchestrator.cli.commands.serving import serve;"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "sys.exit(serve([sys.executable, '-c', sys.argv[1]], {}))"
    )
    waits = (
        "import pathlib, time; pathlib.Path('begun').touch()\n"
        "while not pathlib.Path('end').exists(): time.sleep(0.05)"
    )
    served = subprocess.Popen(
        [sys.executable, "-c", serves, waits],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    until((tmp_path / "begun").exists)
    served.send_signal(signal.SIGHUP)
    (tmp_path / "end").touch()
    assert served.wait(60) == 0
