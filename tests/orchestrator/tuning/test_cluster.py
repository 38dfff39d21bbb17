import socket

import pytest

from orchestrator.sweep import Resources
from orchestrator.tuning import cluster
from orchestrator.tuning.cluster import (
    Cluster,
    ClusterLost,
    WaitingForCores,
    answers,
    check_address,
    fit_slots,
)
from trainables.contract.errors import UserError

GB = 2**30


@pytest.mark.parametrize(
    ("nodes", "resources", "gpus", "concurrent"),
    [
        ([{"CPU": 2}], {}, 0.0, 2),
        ([{"CPU": 8, "GPU": 2}], {}, 1.0, 2),
        ([{"CPU": 16, "GPU": 2}], {"gpus": 0.25}, 0.25, 8),
        # two on each card, never one on two cards
        ([{"CPU": 16, "GPU": 2}], {"gpus": 0.4}, 0.4, 4),
        ([{"CPU": 4, "GPU": 2}], {"gpus": 0.25}, 0.25, 4),  # the cores are the limit
        ([{"CPU": 64, "GPU": 8}], {"gpus": 2.0, "cpus": 4}, 2.0, 4),
        # one trial on each node, not three on both
        ([{"CPU": 3}, {"CPU": 3}], {"gpus": 0.0, "cpus": 2}, 0.0, 2),
        # the node without GPUs takes none
        ([{"CPU": 8}, {"CPU": 8, "GPU": 4}], {"gpus": 1.0}, 1.0, 4),
        ([{"CPU": 16}], {"gpus": 0.0, "max_concurrent": 3}, 0.0, 3),
        ([{"CPU": 16, "memory": 10 * GB}], {"gpus": 0.0, "per_trial_memory_gb": 4.0}, 0.0, 2),
    ],
)
def test_as_many_trials_at_once_as_fit(nodes, resources, gpus, concurrent):
    found = fit_slots(Resources(**resources), nodes)
    assert (found.gpus, found.concurrent) == (gpus, concurrent)


def test_a_trial_that_can_never_fit_is_an_error_that_names_both_sides():
    with pytest.raises(
        UserError, match=r"asked for cpus=1 gpus=1, the nodes have 2 CPUs, 0 GPUs, 4\.0 GB"
    ):
        fit_slots(Resources(gpus=1.0), [{"CPU": 2, "memory": 4 * GB}])
    with pytest.raises(UserError, match=r"asked for cpus=4"):
        fit_slots(Resources(gpus=0.0, cpus=4), [{"CPU": 2}, {"CPU": 2}])


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "127.0.0.1:port"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(UserError, match="must be HOST:PORT"):
        check_address(address)


def test_an_address_where_nobody_answers_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"got '127.0.0.1:{port}'"):
        check_address(f"127.0.0.1:{port}")


def test_an_address_that_answers_is_accepted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize(
    ("free", "resources", "said"),
    [
        ({"CPU": 0.0}, {}, "waiting   for 1 CPU per trial: the cluster has 6 CPUs (0 free)"),
        ({}, {"cpus": 2}, "waiting   for 2 CPUs per trial: the cluster has 6 CPUs (0 free)"),
        (
            {"CPU": 5.0, "GPU": 0.5},
            {"gpus": 1.0},
            "waiting   for 1 CPU and 1 GPU per trial: the cluster has 6 CPUs (5 free), 1 GPU (0.5"
            " free)",
        ),
        ({"CPU": 1.0}, {}, None),
    ],
)
def test_a_sweep_says_what_it_waits_for(free, resources, said):
    nodes = [{"CPU": 2}, {"CPU": 4, "GPU": 1}]
    wanted = Resources(**{"gpus": 0.0, **resources})
    waiting = WaitingForCores(wanted, fit_slots(wanted, nodes), lambda _: None)
    assert waiting.reason(nodes, free) == said


def test_a_cluster_that_became_too_small_is_said():
    wanted = Resources(gpus=0.0, cpus=4)
    waiting = WaitingForCores(wanted, fit_slots(wanted, [{"CPU": 4}]), lambda _: None)
    assert waiting.reason([{"CPU": 2}], {"CPU": 2.0}) == (
        "waiting   no node can hold a trial now: resources: one trial must fit on one node, asked"
        " for cpus=4 gpus=0, the nodes have 2 CPUs, 0 GPUs, 0.0 GB"
    )


def test_it_is_said_when_nothing_has_run_for_seconds_and_again_after_minutes(monkeypatch):
    now, said = [100.0], []
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cluster, "live_nodes", lambda: [{"CPU": 2}])
    monkeypatch.setattr(cluster.ray, "available_resources", dict)
    monkeypatch.setattr(cluster, "_has_reserved", lambda: False)
    wanted = Resources(gpus=0.0)
    waiting = WaitingForCores(wanted, fit_slots(wanted, [{"CPU": 2}]), said.append)
    counts = []
    for second in range(0, 700, 2):
        now[0] = 100.0 + second
        waiting.check(running=1 if 340 <= second < 350 else 0)
        counts.append(len(said))
    assert [counts.index(n) * 2 for n in range(1, 5)] == [6, 306, 354, 654]


def test_a_head_that_does_not_answer_is_lost_after_a_while(monkeypatch):
    now, answers = [100.0], [True]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cluster, "answers", lambda address, timeout: answers[0])
    watched = Cluster("10.0.0.1:6379", shared=True)
    for answer, second in ((True, 1000), (False, 1010), (True, 1014), (False, 1020), (False, 1029)):
        answers[0], now[0] = answer, float(second)
        watched.check()
    now[0] = 1031.0  # it was asked two seconds ago
    watched.check()
    now[0] = 1032.0
    with pytest.raises(ClusterLost, match=r"the Ray cluster at 10\.0\.0\.1:6379 does not answer"):
        watched.check()
    assert watched.lost


def test_whether_something_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers(f"127.0.0.1:{port}", timeout=1.0)
    assert not answers(f"127.0.0.1:{port}", timeout=1.0)
