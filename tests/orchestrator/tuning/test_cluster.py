import gc
import logging
import os
import socket
import sys
import threading
import time
import warnings
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import pytest
from ray.core.generated import autoscaler_pb2

from orchestrator.sweep import Resources
from orchestrator.tuning import cluster
from orchestrator.tuning.cluster import (
    Cluster,
    ClusterLost,
    Slots,
    answers,
    check_address,
    cluster_ahead,
    fit_slots,
    ray_cluster,
)
from trainables.contract.errors import Interrupted, UserError

GB = 2**30


@pytest.mark.parametrize(
    ("nodes", "resources", "gpus", "concurrent"),
    [
        ([{"CPU": 2}], {}, 0.0, 2),
        ([{"CPU": 1}], {}, 0.0, 1),
        ([{"CPU": 2}, {"GPU": 4}], {"gpus": 0.0}, 0.0, 2),  # no core is free on the second node
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
        ([{"CPU": 8}, {"CPU": 8, "GPU": 4}], {}, 1.0, 4),
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
    with pytest.raises(UserError, match=r"^s\.yaml:3 resources: one trial .* asked for cpus=4"):
        fit_slots(Resources(gpus=0.0, cpus=4), [{"CPU": 2}, {"CPU": 2}], "s.yaml:3 resources: ")


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


def test_an_ipv6_address_in_brackets_is_accepted(monkeypatch):
    asked = []
    monkeypatch.setattr(
        cluster.socket,
        "create_connection",
        lambda where, timeout: asked.append(where) or socket.socket(),
    )
    check_address("[::1]:6379")
    assert cluster.answers("[::1]:6379", timeout=1.0)
    assert asked == [("::1", 6379)] * 2


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "127.0.0.1:port", "head:99999"])
def test_a_refused_address_is_said_to_be_of_what_gave_it(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with ExitStack() as end, pytest.raises(UserError, match=r"^RAY_ADDRESS: must be HOST:PORT"):
        end.enter_context(cluster_ahead(None, print, end))
    with ExitStack() as end, pytest.raises(UserError, match=r"^--address: must be HOST:PORT"):
        end.enter_context(cluster_ahead(address, print, end))


def test_a_head_that_does_not_answer_is_lost_after_a_while(monkeypatch):
    now, answers = [100.0], [True]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cluster, "answers", lambda address, timeout: answers[0])
    watched = Cluster("10.0.0.1:6379", shared=True)
    seen = ((True, 1000), (False, 1015), (True, 1018), (False, 1025), (False, 1031))
    for answer, second in seen:
        answers[0], now[0] = answer, float(second)
        watched.check()
    now[0] = 1033.9  # it was asked less than three seconds ago
    watched.check()
    now[0] = 1034.0
    with pytest.raises(ClusterLost, match=r"the Ray cluster at 10\.0\.0\.1:6379 does not answer"):
        watched.check()
    assert watched.lost


@pytest.mark.parametrize(("shared", "signalled"), [(False, True), (True, True), (False, False)])
def test_a_ray_of_this_machine_that_a_signal_has_ended_is_not_waited_for(
    monkeypatch, shared, signalled
):
    """`timeout` and Slurm signal all processes; Tune would start dead workers again, and wait."""
    answering = [True]
    monkeypatch.setattr(cluster, "answers", lambda address, timeout: answering[0])
    watched = Cluster("127.0.0.1:6379", shared=shared)
    watched.check(signalled=signalled)
    answering[0] = False
    if signalled and not shared:
        with pytest.raises(ClusterLost):
            watched.check(signalled=True)
    else:
        watched.check(signalled=signalled)
    assert watched.lost == (signalled and not shared)


def test_whether_something_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers(f"127.0.0.1:{port}", timeout=1.0)
    assert not answers(f"127.0.0.1:{port}", timeout=1.0)


