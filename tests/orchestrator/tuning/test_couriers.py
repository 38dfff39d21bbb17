"""Files of finished trials go to the store from the nodes that trained them: nobody waits, and what
did not arrive for certain is left to the driver.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Event, Thread
from types import SimpleNamespace
from weakref import WeakSet

import pytest
from ray.exceptions import RayActorError

from orchestrator.tracking.sending import Courier
from orchestrator.tracking.tracker import Parcel
from orchestrator.tuning import couriers as module
from orchestrator.tuning.cluster import ClusterLost
from orchestrator.tuning.couriers import (
    IDLE_S,
    LONGEST_CALL,
    REFUSED,
    RESTS_S,
    SAY_S,
    SILENT_S,
    STOPPED_S,
    Couriers,
)


class Actor:
    """A process on a node, which does nothing until the test says so."""

    def __init__(self, asked_for, options):
        assert asked_for is Courier
        self.options, self.node = options, options["scheduling_strategy"].node
        self.asked, self.alive, self.references = [], True, WeakSet()  # those somebody holds
        self.send = SimpleNamespace(remote=self._ask)

    def _ask(self, uri, run, name, place):
        if name == "refused":
            raise ConnectionError("the head is gone")
        self.asked.append(SimpleNamespace(file=(uri, run, name, place), answer=None))
        reference = Reference(self.asked[-1])
        self.references.add(reference)
        return reference

    def arrive(self, count=1, answer=""):
        for each in [each for each in self.asked if each.answer is None][:count]:
            each.answer = answer


class Reference:
    """Ray's, of one answer."""

    def __init__(self, asked):
        self.asked = asked


class Ray:
    """As much of Ray as is asked for."""

    def __init__(self):
        self.actors, self.refuses = [], None
        self.classes, self.asked_to_start, self.starts = 0, Event(), Event()
        self.starts.set()

    def remote(self, cls):
        self.classes += 1
        return SimpleNamespace(
            options=lambda **options: SimpleNamespace(remote=lambda: self._start(cls, options))
        )

    def _start(self, cls, options):
        self.asked_to_start.set()
        self.starts.wait(30.0)
        if self.refuses is not None:
            raise self.refuses
        self.actors.append(Actor(cls, options))
        return self.actors[-1]

    def wait(self, references, num_returns, timeout):
        assert timeout == 0
        return [each for each in references if each.asked.answer is not None], []

    def get(self, reference):
        answer = reference.asked.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor):
        actor.alive = False

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "driver")


class Scene:
    """Couriers on a cluster, with a clock that goes on when it is told to."""

    def __init__(self, monkeypatch):
        self.now, self.ray, self.while_waiting = 1000.0, Ray(), []
        monkeypatch.setattr(module, "ray", self.ray)
        strategy = "NodeAffinitySchedulingStrategy"  # Ray's takes its own ids of nodes alone
        monkeypatch.setattr(module, strategy, lambda node, soft: SimpleNamespace(**locals()))
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        monkeypatch.setattr(module, "time", clock)
        self.cluster = SimpleNamespace(lost=False, check=lambda: None)
        self.couriers = Couriers(self.cluster)

    def _sleep(self, seconds):
        self.now += seconds
        if self.while_waiting:
            self.while_waiting.pop(0)()

    def send(self, node="a", *names, run="r"):
        names = names or ("one", "two")
        parcel = Parcel("http://h:5000", run, {name: f"/t/{name}" for name in names})
        return self.couriers.of(node)(parcel)

    def settle(self, stopped=lambda: False):
        said = []
        self.couriers.settle(stopped, lambda: None, said.append)
        return said


@pytest.fixture
def scene(monkeypatch):
    return Scene(monkeypatch)


def test_a_process_on_the_node_is_asked_for_each_file_and_nobody_waits(scene):
    sending = scene.send("a")
    [actor] = scene.ray.actors
    assert (actor.node, actor.options["num_cpus"], actor.options["max_restarts"]) == ("a", 0, 0)
    assert actor.options["scheduling_strategy"].soft is False
    assert [each.file for each in actor.asked] == [
        ("http://h:5000", "r", "one", "/t/one"),
        ("http://h:5000", "r", "two", "/t/two"),
    ]
    assert scene.couriers.look()
    assert sending.sent() is None
    actor.arrive()
    assert scene.couriers.look()
    assert sending.sent() is None
    actor.arrive()
    assert not scene.couriers.look()
    assert sending.sent() == {"one", "two"}


