"""Nodes that fail their trials are left out of where Ray puts the next ones, and this is said."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from ray.air.execution.resources.request import ResourceRequest
from ray.tune.execution import tune_controller

from orchestrator.record.decisions import excluded_nodes
from orchestrator.record.journal import Journal, read_journal
from orchestrator.sweep import Resources
from orchestrator.sweep.schema import Failure
from orchestrator.tuning import nodes
from orchestrator.tuning.cluster import Slots
from orchestrator.tuning.nodes import NODE_ID, NodeWatch, node_of, placed_elsewhere, usable_nodes
from orchestrator.tuning.workers import Death


class Cluster:
    """Three nodes, and where each trial runs."""

    def __init__(self, folder, monkeypatch):
        self.now, self.where, self.counts = 0.0, {}, True
        self.signalled = False
        self.taken_back, self.said = [], []
        self.context = SimpleNamespace(
            journal=Journal(folder / "journal.jsonl"),
            sweep=SimpleNamespace(resources=Resources(), failure=Failure()),
        )
        self.trials = {name: self.trial(name) for name in "vwxyz"}
        monkeypatch.setattr(nodes, "time", SimpleNamespace(monotonic=self.tick))
        monkeypatch.setattr(nodes, "node_of", lambda trial: self.where[trial.name])
        monkeypatch.setattr(nodes, "host_of", lambda node: f"10.0.0.{node}")
        monkeypatch.setattr(nodes, "usable_nodes", lambda *_: ["1", "2", "3"])
        monkeypatch.setattr(nodes, "death_of", lambda trial: Death("", self.counts))
        self.watch = self.started()

    def trial(self, name):
        metadata = SimpleNamespace(num_failures=0)
        return SimpleNamespace(name=name, run_metadata=metadata, last_result={})

    def tick(self):
        self.now += 1.0
        return self.now

    def started(self):
        return NodeWatch(
            self.context,
            Slots(1.0, 0.0, 3),
            lambda trial: trial.name,
            lambda *told: self.taken_back.append(told),
            lambda death: self.signalled,
            self.said.append,
        )

    def happens(self, name, node, event, **result):
        trial, everyone = self.trials[name], list(self.trials.values())
        self.where[name] = node
        self.watch.on_trial_start(0, everyone, trial)
        if event == "result":
            self.watch.on_trial_result(0, everyone, trial, result)
            return
        trial.run_metadata.num_failures += event in ("recover", "error")
        getattr(self.watch, f"on_trial_{event}")(0, everyone, trial)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    return Cluster(tmp_path, monkeypatch)


def broken(cluster):
    """Three trials fail on node 1 and get on elsewhere, one of them after two attempts there."""
    cluster.happens("x", "1", "recover")
    for name in "xyz":
        cluster.happens(name, "1", "recover")
        cluster.happens(name, "2", "result", epoch=0)


def test_a_node_is_given_up_once_and_its_failures_cost_no_restarts(cluster):
    broken(cluster)
    assert cluster.watch.avoided() == {"1"}
    [event] = read_journal(cluster.context.journal.path)
    assert (event["event"], event["node"], event["host"]) == ("node_excluded", "1", "10.0.0.1")
    assert event["failures"] == {"x": 2, "y": 1, "z": 1}
    assert sorted(cluster.taken_back) == [("x", 2), ("y", 1), ("z", 1)]
    assert {t.run_metadata.num_failures for t in cluster.trials.values()} == {0}
    [line] = cluster.said
    assert line.startswith("EXCLUDED  node 1 on 10.0.0.1: 4 attempts of 3 trials failed there")
    cluster.happens("v", "1", "recover")  # it had been put there before
    assert len(cluster.said) == 1


def test_the_next_driver_leaves_it_out_as_well(cluster):
    broken(cluster)
    assert cluster.started().avoided() == {"1"}
    [(node, words)] = excluded_nodes(read_journal(cluster.context.journal.path)).items()
    assert (node, words.partition(":")[0]) == ("1", "10.0.0.1")


def test_the_loss_of_nodes_says_nothing_of_them(cluster):
    cluster.counts = False
    broken(cluster)
    assert cluster.watch.avoided() == set()
    assert cluster.said == []


def test_workers_that_ended_with_the_driver_say_nothing_of_their_node(cluster):
    """A signal to all processes of a sweep ends those on one node; the next driver has it still."""
    cluster.signalled = True
    broken(cluster)
    assert cluster.watch.avoided() == set()
    assert cluster.started().avoided() == set()
    assert cluster.said == []


def test_a_trial_that_finishes_there_takes_a_failure_back(cluster):
    for name in "xy":
        cluster.happens(name, "1", "result", epoch=0)
        cluster.happens(name, "1", "recover")
        cluster.happens(name, "2", "result", epoch=1)
    cluster.trials["w"].last_result = {"complete": True}
    cluster.happens("w", "1", "complete")
    cluster.happens("z", "1", "error")
    cluster.happens("z", "2", "result", epoch=0)
    assert cluster.said == []


def test_steps_within_an_epoch_are_no_progress(cluster):
    for name in "xyz":
        cluster.happens(name, "1", "recover")
        cluster.happens(name, "2", "result", step=3)
    assert cluster.said == []


class Groups:
    """In the place of Ray's placement groups."""

    def __init__(self, monkeypatch):
        self.made, self.removed, self._number = {}, [], itertools.count()
        self.ready = []
        monkeypatch.setattr(nodes, "placement_group", self.make)
        monkeypatch.setattr(nodes, "remove_placement_group", self.removed.append)
        fake = SimpleNamespace(
            cancel=lambda future: None,
            wait=lambda futures, num_returns, timeout: (
                [future for future in futures if future in self.ready],
                [],
            ),
            is_initialized=lambda: False,
        )
        monkeypatch.setattr(nodes, "ray", fake)
        monkeypatch.setattr("ray.air.execution.resources.placement_group.ray", fake)

    def make(self, bundles, strategy, bundle_label_selector):
        group = Group(next(self._number))
        self.made[group] = bundle_label_selector
        return group

    @property
    def waiting(self):
        return [selector for group, selector in self.made.items() if group not in self.removed]