class FakeRay:
    """Stands for Ray: writes down what it is asked."""

    def __init__(self, monkeypatch, refuses=None):
        self.calls = []
        self.refuses = refuses
        worker = cluster.ray._private.worker
        monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
        for name in ("init", "shutdown", "get_runtime_context"):
            monkeypatch.setattr(cluster.ray, name, getattr(self, name))

    def init(self, **asked):
        self.calls.append(asked)
        self.started = {
            "mode": os.environ.get("RAY_AUTH_MODE"),
            "several": cluster.ray._private.ray_constants.ENABLE_RAY_CLUSTER,
        }
        warnings.warn("Ray will change", FutureWarning, stacklevel=2)
        if self.refuses:
            raise self.refuses

    def shutdown(self):
        self.calls.append(f"shutdown, collecting={gc.isenabled()}")

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address="10.0.0.1:6379", get_job_id=lambda: "0a0b")


@pytest.fixture
def environment(monkeypatch):
    """The environment, without what a machine says of Ray; as before afterwards."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))
    }
    monkeypatch.setattr(os, "environ", own)
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda process: range(os.cpu_count()))
    return own


def test_ray_of_this_machine_alone(monkeypatch, environment):
    fake, said = FakeRay(monkeypatch), []
    environment["TUNE_GLOBAL_CHECKPOINT_S"] = "7"  # what a person sets stays
    with ray_cluster(None, said.append) as joined:
        assert not joined.shared
        assert not joined.lost
    assert said == ["starting Ray on this machine"]
    assert fake.calls == [
        {
            "address": "local",
            "log_to_driver": False,
            "logging_level": "error",
            "include_dashboard": False,
        },
        "shutdown, collecting=False",
    ]
    assert gc.isenabled()
    assert fake.started == {"mode": "token", "several": False}
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(environment)  # of that Ray alone
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["TUNE_GLOBAL_CHECKPOINT_S"] == "7"


@pytest.mark.parametrize(
    ("affinity", "slurm", "cores"), [(8, None, 8), (64, "4", 4), (2, "4", 2), (64, None, None)]
)
def test_a_share_of_a_node_is_not_taken_for_the_whole_of_it(
    monkeypatch, environment, affinity, slurm, cores
):
    fake = FakeRay(monkeypatch)
    monkeypatch.setattr(cluster.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda process: set(range(affinity)))
    if slurm is not None:
        environment["SLURM_CPUS_ON_NODE"] = slurm
    with ray_cluster(None, lambda _: None):
        pass
    assert fake.calls[0].get("num_cpus") == cores


def test_what_a_person_says_of_authentication_stays(monkeypatch, environment):
    fake = FakeRay(monkeypatch)
    environment["RAY_AUTH_MODE"] = "disabled"
    with ray_cluster(None, lambda _: None):
        pass
    assert fake.started == {"mode": "disabled", "several": False}
    assert environment["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_cluster_that_others_use_is_joined(monkeypatch, environment, by):
    fake, said = FakeRay(monkeypatch), []
    monkeypatch.setattr(cluster, "check_head", lambda address: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        environment["RAY_ADDRESS"] = address if by == "environment" else "10.0.0.9:1"
        with ray_cluster(address if by == "argument" else None, said.append) as joined:
            assert joined.shared
    assert said == [f"joining the Ray cluster at {address}"]
    assert fake.calls[0] == {"address": address, "log_to_driver": False, "logging_level": "error"}
    assert "RAY_AUTH_MODE" not in environment


def test_a_cluster_that_ray_finds_itself_has_no_head_to_ask(monkeypatch, environment):
    fake, said = FakeRay(monkeypatch), []
    monkeypatch.setattr(cluster, "check_head", lambda address: pytest.fail(f"asked {address}"))
    environment["RAY_ADDRESS"] = "auto"
    with ray_cluster(None, said.append) as joined:
        assert joined.shared
    assert said == ["joining the Ray cluster at auto"]
    assert fake.calls[0]["address"] == "auto"


def test_what_tune_says_of_failing_trials_is_said_by_us_alone(monkeypatch, environment):
    FakeRay(monkeypatch)
    logging.getLogger("ray.tune").setLevel(logging.NOTSET)
    with ray_cluster(None, lambda _: None):
        assert not logging.getLogger("ray.tune").isEnabledFor(logging.ERROR)


def test_what_ray_says_of_a_lost_node_is_no_output_of_ours(monkeypatch, environment, capfd):
    FakeRay(monkeypatch)
    with ray_cluster(None, lambda _: None):
        said = {"lines": ["Raylet is terminated", "[state-dump]"], "pid": "raylet", "is_err": False}
        cluster.ray._private.worker.print_to_stdstream(said, ignore_prefix=False)
    assert capfd.readouterr() == ("", "")


def test_a_ray_that_refuses_is_one_line(monkeypatch, environment):
    FakeRay(monkeypatch, refuses=RuntimeError("version mismatch\nand forty lines"))
    with (
        pytest.raises(
            UserError, match=r"^--address: Ray must be reachable at local: version misma"
        ),
        ray_cluster(None, lambda _: None),
    ):
        pass


def test_nothing_is_asked_of_a_lost_head_and_the_process_ends_last(monkeypatch, environment):
    fake, last = FakeRay(monkeypatch), []
    monkeypatch.setattr(cluster.atexit, "register", last.append)
    monkeypatch.setattr(cluster.os, "_exit", last.append)
    for name in ("stdout", "stderr"):
        stream = SimpleNamespace(flush=lambda name=name: last.append(name))
        monkeypatch.setattr(sys, name, stream)
    with ray_cluster(None, lambda _: None) as joined:
        joined.lost = True
    assert len(fake.calls) == 1
    last[0]()
    assert last[1:] == ["stdout", "stderr", Interrupted.exit_code]  # nothing said is lost


def test_ray_is_left_when_the_run_fails(monkeypatch, environment):
    fake = FakeRay(monkeypatch)
    monkeypatch.setattr(gc, "collect", lambda: fake.calls.append("collected"))
    with pytest.raises(KeyError), ray_cluster(None, lambda _: None):
        raise KeyError
    assert fake.calls[1:] == ["collected", "shutdown, collecting=False"]
    assert gc.isenabled()


def test_only_nodes_that_live_count(monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 9}}]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    assert cluster.live_nodes() == [{"CPU": 2.0}]


@pytest.mark.parametrize(
    ("groups", "nodes"),
    [
        (None, [{"CPU": 2.0}]),
        ([], [{"CPU": 2.0}]),
        ([({"CPU": 2}, 1), ({"CPU": 8, "GPU": 1}, 2)], [{"CPU": 2}] + [{"CPU": 8, "GPU": 1}] * 2),
        ([({"CPU": 4}, -1)], [{"CPU": 4}] * cluster.MOST_NODES),
    ],
)
def test_nodes_that_an_autoscaler_may_start_count_too(monkeypatch, groups, nodes):
    config = None
    if groups is not None:
        config = autoscaler_pb2.ClusterConfig()
        for resources, most in groups:
            group = config.node_group_configs.add(max_count=most)
            group.resources.update(resources)
    state = SimpleNamespace(state=SimpleNamespace(get_cluster_config=lambda: config))
    monkeypatch.setattr(cluster.ray._private, "state", state)
    monkeypatch.setattr(cluster, "live_nodes", lambda: [{"CPU": 2.0}])
    assert cluster.possible_nodes() == nodes


@pytest.mark.parametrize(
    ("cpus", "gpus", "threads", "words"),
    [
        (0.5, 0.0, 1, "0.5 CPUs"),
        (1.0, 1.0, 1, "1 CPU and 1 GPU"),
        (4.0, 0.5, 4, "4 CPUs and 0.5 GPUs"),
    ],
)
def test_what_a_trial_gets(cpus, gpus, threads, words):
    slots = Slots(cpus, gpus, concurrent=1)
    assert (slots.threads, slots.words) == (threads, words)


def test_what_a_node_lacks_in_memory_is_said():
    with pytest.raises(UserError, match=r"gpus=0 per_trial_memory_gb=6, .* 2 CPUs, 0 GPUs, 4\.0 G"):
        fit_slots(Resources(gpus=0.0, per_trial_memory_gb=6.0), [{"CPU": 2, "memory": 4 * GB}])


def test_a_cluster_that_ray_finds_itself_is_not_asked_before():
    check_address("auto")


def test_a_cluster_that_grows_is_given_work_for_one_node_more(monkeypatch):
    alive, now = [], [0.0]
    monkeypatch.setattr(cluster, "live_nodes", lambda: alive)
    monkeypatch.setattr(cluster, "possible_nodes", lambda: [{"CPU": 2.0}, *[{"CPU": 8.0}] * 1000])
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    growing = cluster.Growing(Resources(cpus=2, gpus=0.0), 0.0)
    assert growing() == 4
    alive.append({"CPU": 2.0})
    assert growing() == 4  # it has just been looked
    now[0] += cluster.LOOK_EVERY_S
    assert growing() == 5
    alive.append({"CPU": 8.0})
    now[0] += cluster.LOOK_EVERY_S
    assert growing() == 9
    too_large = cluster.Growing(Resources(cpus=99, gpus=0.0), 0.0)
    assert too_large() == 1


def test_a_cluster_is_started_while_other_things_are_done(monkeypatch, environment):
    fake, done, threads = FakeRay(monkeypatch), threading.Event(), []

    def init(**options):
        assert done.wait(10), "nothing else was done meanwhile"
        threads.append(threading.current_thread())

    monkeypatch.setattr(cluster.ray, "init", init)
    with ExitStack() as end, cluster_ahead(None, lambda _: None, end) as joined:
        done.set()
        assert not joined().shared
    assert threads != [threading.main_thread()]
    assert fake.calls[-1] == "shutdown, collecting=False"


def test_a_cluster_that_is_not_needed_in_the_end_is_left(monkeypatch, environment):
    fake = FakeRay(monkeypatch)
    with (
        pytest.raises(KeyError),
        ExitStack() as end,
        cluster_ahead(None, lambda _: None, end),
    ):
        raise KeyError
    assert fake.calls[-1] == "shutdown, collecting=False"


def test_where_nothing_listens_is_said_before_anything_is_begun(monkeypatch, environment):
    fake = FakeRay(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    begun = []
    with (
        ExitStack() as end,
        pytest.raises(UserError, match=f"of a running Ray cluster, got '{address}'"),
        cluster_ahead(address, lambda _: None, end),
    ):
        begun.append("the sweep")
    assert begun == []
    assert fake.calls == []


def test_why_there_is_no_cluster_is_said_to_whoever_needs_it(monkeypatch, environment):
    FakeRay(monkeypatch, refuses=RuntimeError("version mismatch"))
    with (
        ExitStack() as end,
        cluster_ahead(None, lambda _: None, end) as joined,
        pytest.raises(UserError, match="version mismatch"),
    ):
        joined()


@pytest.mark.parametrize("failing", [False, True])
def test_ray_is_left_while_the_thread_that_started_it_lives(monkeypatch, environment, failing):
    """The kernel kills a local Ray's processes when that thread ends."""
    FakeRay(monkeypatch)
    threads, alive = [], []

    def init(**options):
        time.sleep(0.05)  # the caller fails meanwhile
        threads.append(threading.current_thread())

    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: alive.append(threads[0].is_alive()))
    with (
        suppress(KeyError),
        ExitStack() as end,
        cluster_ahead(None, lambda _: None, end) as joined,
    ):
        if failing:
            raise KeyError
        joined()
    assert alive == [True]
    assert not threads[0].is_alive()


def test_ray_ends_while_other_things_are_done(monkeypatch, environment):
    FakeRay(monkeypatch)
    done, ended = threading.Event(), []
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: ended.append(done.wait(10)))
    with ExitStack() as end:
        with cluster_ahead(None, lambda _: None, end) as joined:
            joined()
        assert not ended
        done.set()
    assert ended == [True]


def test_what_goes_wrong_as_ray_ends_is_said_and_what_was_done_stays(
    monkeypatch, environment, caplog
):
    FakeRay(monkeypatch)

    def shutdown():
        raise OSError("no such process")

    monkeypatch.setattr(cluster.ray, "shutdown", shutdown)
    with ExitStack() as end, cluster_ahead(None, lambda _: None, end) as joined:
        joined()
    assert "Ray did not end as it should: OSError: no such process" in caplog.text