@pytest.mark.parametrize("node", ["driver", None])
def test_the_drivers_own_node_and_one_that_nobody_knows_are_left_to_the_driver(scene, node):
    assert scene.couriers.of(node) is None


def test_all_trials_of_a_node_have_one_process_there(scene):
    first, second, elsewhere = scene.send("a"), scene.send("a", run="s"), scene.send("b")
    here, _ = scene.ray.actors
    assert [each.file[1] for each in here.asked] == ["r", "r", "s", "s"]
    here.arrive(3)
    scene.couriers.look()
    assert (first.sent(), second.sent(), elsewhere.sent()) == ({"one", "two"}, None, None)


@pytest.mark.parametrize("answer", ["the disk is full", RayActorError(), "silence"])
def test_what_did_not_arrive_is_left_to_the_driver_and_the_node_rests(scene, answer):
    first, elsewhere = scene.send("a", "x", "y", "z"), scene.send("b")
    second = scene.send("a")
    actor, other = scene.ray.actors
    actor.arrive()
    scene.couriers.look()
    if answer == "silence":
        scene.now += LONGEST_CALL - 1.0
        other.arrive()
        scene.couriers.look()
        assert first.sent() is None
        scene.now += 1.0
    else:
        actor.arrive(count=REFUSED if answer == "the disk is full" else 1, answer=answer)
    scene.couriers.look()
    assert (first.sent(), second.sent(), elsewhere.sent()) == ({"x"}, frozenset(), None)
    assert (actor.alive, other.alive) == (False, True)
    scene.now += RESTS_S - 1.0
    assert scene.send("a").sent() == frozenset()
    assert len(scene.ray.actors) == 2
    scene.now += 2.0
    assert scene.send("a").sent() is None
    assert len(scene.ray.actors) == 3


def test_files_that_are_refused_one_at_a_time_are_left_to_the_driver_and_the_node_is_not(scene):
    sending = scene.send("a", *"abcdefghij")
    [actor] = scene.ray.actors
    for _ in range(3):
        actor.arrive()
        scene.couriers.look()
        actor.arrive(REFUSED - 1, answer="too large")
        scene.couriers.look()
        assert sending.sent() is None
    actor.arrive()
    scene.couriers.look()
    assert sending.sent() == set("adgj")
    assert actor.alive
    assert scene.send("a").sent() is None
    assert len(scene.ray.actors) == 1


def test_a_node_that_never_sent_a_file_is_given_up_with_the_first_that_is_refused(scene):
    sending = scene.send("a")
    scene.ray.actors[0].arrive(answer="No module named 'mlflow'")
    scene.couriers.look()
    assert sending.sent() == frozenset()
    assert not scene.ray.actors[0].alive


def test_a_node_that_gets_on_is_not_given_up_however_much_it_has_to_send(scene):
    sendings = [scene.send("a", run=str(number)) for number in range(10)]
    scene.now += SILENT_S - 1.0
    for _ in range(20):
        scene.ray.actors[0].arrive()
        scene.couriers.look()
        scene.now += LONGEST_CALL - 1.0
    assert [sending.sent() for sending in sendings] == 10 * [{"one", "two"}]


def test_a_process_that_has_nothing_to_send_ends_and_another_one_comes_when_it_is_needed(scene):
    scene.send("a")
    scene.ray.actors[0].arrive(2)
    scene.couriers.look()
    scene.now += IDLE_S - 1.0
    scene.couriers.look()
    assert scene.ray.actors[0].alive
    scene.now += 2.0
    scene.couriers.look()
    assert not scene.ray.actors[0].alive
    assert scene.send("a").sent() is None
    assert len(scene.ray.actors) == 2


def test_the_silence_of_a_process_begins_when_it_is_asked(scene):
    scene.send("a")
    scene.ray.actors[0].arrive(2)
    scene.couriers.look()
    scene.now += SILENT_S - 1.0
    sending = scene.send("a")
    scene.now += LONGEST_CALL - 1.0
    scene.couriers.look()
    assert sending.sent() is None


def test_where_ray_starts_no_process_nothing_is_on_its_way(scene):
    scene.ray.refuses = ConnectionError("the head is gone")
    assert scene.send("a").sent() == frozenset()


def test_where_ray_takes_only_some_of_the_files_the_node_is_given_up(scene):
    before, sending = scene.send("a"), scene.send("a", "one", "refused")
    assert (before.sent(), sending.sent()) == (frozenset(), frozenset())
    scene.ray.actors[0].arrive(3)
    assert not scene.couriers.look()
    assert sending.sent() == frozenset()