class Group:
    def __init__(self, number):
        self.number = number

    def ready(self):
        return f"future {self.number}"


def test_room_is_asked_for_on_other_nodes_and_again_when_these_change(monkeypatch):
    groups, avoided = Groups(monkeypatch), set()
    request = ResourceRequest([{"CPU": 1}])
    before = tune_controller.PlacementGroupResourceManager
    with placed_elsewhere(lambda: frozenset(avoided)):
        manager = tune_controller.PlacementGroupResourceManager()
    assert tune_controller.PlacementGroupResourceManager is before
    manager.request_resources(request)
    manager.request_resources(request)
    assert groups.waiting == [None, None]
    groups.ready.append("future 0")
    manager.update_state()
    avoided.update({"b", "a"})
    manager.update_state()
    assert groups.waiting == [None, [{NODE_ID: "!in(a,b)"}]]  # the first has its room
    assert len(manager.get_resource_futures()) == 1
    assert manager.has_resources_ready(request)
    manager.update_state()
    assert len(groups.made) == 3  # nothing changed since
    avoided.clear()
    manager.update_state()
    assert groups.waiting == [None, None]
    manager.clear()
    manager.request_resources(request)


@pytest.mark.parametrize("node", ["a", "b", None])
def test_a_worker_on_a_node_that_is_avoided_is_given_no_other_trial(monkeypatch, node):
    controller, asked = tune_controller.TuneController, []
    monkeypatch.setattr(controller, "_maybe_cache_trial_actor", lambda self, trial: True)
    monkeypatch.setattr(nodes, "node_of", lambda trial: asked.append(trial) or node)
    avoided, before = set(), controller._maybe_cache_trial_actor
    with placed_elsewhere(lambda: frozenset(avoided)):
        keeps = controller._maybe_cache_trial_actor
        assert keeps(None, "x")
        assert asked == []  # nothing is asked of Ray where no node is avoided
        avoided.add("a")
        assert keeps(None, "x") is (node != "a")
    assert controller._maybe_cache_trial_actor is before


def test_where_a_trial_runs_is_asked_of_ray(monkeypatch):
    def actors(actor_id):
        if actor_id != "ab":
            raise RuntimeError("the head is gone")
        return {"Address": {"NodeID": "n"}}

    monkeypatch.setattr(nodes.ray._private.state, "actors", actors)
    for number, node in (("ab", "n"), ("cd", None)):
        actor = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda number=number: number))
        trial = SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=actor))
        assert node_of(trial) == node
    assert node_of(SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=None))) is None


def test_nodes_that_can_hold_a_trial(monkeypatch):
    everything = [
        {"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0}},
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 1.0}},
        {"NodeID": "c", "Alive": False, "Resources": {"CPU": 4.0}},
    ]
    monkeypatch.setattr(nodes.ray, "nodes", lambda: everything)
    assert usable_nodes(Resources(), Slots(2.0, 0.0, 1)) == ["a"]


def test_a_class_of_rays_is_put_back_after_an_error():
    before = tune_controller.PlacementGroupResourceManager
    with pytest.raises(ValueError, match="later"), placed_elsewhere(frozenset):
        raise ValueError("later")
    assert tune_controller.PlacementGroupResourceManager is before
