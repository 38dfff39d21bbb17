"""A password in `tracking.uri` is used and never seen: not in messages, not in files."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import pytest

from orchestrator.conduct import conduct
from orchestrator.planning.check import checked_sweep
from orchestrator.record.folder import load_folder, prepare
from orchestrator.record.stop_requests import Stop
from orchestrator.sweep.document import show
from orchestrator.sweep.secrets import expanded
from orchestrator.tracking.client import check_store, reported
from orchestrator.tracking.find import find_trial
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tuning import cluster, run
from tests.orchestrator.sweep_files import SMALL, loaded, written
from trainables.contract.errors import UserError
from trainables.contract.secrets import redacted

SECRET = "hunter2"
ADDRESS = f"http://nobody:{SECRET}@127.0.0.1:9"
SHOWN = "http://nobody:***@127.0.0.1:9"


def everything(folder):
    """The content of all files under `folder`, their names before it."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_kept_secret(folder, *texts):
    for text in texts:
        assert SECRET not in text
    for name, content in everything(folder).items():
        assert SECRET not in name
        assert SECRET.encode() not in content, name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ADDRESS, SHOWN),
        ("postgresql+psycopg2://u:p@ss/w@h:5432/db", "postgresql+psycopg2://u:***@h:5432/db"),
        ("mysql://h/db?user=u&password=geheim&x=1", "mysql://h/db?user=u&password=***&x=1"),
        ("https://u:${PASSWORD}@h", "https://u:${PASSWORD}@h"),
        ("https://u@h:80/a", "https://u@h:80/a"),
        ("https://dapi0123456789abcdef0123@h/a", "https://***@h/a"),
        ("https://a-service-account-of-ours@h/a", "https://a-service-account-of-ours@h/a"),
        ("https://h/s?sig=a: must", "https://h/s?sig=***: must"),
        ("https://h/s?design=a&region=b", "https://h/s?design=a&region=b"),
        ("http://localhost:5000/#/experiments/1", "http://localhost:5000/#/experiments/1"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        (f"uri: '{ADDRESS}' # and {ADDRESS}", f"uri: '{SHOWN}' # and {SHOWN}"),
    ],
)
def test_redacted(text, shown):
    assert redacted(text) == shown
    assert redacted(shown) == shown


def test_variables_are_read_when_they_are_used(monkeypatch):
    monkeypatch.delenv("PW", raising=False)
    with pytest.raises(UserError, match=r"s\.yaml:3: environment variable PW is not set"):
        expanded("http://u:${PW}@h", "s.yaml:3")
    monkeypatch.setenv("PW", SECRET)
    assert expanded("http://u:${PW}@${HOST:-h}", "x") == f"http://u:{SECRET}@h"
    for kept in ("http://u:***@h", "http://***@h", "http://h?token=***"):
        with pytest.raises(UserError, match=f"the password of {re.escape(kept)} is not kept"):
            expanded(kept, "tracking.uri")


@pytest.mark.parametrize("written", [ADDRESS, "http://nobody:${PLANTED}@127.0.0.1:9"])
@pytest.mark.parametrize("by", ["file", "--set"])
def test_a_sweeps_folder_holds_no_password(tmp_path, monkeypatch, written, by):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTED", SECRET)
    text = SMALL + (f"tracking: {{uri: '{written}'}}\n" if by == "file" else "")
    sweep = loaded(tmp_path, text, *([f"tracking.uri={written}"] if by == "--set" else []))
    (tmp_path / "s.yaml").unlink()
    assert expanded(sweep.tracking.uri, "") == ADDRESS
    run = tmp_path / "runs" / "small"
    prepare(sweep, run)
    known = load_folder(run).tracking.uri
    assert known == (written if "$" in written else SHOWN)
    assert_kept_secret(tmp_path, json.dumps(sweep.resolved()), sweep.text, show(written))
    monkeypatch.delenv("PLANTED")
    assert load_folder(run).tracking.uri == known  # status and report need no secret
    if "$" not in written:
        with pytest.raises(UserError, match="is not kept with the sweep"):
            expanded(known, "tracking.uri")


@pytest.mark.parametrize(
    "store", [f"s3://key:{SECRET}@b/s", f"s3://key:a/{SECRET}@b/s", f"https://h/s?sig={SECRET}"]
)
def test_a_data_store_with_a_password_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, caplog, capfd, store
):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, SMALL)
    with pytest.raises(UserError, match="must not hold a password") as caught:
        checked_sweep(file, [f"data.store={store}"])
    out, err = capfd.readouterr()
    assert_kept_secret(tmp_path, str(caught.value), caplog.text, out, err)


def test_a_storage_with_a_password_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, caplog, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    file = written(tmp_path, SMALL)
    with pytest.raises(UserError, match=r"storage: s3.*: must not hold a password") as caught:
        checked_sweep(file, [f"storage=s3://key:{SECRET}@bucket/runs"], data=False)
    out, err = capfd.readouterr()
    assert_kept_secret(tmp_path, str(caught.value), caplog.text, out, err)


def test_a_server_that_does_not_know_who_asks_says_what_to_set():
    with (
        pytest.raises(UserError, match=r"got 'http://h': .* 401 != 200; set MLFLOW_TRACK"),
        reported("http://h"),
    ):
        raise RuntimeError("API request to endpoint /x failed with error code 401 != 200")


def test_messages_of_a_store_that_does_not_answer_hold_no_password(
    tmp_path, monkeypatch, caplog, capfd
):
    monkeypatch.chdir(tmp_path)
    for name in ("MAX_RETRIES", "TIMEOUT"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "1")
    monkeypatch.setattr(run, "run_trials", lambda context: Stop("person", "asked"))
    monkeypatch.setattr(cluster, "cluster_ahead", lambda *_: nullcontext(None))
    monkeypatch.setitem(MLflowTracker.__init__.__kwdefaults__, "patience", 0.0)
    sweep = loaded(tmp_path, SMALL, f"tracking.uri={ADDRESS}")
    notes = []
    outcome = conduct(sweep, None, notes.append)
    assert f"MLflow at {SHOWN} does not answer" in caplog.text
    with pytest.raises(UserError, match="must be an MLflow store that answers") as caught:
        check_store(ADDRESS)
    with pytest.raises(UserError) as sought:
        find_trial(ADDRESS, "a" * 32)
    out, err = capfd.readouterr()
    assert SHOWN in str(caught.value)
    said = (*outcome.messages, *notes, str(caught.value), str(sought.value), caplog.text)
    assert_kept_secret(tmp_path, *said, out, err)
