"""Whatever a worker dies of is told in one line, and costs a restart."""

from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.tune.execution import class_cache, tune_controller
from ray.tune.experiment import Trial as TuneTrial

from orchestrator.tuning import workers
from orchestrator.tuning.workers import (
    ActorManager,
    Death,
    WorkerDied,
    death,
    death_of,
    survivable_deaths,
)

KILLED_FOR_MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the\
 node (IP: 10.0.0.1, ID: 1f) was 22.80GB used / 24.00GB limit (0.950000)
OOM kill reason: Memory usage 24481313587B exceeded threshold of 24481259520B (95% of 25769803776B)
Ray killed 1 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Task: job ID=01, task name=ImplicitFunc.train, required resources={CPU: 1}, \
pid=3589, actual memory used=0.31GB, worker ID=4a)
]
Top 10 memory users: ..."""


def died(text):
    error = ActorDiedError()
    error.error_msg = text
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OutOfMemoryError(KILLED_FOR_MEMORY),
            "the worker died: killed for memory (the trial held 0.31GB, the node 22.80GB of"
            " 24.00GB)",
        ),
        (OutOfMemoryError("changed"), "the worker died: killed for memory"),
        (WorkerDied(error_msg="the worker died: killed for memory"), None),
        (
            died("The actor is dead because its node has died. Node Id: 1f"),
            "the worker died: its node was lost",
        ),
        (died("The actor is dead because its worker process has died.\nmore"), "the worker died"),
        (NodeDiedError("Node 1f is dead"), "the worker died: its node was lost"),
        (WorkerCrashedError(), None),
        (None, "the worker died"),
        (
            RayTaskError("train", "Traceback ...\n  File x\nValueError: no such thing\n", None),
            "ValueError: no such thing",
        ),
    ],
)
def test_a_death_is_one_line(error, words):
    text = death(error)
    assert "\n" not in text
    assert text.startswith("the worker died") or isinstance(error, RayTaskError)
    assert words is None or text == words


@pytest.mark.parametrize("kept", [b"", b"no pickle", None])
def test_without_a_readable_exception_the_worker_died(tmp_path, kept):
    if kept is not None:
        (tmp_path / "error.pkl").write_bytes(kept)
    trial = SimpleNamespace(pickled_error_file=str(tmp_path / "error.pkl"))
    assert death_of(trial) == Death("the worker died", counts=True)
    assert death_of(SimpleNamespace(pickled_error_file=None)) == Death("the worker died")


def test_the_reason_is_read_from_the_exception_that_tune_keeps(tmp_path):
    error = WorkerDied(error_msg=death(OutOfMemoryError(KILLED_FOR_MEMORY)))
    (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(error))
    trial = SimpleNamespace(pickled_error_file=str(tmp_path / "error.pkl"))
    assert death_of(trial) == Death(death(OutOfMemoryError(KILLED_FOR_MEMORY)))


class Tracked:
    """A worker's task as Ray's manager knows it; remembers what it is told."""

    def __init__(self):
        self.told = []
        self._tracked_actor = self
        self.actor_id = 1

    def _on_error(self, actor, error):
        self.told.append(error)


def test_a_worker_that_is_killed_while_it_starts_died():
    manager, task = ActorManager.__new__(ActorManager), Tracked()
    manager._failed_actor_ids = set()
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_start_failed(tracked_actor=task, exception=OutOfMemoryError(KILLED_FOR_MEMORY))
    assert [type(each) for each in task.told] == [WorkerDied]


@pytest.mark.parametrize("error", [OutOfMemoryError(KILLED_FOR_MEMORY), NodeDiedError("lost")])
def test_a_death_that_ray_does_not_count_among_actor_errors_does_not_end_the_run(error):
    manager, task = ActorManager.__new__(ActorManager), Tracked()
    manager._failed_actor_ids = set()
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_task_failed(task, error)
    assert [type(each) for each in task.told] == [WorkerDied, WorkerDied]  # the actor, the task
    assert death(task.told[0]) == death(error)


def preempted():
    error = died("The actor died unexpectedly before finishing this task.")
    error._preempted = True
    return error


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (NodeDiedError("Node 1f is dead"), False),
        (died("The actor is dead because its node has died. Node Id: 1f"), False),
        (preempted(), False),
        (died("The actor is dead because its worker process has died."), True),
        (OutOfMemoryError(KILLED_FOR_MEMORY), True),
        (RayTaskError("train", "its node has died", ValueError("its node has died")), True),
    ],
)
def test_a_lost_node_is_no_failure_of_its_trial_and_a_crash_is(
    tmp_path, monkeypatch, error, counts
):
    """By Ray's own count of failures, and by ours."""
    monkeypatch.setattr(TuneTrial, "local_path", None)
    manager, task = ActorManager.__new__(ActorManager), Tracked()
    manager._failed_actor_ids = set()
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_task_failed(task, error)
    trial = TuneTrial("train", stub=True)
    trial.handle_error(task.told[-1])
    assert trial.num_failures == counts
    (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(task.told[-1]))
    kept = SimpleNamespace(pickled_error_file=str(tmp_path / "error.pkl"))
    assert death_of(kept).counts == counts
    assert (death_of(kept).reason == "the worker died: its node was lost") == (not counts)


def test_a_worker_is_ended_where_there_is_one(monkeypatch):
    killed = []
    monkeypatch.setattr(workers.ray, "kill", killed.append)
    for actor in (None, "its actor"):
        workers.kill(SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=actor)))
    assert killed == ["its actor"]


def test_an_error_that_is_no_death_stays_one():
    manager = ActorManager.__new__(ActorManager)
    with pytest.raises(RuntimeError, match="unexpected"):
        manager._actor_task_failed(Tracked(), ValueError("a mistake of ours"))


def test_tune_gets_the_manager_for_the_time_of_the_run_only():
    before = tune_controller.RayActorManager
    with survivable_deaths():
        assert tune_controller.RayActorManager is ActorManager
    assert tune_controller.RayActorManager is before


def test_neither_keys_of_a_cloud_nor_variables_of_tune_are_sent_to_workers(monkeypatch):
    """Ray writes what it sends them into a log, and starts other processes for variables."""

    class Trainable:
        pass

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with workers.plain_workers():
        sent = class_cache._ActorClassCache().get(Trainable)._default_options["runtime_env"]
        assert not sent
        monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")  # a person's own wish
        sent = class_cache._ActorClassCache().get(Trainable)._default_options["runtime_env"]
        assert sent == {"env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0"}}
    assert class_cache.DEFAULT_ENV_VARS  # as they were
    assert "AWS_SECRET_ACCESS_KEY" in class_cache.ENV_VARS_TO_PROPAGATE  # as it was
