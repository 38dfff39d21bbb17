"""What the doctor finds, of machines that are told to it; one real look at this one."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from orchestrator import doctor
from orchestrator.doctor import HERE, examine, of_machine, of_worker
from orchestrator.planning import reaching
from orchestrator.planning.node_facts import NodeFacts, node_facts
from orchestrator.planning.reaching import Place
from orchestrator.tracking import client
from orchestrator.tuning import asking, cluster
from orchestrator.tuning.asking import NodeAnswer
from tests.naive_stores import clip, store
from tests.orchestrator.in_process import run_captured
from tests.orchestrator.sweep_files import SMALL, loaded, written
from trainables.contract.errors import UserError
from trainables.remote.filesystem import opened

FACTS = NodeFacts(
    name="node",
    cores=8,
    memory=64 * 2**30,
    gpus=("NVIDIA A100",),
    driver="570.1",
    versions={"Python": "3.11.7", "ray": "2.60.0"},
    torch_build="2.13.0+cu129",
    torch_gpus=("NVIDIA A100",),
    free={"/s/.doctor-x": 10**12, "/data": 10**12},
)
PROBE = Place("/s/.doctor-x", "word")
NO_TORCH = "orchestrator.planning.node_facts._torch"
"""Asking it takes seconds."""
NO_CUDA = {"torch_build": "2.13.0+cpu", "torch_gpus": ()}


def states(findings):
    return {finding.what: finding.state for finding in findings}


@pytest.mark.parametrize(
    ("change", "wants_gpu", "what", "state", "todo"),
    [
        ({}, True, "torch", "ok", ""),
        (NO_CUDA, True, "torch", "fails", "1 GPU that torch does not find"),
        (NO_CUDA, False, "torch", "warning", "install a build with CUDA"),
        (NO_CUDA | {"gpus": ()}, True, "torch", "fails", "the sweep asks for a GPU"),
        (NO_CUDA | {"gpus": ()}, False, "torch", "ok", ""),
        ({"torch_build": None, "torch_error": "no libcudart"}, False, "torch", "fails", "install"),
        ({"versions": {"ray": "not installed"}}, False, "versions", "fails", "install ray"),
        ({"free": {PROBE.folder: 10**8}}, False, "disk", "fails", "make room"),
        ({"free": {PROBE.folder: 10**10}}, False, "disk", "warning", "orchestrate plan"),
    ],
)
def test_what_would_fail_on_a_machine(change, wants_gpu, what, state, todo):
    facts = dataclasses.replace(FACTS, **change)
    resources = SimpleNamespace(gpus=1 if wants_gpu else "auto")
    sweep = SimpleNamespace(resources=resources, data=SimpleNamespace(store="/data"))
    found = list(of_machine("node", facts, sweep, PROBE))
    [finding] = [each for each in found if each.what == what]
    assert finding.state == state
    assert todo in finding.todo
    assert bool(finding.todo) == (state != "ok")
    assert all(each.state == "ok" for each in found if each.what != what)


def test_a_worker_that_sees_what_the_driver_sees():
    found = list(of_worker("node", FACTS, FACTS, [PROBE, Place("/data")]))
    assert states(found) == {"storage seen by a worker": "ok", "same versions": "ok"}
    assert found[0].said == "/s, /data"


def test_a_worker_that_does_not_see_the_store_and_has_another_ray():
    other = dataclasses.replace(
        FACTS,
        versions=FACTS.versions | {"ray": "2.59.0"},
        unreachable={"/data": "No such file or directory"},
    )
    found = list(of_worker("node", other, FACTS, [PROBE, Place("/data")]))
    failing = [each for each in found if each.state == "fails"]
    assert [each.said for each in failing] == ["/data: No such file or directory", "ray 2.59.0"]
    assert failing[0].todo == "mount it under the same path on every node"
    assert "here: ray 2.60.0" in failing[1].todo


def test_a_folder_of_the_same_name_elsewhere_is_not_taken_for_the_same(tmp_path):
    (tmp_path / "word").write_text("another")
    facts = node_facts((Place(str(tmp_path), "mine"), Place(str(tmp_path / "lost"))))
    assert facts.unreachable == {
        str(tmp_path): "another folder lies there under the same path",
        str(tmp_path / "lost"): "No such file or directory",
    }
    assert facts.cores >= 1
    assert facts.memory > 2**28
    assert facts.torch_build
    assert facts.versions["ray"][0].isdigit()


def at_address(tmp_path: Path, storage: str, store: str = "nowhere"):
    """A sweep whose results go to an address."""
    sweep = loaded(tmp_path, SMALL, "tracking.uri=none", f"data.store={store}")
    return sweep.model_copy(update={"storage": storage})


def test_storage_and_store_at_addresses_answer_here_and_from_a_worker(rays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = store(tmp_path / "store", [clip("a"), clip("b", split="test")])
    sweep = at_address(tmp_path, f"file://{tmp_path}/bucket", f"file://{made.path}")
    seen = []

    def ask(question, places):
        seen.extend(places)
        return [NodeAnswer("b", {"CPU": 1.0}, node_facts(places))]

    monkeypatch.setattr(asking, "ask_nodes", ask)
    monkeypatch.setattr(doctor, "node_facts", node_facts)
    monkeypatch.setattr(NO_TORCH, dict)
    found = examine(sweep, "10.0.0.1:6379", lambda _: None)
    said = {(each.where, each.what): each for each in found}
    assert (
        said[HERE, "storage"].said == f"file://{tmp_path}/bucket: read, written, listed and deleted"
    )
    worker = said["b", "storage seen by a worker"]
    assert (worker.state, worker.said) == (
        "ok",
        f"file://{tmp_path}/bucket, file://{made.path}",
    )
    assert said["b", "disk"].said.endswith(f"GB free in {os.environ['ORCHESTRATE_CACHE']}")
    assert [place.shown for place in seen] == [f"file://{tmp_path}/bucket", f"file://{made.path}"]
    assert not list((tmp_path / "bucket").iterdir())  # what was written is gone


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (Place("memory://empty/.doctor-1", "word"), "there is no word, which this machine should"),
        (Place("memory://other/.doctor-1", "mine"), "another bucket is reached by the same"),
        (Place("memory://empty", file="dataset.json"), "there is no dataset.json, which this"),
        (Place("gs://bucket/runs", "word"), "needs the extra 'gcs', which is not installed"),
    ],
)
def test_a_worker_that_does_not_reach_an_address_says_why(place, reason, monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    opened("memory://other")[0].pipe_file("/other/.doctor-1/word", b"theirs")
    monkeypatch.setattr(NO_TORCH, dict)
    facts = node_facts((place,))
    assert facts.unreachable[place.folder].startswith(reason)
    [finding] = [each for each in of_worker("b", facts, facts, [place]) if each.state == "fails"]
    assert finding.said.startswith(f"{place.shown}: {reason}")
    assert finding.todo.startswith("give every node the package and the credentials")


@pytest.mark.parametrize(
    ("refusing_store", "said"),
    [
        ((403, "AccessDenied", ("PUT",)), "s3://bucket/runs: no right to write there"),
        ((404, "NoSuchBucket"), "s3://bucket/runs: there is no bucket 'bucket'"),
    ],
    indirect=["refusing_store"],
    ids=str,
)
def test_a_bucket_that_refuses_is_a_finding(refusing_store, said, tmp_path, monkeypatch):
    monkeypatch.setattr(NO_TORCH, dict)
    monkeypatch.chdir(tmp_path)
    [found] = examine(at_address(tmp_path, "s3://bucket/runs"), None, lambda _: None)
    assert (found.where, found.what, found.state) == (HERE, "storage", "fails")
    assert found.said.startswith(said)


def test_a_bucket_is_left_as_it_was(object_store):
    address = f"{object_store.bucket()}/runs"
    with reaching.probe(address) as place:
        assert place.shown == address
        assert reaching.unreached(place, "node") is None
        assert reaching.makes_once(place)
    files, root = opened(address)
    assert files.find(root.partition("/")[0]) == []


def test_a_storage_that_cannot_refuse_a_second_driver_is_a_warning(rays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "makes_once", lambda place: False)
    found = examine(at_address(tmp_path, f"file://{tmp_path}/bucket"), None, lambda _: None)
    [storage] = [each for each in found if (each.where, each.what) == (HERE, "storage")]
    assert storage.state == "warning"
    assert "start no second driver" in storage.todo


@pytest.fixture
def rays(monkeypatch):
    """A Ray that is not started: its nodes answer what they are told to."""
    answers = []

    @contextmanager
    def ray_cluster(address, note):
        yield SimpleNamespace(shared=address is not None)

    monkeypatch.setattr(cluster, "ray_cluster", ray_cluster)
    monkeypatch.setattr(asking, "ask_nodes", lambda question, places: answers)
    monkeypatch.setattr(doctor, "node_facts", lambda places: FACTS)
    return answers


def test_nodes_are_told_apart(rays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = dataclasses.replace(FACTS, name="b")
    rays += [
        NodeAnswer("a (10.0.0.1)", {"CPU": 8.0}, None, "ModuleNotFoundError: orchestrator"),
        NodeAnswer("b (10.0.0.2)", {"CPU": 8.0}, facts),
    ]
    found = examine(None, "10.0.0.1:6379", lambda _: None)
    failing = [each for each in found if each.state == "fails"]
    assert [(each.where, each.what) for each in failing] == [("a (10.0.0.1)", "worker")]
    assert "install the project on every node" in failing[0].todo
    assert {"machine", "torch"} <= {each.what for each in found if each.where.startswith("b")}
    assert not list(tmp_path.iterdir())  # what was written is gone


def test_nodes_of_a_cluster_that_the_environment_names_are_told_in_full(
    rays, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    @contextmanager
    def joined(address, note):  # RAY_ADDRESS
        yield SimpleNamespace(shared=True)

    monkeypatch.setattr(cluster, "ray_cluster", joined)
    rays.append(NodeAnswer("b", {"CPU": 8.0}, FACTS))
    found = examine(None, None, lambda _: None)
    assert {"machine", "versions", "torch"} <= {each.what for each in found if each.where == "b"}


def test_a_ray_that_does_not_answer_is_a_finding(monkeypatch, rays, tmp_path):
    monkeypatch.chdir(tmp_path)

    def refuse(address, note):
        raise UserError("--address: must be HOST:PORT of a running Ray cluster")

    monkeypatch.setattr(cluster, "ray_cluster", refuse)
    found = examine(None, "10.0.0.9:1", lambda _: None)
    assert found[-1].what == "Ray"
    assert found[-1].state == "fails"


def test_a_storage_that_cannot_be_written_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reaching.tempfile, "mkdtemp", refuse)  # root writes everywhere
    [found] = examine(None, None, lambda _: None)
    assert (found.what, found.state) == ("storage", "fails")
    assert found.said == f"{tmp_path}: Permission denied"


@pytest.mark.parametrize(
    ("uri", "state", "said"),
    [
        ("none", "ok", "nothing is recorded"),
        ("sqlite:///mlflow.db", "ok", "sqlite:///mlflow.db: will be made"),
        ("http://u:hunter2@127.0.0.1:9", "fails", "must be an MLflow store that answers"),
    ],
)
def test_stores_of_a_sweep(rays, tmp_path, monkeypatch, uri, state, said):
    monkeypatch.chdir(tmp_path)
    for name in ("MAX_RETRIES", "TIMEOUT"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "1")
    rays.append(NodeAnswer("b", {"CPU": 8.0}, FACTS))
    sweep = loaded(tmp_path, SMALL, f"tracking.uri={uri}")
    said_before = []
    found = examine(sweep, None, said_before.append)
    assert "asking MLflow" in said_before
    [tracking] = [each for each in found if each.what == "MLflow"]
    assert tracking.state == state
    assert said in tracking.said
    assert "hunter2" not in str(found)
    assert states(found)["store"] == "fails"  # nowhere
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_nodes_that_do_not_reach_the_tracker_leave_it_to_the_driver(rays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rays.append(NodeAnswer("b", {"CPU": 8.0}, FACTS))
    tracked = [
        NodeAnswer("a", {}, None, "no answer for 180 s"),
        NodeAnswer("b", {}, "error code 401"),
        NodeAnswer("c", {}, ""),
    ]

    def ask_nodes(question, *what):
        if question is not client.unanswered:
            return rays
        assert what == ("http://h:5000",)
        return tracked

    monkeypatch.setattr(asking, "ask_nodes", ask_nodes)
    monkeypatch.setattr(client, "check_store", lambda uri: "answers")
    for uri, expected in (("http://h:5000", "warning warning ok".split()), ("sqlite:///x.db", [])):
        found = examine(loaded(tmp_path, SMALL, f"tracking.uri={uri}"), "h:1", lambda _: None)
        seen = [each for each in found if each.what == "MLflow seen by a worker"]
        assert [each.state for each in seen] == expected


def test_the_command_says_it_with_its_exit_code(rays, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rays.append(NodeAnswer("b", {"CPU": 8.0}, FACTS))
    code, out, _ = run_captured(capsys, "doctor")
    assert code == 0
    assert HERE in out
    assert out.rstrip().endswith("all is well")
    code, out, _ = run_captured(capsys, "doctor", written(tmp_path, SMALL), "--json")
    assert code == 4
    assert {"where", "what", "state", "said", "todo"} == set(json.loads(out)[0])
    code, out, err = run_captured(capsys, "doctor", "nowhere.yaml")
    assert (code, out) == (2, "")
    assert "nowhere.yaml" in err


class FakeNodes:
    """Stands for Ray's nodes and tasks."""

    def __init__(self, monkeypatch, outcomes):
        self.outcomes = outcomes
        names = ("remote", "nodes", "wait", "get")
        for name in names:
            monkeypatch.setattr(asking.ray, name, getattr(self, name))

    def nodes(self):
        entry = {"NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 2.0}}
        return [
            entry
            | {
                "NodeID": name * 56,
                "NodeManagerHostname": "a" if name == "e" else name,
                "Alive": outcome != "dead",
            }
            for name, outcome in self.outcomes.items()
        ]

    def remote(self, **options):
        assert options == {"num_cpus": 0, "max_retries": 0}
        asked = iter([name for name, outcome in self.outcomes.items() if outcome != "dead"])
        task = SimpleNamespace(remote=lambda *arguments: next(asked))
        return lambda question: SimpleNamespace(options=lambda scheduling_strategy: task)

    def wait(self, asked, num_returns, timeout):
        return [name for name in asked if self.outcomes[name] != "silent"], []

    def get(self, name):
        if self.outcomes[name] == "broken":
            raise asking.RayError("a long story\nModuleNotFoundError: No module named 'x'\n")
        return self.outcomes[name]


def test_every_node_that_lives_answers_or_says_why_not(monkeypatch):
    FakeNodes(monkeypatch, {"a": 7, "b": "broken", "c": "silent", "d": "dead", "e": 8})
    answers = asking.ask_nodes(len)
    assert [(each.node, each.answer, each.error) for each in answers] == [
        ("a (10.0.0.1) aaaaaa", 7, ""),
        ("b (10.0.0.1)", None, "ModuleNotFoundError: No module named 'x'"),
        ("c (10.0.0.1)", None, "no answer for 180 s"),
        ("a (10.0.0.1) eeeeee", 8, ""),
    ]


@pytest.mark.parametrize(
    "error", [asking.RayError("the head is gone\nand more"), ConnectionError("the head is gone")]
)
def test_a_head_that_dies_while_it_is_asked_is_one_message(monkeypatch, error):
    FakeNodes(monkeypatch, {"a": 7})

    def dies(*_, **__):
        raise error

    monkeypatch.setattr(asking.ray, "wait", dies)
    with pytest.raises(UserError, match=r"does not answer any more: the head is gone$"):
        asking.ask_nodes(len)
