"""What runs on a worker: on another node than the driver's it sends files on."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from orchestrator.tracking import sending
from orchestrator.tracking.tracker import NullTracker
from orchestrator.tuning import trainable
from orchestrator.tuning.trainable import elsewhere_of, train_and_send
from trainables.contract.artifacts import TrialDir

STORE = {"uri": "http://h:5000", "experiment": "1", "parent": "p"}


@pytest.fixture
def sent(monkeypatch, tmp_path):
    """What is sent of a trial that ends at once."""
    found = []
    sender = SimpleNamespace(send=lambda store, folder: found.append((store, folder)))
    monkeypatch.setattr(sending, "SENDER", sender)
    monkeypatch.setattr(trainable, "train", lambda request, send: send(tmp_path))
    return found


@pytest.mark.parametrize("node", ["of the driver", "another"])
def test_files_are_sent_from_other_nodes_than_the_drivers_alone(sent, monkeypatch, tmp_path, node):
    tracker = SimpleNamespace(artifact_store=lambda: STORE)
    monkeypatch.setattr(trainable, "_this_node", lambda: "of the driver")
    request = {"elsewhere": elsewhere_of(tracker)}
    monkeypatch.setattr(trainable, "_this_node", lambda: node)
    train_and_send(request)
    assert sent == ([(STORE, tmp_path)] if node == "another" else [])


def test_an_environment_that_lacks_something_fails_no_trial(monkeypatch, tmp_path):
    def broken():
        raise ModuleNotFoundError("No module named 'requests'")

    monkeypatch.setattr(trainable, "_this_node", broken)
    assert trainable._send({"driver": "a", "store": STORE}, TrialDir(tmp_path)) is None


def test_without_a_server_nothing_is_sent_and_nobody_is_asked_for_a_node(sent):
    train_and_send({"elsewhere": elsewhere_of(NullTracker())})
    assert sent == []


def test_a_worker_imports_no_tracker_before_it_sends():
    code = (
        "import sys, orchestrator.tuning.trainable\n"
        "sys.exit(any(name.startswith(('mlflow', 'orchestrator.tracking', 'ray', 'torch'))"
        " for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
