"""What a sweep says while none of its trials runs."""

from types import SimpleNamespace

import pytest

from orchestrator.sweep import Resources
from orchestrator.tuning import waiting
from orchestrator.tuning.cluster import Slots
from orchestrator.tuning.waiting import SAY_AGAIN_S, SLOW_START_S, WaitingForCores

GB = 2**30
SMALL, LARGE = {"CPU": 2.0, "memory": 4 * GB}, {"CPU": 4.0, "GPU": 1.0, "memory": 8 * GB}


def waiting_for(said=None, cpus=1, gpus=0.0, memory=None):
    wanted = Resources(cpus=cpus, per_trial_memory_gb=memory)
    note = (said if said is not None else []).append
    return WaitingForCores(wanted, Slots(float(cpus), gpus, 1), note)


@pytest.mark.parametrize(
    ("asked", "free", "lack"),
    [
        ({}, [{"CPU": 1.0}, {}], None),
        ({"gpus": 0.25}, [{}, {"CPU": 1.0, "GPU": 0.5}], None),
        (
            {},
            [{}, {"CPU": 0.5}],
            "1 CPU on one node: the nodes have (2 CPUs, 0 GPUs, 4.0 GB), (4 CPUs, 1 GPU, 8.0 GB),"
            " and free (0 CPUs, 0 GPUs, 0.0 GB), (0.5 CPUs, 0 GPUs, 0.0 GB)",
        ),
        # two cores are free, each on a node of its own
        (
            {"cpus": 2},
            [{"CPU": 1.0}, {"CPU": 1.0}],
            "2 CPUs on one node: the nodes have (2 CPUs, 0 GPUs, 4.0 GB), (4 CPUs, 1 GPU, 8.0 GB),"
            " and free 2 x (1 CPU, 0 GPUs, 0.0 GB)",
        ),
        # where the GPU is, no core is free
        (
            {"gpus": 1.0},
            [{"CPU": 2.0}, {"GPU": 1.0}],
            "1 CPU and 1 GPU on one node: the nodes have (2 CPUs, 0 GPUs, 4.0 GB), (4 CPUs, 1 GPU,"
            " 8.0 GB), and free (2 CPUs, 0 GPUs, 0.0 GB), (0 CPUs, 1 GPU, 0.0 GB)",
        ),
        (
            {"memory": 3.0},
            [{"CPU": 2.0, "memory": 2 * GB}],
            "1 CPU and 3 GB of memory on one node: the nodes have (2 CPUs, 0 GPUs, 4.0 GB), (4 CPUs"
            ", 1 GPU, 8.0 GB), and free (2 CPUs, 0 GPUs, 2.0 GB)",
        ),
        (
            {"cpus": 6},
            [SMALL, LARGE],
            "a node with 6 CPUs for a trial: those there are have (2 CPUs, 0 GPUs, 4.0 GB), (4 CPUs"
            ", 1 GPU, 8.0 GB); the sweep goes on when such a node joins the cluster",
        ),
    ],
)
def test_what_a_sweep_lacks(asked, free, lack):
    assert waiting_for(**asked).lack([SMALL, LARGE], free, [SMALL, LARGE]) == lack


def test_a_cluster_whose_nodes_left():
    assert waiting_for().lack([], [], []) == (
        "a node with 1 CPU for a trial: those there are have nothing; the sweep goes on when such a"
        " node joins the cluster"
    )


def test_a_node_that_the_autoscaler_is_to_start():
    assert waiting_for(cpus=4).lack([SMALL], [SMALL], [SMALL, LARGE]) == (
        "the autoscaler to start a node with 4 CPUs for a trial"
    )


class Clock:
    """Ray and the time, invented."""

    def __init__(self, monkeypatch, nodes=(SMALL,), free=(), reserved=False):
        self.now = 100.0
        self.nodes, self.free, self.reserved = list(nodes), list(free), reserved
        monkeypatch.setattr(waiting.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(waiting, "live_nodes", lambda: self.nodes)
        monkeypatch.setattr(waiting, "possible_nodes", lambda: self.nodes)
        monkeypatch.setattr(waiting, "free_nodes", lambda: self.free)
        monkeypatch.setattr(waiting, "has_reserved", lambda: self.reserved)
        self.said = []
        self.waiting = waiting_for(self.said)

    def seconds(self, number, running=lambda second: 0):
        """Seconds at which something was said."""
        moments = []
        for second in range(number):
            self.now = 100.0 + second
            before = len(self.said)
            self.waiting.check(running(second))
            moments += [second] * (len(self.said) - before)
        return moments


def test_it_is_said_when_nothing_has_run_for_seconds_and_again_after_minutes(monkeypatch):
    clock = Clock(monkeypatch)
    assert clock.seconds(700, lambda second: 340 <= second < 350) == [5, 305, 354, 654]
    assert set(clock.said) == {
        "waiting   for 1 CPU on one node: the nodes have (2 CPUs, 0 GPUs, 4.0 GB), and free nothing"
    }
    assert clock.waiting.waits_for == clock.said[-1].removeprefix("waiting   for ")
    clock.waiting.check(1)
    assert clock.waiting.waits_for == ""


def test_a_worker_that_is_being_started_is_waited_for_aloud_only_after_a_minute(monkeypatch):
    clock = Clock(monkeypatch, reserved=True)
    assert clock.seconds(400) == [SLOW_START_S, SLOW_START_S + SAY_AGAIN_S]
    assert clock.said[0] == (
        "waiting   for Ray to start a worker: cores are kept for it, but it does not answer yet"
    )


def test_free_cores_that_nobody_takes_are_said_after_a_minute(monkeypatch):
    assert Clock(monkeypatch, free=[SMALL]).seconds(100) == [SLOW_START_S]


def test_cores_kept_on_a_node_that_left_are_not_waited_for(monkeypatch):
    assert Clock(monkeypatch, nodes=[], reserved=True).seconds(60) == [5]


@pytest.mark.parametrize(
    ("groups", "reserved"),
    [
        ({}, False),
        ({"ff0a0b": "CREATED"}, True),
        ({"ff0a0b": "PENDING"}, False),
        ({"0a0bff": "CREATED", "ff0c0d": "CREATED"}, False),  # of other sweeps
        ({"ff0c0d": "CREATED", "ee0a0b": "CREATED"}, True),
    ],
)
def test_cores_that_are_kept_for_this_sweep(monkeypatch, groups, reserved):
    context = SimpleNamespace(get_job_id=lambda: "0a0b")
    monkeypatch.setattr(waiting.ray, "get_runtime_context", lambda: context)
    table = {number: {"state": state} for number, state in groups.items()}
    monkeypatch.setattr(waiting.ray.util, "placement_group_table", lambda: table)
    assert waiting.has_reserved() is reserved


def test_what_each_node_has_free(monkeypatch):
    per_node = {"1f": SMALL, "2f": {}}
    state = SimpleNamespace(state=SimpleNamespace(available_resources_per_node=lambda: per_node))
    monkeypatch.setattr(waiting.ray._private, "state", state)
    assert waiting.free_nodes() == [SMALL, {}]