def test_where_ray_does_not_say_what_has_arrived_nothing_has(scene, monkeypatch):
    sending = scene.send("a")

    def gone(*_, **__):
        raise ConnectionError("the head is gone")

    monkeypatch.setattr(scene.ray, "wait", gone)
    assert not scene.couriers.look()
    assert sending.sent() == frozenset()


def test_the_end_waits_for_what_is_under_way(scene):
    sending = scene.send("a")
    actor = scene.ray.actors[0]
    scene.while_waiting = [actor.arrive, lambda: None, actor.arrive]
    assert scene.settle() == []
    assert sending.sent() == {"one", "two"}


def test_the_end_waits_no_longer_than_a_node_may_be_silent_and_says_what_for(scene):
    sending, began = scene.send("a"), scene.now
    [line] = scene.settle()
    assert "nodes are still sending" in line
    assert scene.now - began == pytest.approx(SILENT_S, abs=1.0)
    assert sending.sent() == frozenset()


def test_the_end_of_a_sweep_that_was_asked_to_end_waits_no_longer_than_it_may(scene):
    scene.send("a")
    scene.settle(lambda: scene.now >= 1010.0)
    assert scene.now == pytest.approx(1010.0 + STOPPED_S, abs=1.0)


def test_what_has_arrived_behind_what_did_not_is_not_sent_again(scene):
    sending = scene.send("a")
    first, second = scene.ray.actors[0].asked
    first.answer, second.answer = "refused", ""
    scene.couriers.look()
    assert sending.sent() == {"two"}


def test_a_reason_for_which_nodes_cannot_send_is_said_once(scene, caplog):
    with caplog.at_level("WARNING"):
        for node, reason in (("a", "no MLflow"), ("b", "no MLflow"), ("c", "no way")):
            scene.send(node, "one")
            scene.ray.actors[-1].arrive(answer=reason)
            scene.couriers.look()
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "no MLflow",
        "no way",
    ]


def test_the_end_waits_for_no_cluster_that_is_gone(scene):
    scene.send("a")

    def check():
        if scene.now > 1000.0 + SAY_S:
            scene.cluster.lost = True
            raise ClusterLost

    scene.cluster.check = check
    scene.settle()
    assert scene.now < 1000.0 + SAY_S + 1.0
    scene.settle()


@pytest.mark.parametrize("lost", [False, True])
def test_afterwards_nothing_of_rays_is_held_or_asked(scene, lost):
    with scene.couriers:
        sending = scene.send("a")
        scene.ray.actors[0].arrive()
        scene.couriers.look()
        scene.cluster.lost = lost
    assert sending.sent() == {"one"}
    assert not scene.ray.actors[0].references
    assert scene.ray.actors[0].alive is lost  # Ray would wait for a head that is gone
    assert scene.send("a").sent() == frozenset()
    assert len(scene.ray.actors) == 1


@contextmanager
def asked_of_a_head_that_is_gone(scene, node):
    """Within: Tune's thread waits for a process that Ray does not start."""
    scene.ray.starts.clear()
    scene.ray.asked_to_start.clear()
    tune = Thread(target=scene.send, args=(node,), daemon=True)
    tune.start()
    assert scene.ray.asked_to_start.wait(10.0)
    try:
        yield
        assert tune.is_alive()
    finally:
        scene.ray.starts.set()
        tune.join(10.0)


def returns(call):
    """Whether it does, although Tune's thread waits."""
    thread = Thread(target=call, daemon=True)
    thread.start()
    thread.join(10.0)
    return not thread.is_alive()


def test_nobody_waits_for_a_thread_that_waits_for_a_head_that_is_gone(scene):
    sending = scene.send("a")
    with asked_of_a_head_that_is_gone(scene, "b"):
        assert returns(scene.couriers.look)
        assert sending.sent() is None
        scene.cluster.lost = True
        assert returns(lambda: scene.couriers.__exit__(None, None, None))
        assert sending.sent() == frozenset()


def test_the_end_of_a_sweep_hears_of_a_head_that_is_gone_while_a_process_is_asked_for(scene):
    def check():
        scene.cluster.lost = True
        raise ClusterLost

    scene.cluster.check = check
    with asked_of_a_head_that_is_gone(scene, "b"):
        assert returns(scene.settle)
    assert scene.cluster.lost


def test_ray_is_given_one_class_for_all_processes(scene):
    for node in ("a", "b", "c"):
        scene.send(node)
    assert len(scene.ray.actors) == 3
    assert scene.ray.classes == 1
