"""The run of the trials: however Tune ends, trials without an ending make it cut short."""

import errno
import signal
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune import TuneError

from orchestrator.record.journal import read_journal
from orchestrator.record.running import load_running
from orchestrator.record.states import load_trials
from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.search.protocol import WAIT
from orchestrator.sweep import parse_sweep
from orchestrator.tuning import cluster as cluster_module
from orchestrator.tuning import run as run_module
from orchestrator.tuning.cluster import ClusterLost, Slots
from orchestrator.tuning.run import TuneRun, beside
from orchestrator.tuning.shares import Grant
from tests.orchestrator.tuning.made_tune import TEXT, FakeTuner, fail
from tests.waiting import until
from trainables.contract.errors import TrialFailed, UserError


def test_a_run_whose_trials_all_have_an_ending_is_not_cut_short(scene):
    def fit(tuner):
        for number in range(3):
            fail(tuner, tuner.start(number))

    assert scene.run(fit) is None


@pytest.mark.parametrize(("started", "left"), [(0, "3 trials"), (1, "2 trials"), (2, "1 trial")])
def test_a_run_that_tune_ends_early_is_cut_short(scene, started, left):
    def fit(tuner):
        for number in range(started):
            fail(tuner, tuner.start(number))

    assert scene.run(fit) == Stop("system", f"Ray Tune ended, but {left} did not")


def test_what_was_loaded_before_tune_ran_is_looked_through_for_cycles_no_more(scene, monkeypatch):
    frozen = []
    monkeypatch.setattr(run_module.gc, "freeze", lambda: frozen.append("modules"))
    run_module._leave_modules_alone.cache_clear()
    for _ in range(2):
        scene.run(lambda tuner: frozen.append("ran"))
    assert frozen == ["modules", "ran", "ran"]


def test_what_still_runs_when_tune_ends_has_no_ending(scene):
    def fit(tuner):
        for number in range(2):
            fail(tuner, tuner.start(number))
        tuner.start(2)

    assert scene.run(fit) == Stop("system", "Ray Tune ended, but 1 trial did not")


def test_a_signal_while_tune_runs_cancels_whatever_ray_and_tune_install(scene, monkeypatch):
    @contextmanager
    def ray_cluster(address, note):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        yield scene.cluster

    def fit(tuner):
        with pytest.raises(ValueError, match="main thread"):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        trial = tuner.start()
        signal.raise_signal(signal.SIGUSR1)
        cancelled.wait(10)
        tuner.tell("complete", trial)

    cancelled = threading.Event()
    original = run_module.StopSwitch.cancel

    def cancel(switch, stop):
        original(switch, stop)
        cancelled.set()

    monkeypatch.setattr(run_module, "ray_cluster", ray_cluster)
    monkeypatch.setattr(run_module.StopSwitch, "cancel", cancel)
    assert scene.run(fit) == Stop("person", "received SIGUSR1")
    assert not StopRequests(scene.context.folder).closed()  # the next run starts anew


def test_a_lost_cluster_ends_the_run_without_waiting_for_tune(scene):
    def lost(**_options):
        raise ClusterLost("the Ray cluster at h:1 does not answer any more")

    release = threading.Event()
    scene.cluster.check = lost
    try:
        stop = scene.run(lambda tuner: (tuner.start(), release.wait(30)))
    finally:
        release.set()
    assert stop == Stop("system", "the Ray cluster at h:1 does not answer any more")


@pytest.mark.parametrize("where", ["tune", "listener", "start"])
def test_a_full_disk_ends_the_run_resumably(scene, monkeypatch, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full", "journal.jsonl")

    def fit(tuner):
        if where == "listener":
            scene.context.journal.append = full
            tuner.start()
            return
        try:
            full()
        except OSError:
            raise TuneError("Traceback (most recent call last): ...")  # noqa: B904, as Tune does

    if where == "start":
        monkeypatch.setattr(run_module.tune, "with_resources", full)
    assert scene.run(fit) == Stop("system", "No space left on device: journal.jsonl")


@pytest.mark.parametrize("error", [UserError("sparsity.from: is gone"), KeyError("a mistake")])
@pytest.mark.parametrize("where", ["tune", "listener"])
def test_any_other_exception_is_raised_as_it_was(scene, monkeypatch, error, where):
    def broken(*_, **__):
        raise error

    def fit(tuner):
        if where == "listener":
            scene.context.journal.append = broken
            tuner.start()
            return
        try:
            broken()
        except Exception:
            raise TuneError("Traceback (most recent call last): ...")  # noqa: B904, as Tune does

    with pytest.raises(type(error)) as caught:
        scene.run(fit)
    assert caught.value is error


def test_trials_that_could_not_be_asked_are_ended_at_once(scene, monkeypatch):
    seen = []

    def fit(tuner):
        seen.append(tuner.stopper.stop_all())
        trial = tuner.start()
        monkeypatch.setattr(
            "orchestrator.record.stop_requests.write_json",
            lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")),
        )
        tuner.tell("result", trial, {"disk": "Read-only file system: last.pt"})
        seen.append(tuner.stopper.stop_all())

    assert scene.run(fit) == Stop("system", "Read-only file system: last.pt")
    assert seen == [False, True]


def test_how_far_trials_are_is_written_while_they_run_and_removed_after(scene):
    folder, written = scene.context.folder, []

    def fit(tuner):
        trial = tuner.start()
        tuner.tell("result", trial, {"epoch": 4, "train_loss": 1.0})
        until(lambda: load_running(folder).trials)
        written[:] = load_running(folder).trials

    scene.run(fit)
    assert [trial.epoch for trial in written] == [5]
    assert load_running(folder).trials == ()


def test_a_quiet_trial_costs_its_time_even_where_the_driver_is_killed(scene, monkeypatch):
    """What is left of `budget.hours` is counted from the journal alone."""
    monkeypatch.setattr("orchestrator.record.journal.HEARTBEAT_S", 0.05)
    path = scene.context.journal.path

    def fit(tuner):
        trial = tuner.start()
        until(lambda: "sweep_running" in [event["event"] for event in read_journal(path)])
        fail(tuner, trial)

    scene.run(fit)
    assert "sweep_running" in [event["event"] for event in read_journal(path)]


def test_a_run_says_how_many_trials_it_trains_at_a_time(scene, capsys):
    scene.run(lambda tuner: warnings.warn("Tune has a default", stacklevel=1))  # is not passed on
    assert "2 trials at a time, each with 1 CPU\n" in capsys.readouterr().err


@pytest.mark.parametrize("scene", [["resources.per_trial_memory_gb=1.5"]], indirect=True)
def test_memory_is_asked_for_in_bytes(scene, monkeypatch):
    wanted = []
    monkeypatch.setattr(run_module, "fit_slots", lambda *_: Slots(1, 0.0, 2))
    monkeypatch.setattr(
        run_module.tune, "with_resources", lambda trainable, given: wanted.append(given)
    )
    scene.run(lambda tuner: None)
    [asked] = wanted
    bundle = {"CPU": 1.0, "GPU": 0.5, "memory": 1.5 * 1024**3}
    assert asked({"cpus": 1, "gpu_fraction": 0.5}).bundles == [bundle]


def test_a_disk_that_fills_up_stops_the_run_before_writes_fail(scene, monkeypatch, capsys):
    asked = []

    def problem(room, running):
        asked.append(list(running))
        return "runs/small: too little" if running else None

    def fit(tuner):
        trial = tuner.start()
        until(tuner.callback._switch.closed)
        assert tuner.searcher.suggest("t1") == "FINISHED"  # no others start
        looked = len(asked)
        until(lambda: len(asked) >= looked + 3)
        tuner.tell("complete", trial)

    monkeypatch.setattr(run_module.Room, "problem", problem)
    assert scene.run(fit) == Stop("system", "runs/small: too little")
    assert asked[-1] == [scene.trials[0].proposal.trial]
    assert load_trials(scene.context.folder)[0].ending == "interrupted"
    assert capsys.readouterr().err.count("STOPPING  runs/small: too little") == 1


def test_a_sweep_for_which_there_is_no_room_does_not_start(scene, monkeypatch):
    def refuse(room, states, at_once):
        raise UserError(f"{len(states)} trials, {at_once} at once: too little")

    monkeypatch.setattr(run_module.Room, "check_start", refuse)
    with pytest.raises(UserError, match="3 trials, 2 at once: too little"):
        scene.run(lambda tuner: pytest.fail("it started"))


def test_beside_raises_what_the_work_raises():
    def work():
        raise KeyError("a")

    with pytest.raises(KeyError):
        beside(work, lambda: None)


def test_what_tune_is_asked(scene, monkeypatch):
    asked, wanted = [], []

    def make(tuner, trainable, tune_config, run_config):
        asked.extend((tune_config, run_config))
        original(tuner, trainable, tune_config, run_config)

    original = FakeTuner.__init__
    monkeypatch.setattr(FakeTuner, "__init__", make)
    monkeypatch.setattr(
        run_module.tune, "with_resources", lambda trainable, given: wanted.append(given)
    )
    configs = []
    scene.run(lambda tuner: configs.append(tuner.start().config))
    tune_config, run_config = asked
    [of_trial] = wanted
    assert of_trial(configs[0]).bundles == [{"CPU": 1.0}]
    assert (tune_config.num_samples, tune_config.max_concurrent_trials) == (3, 2)
    assert tune_config.reuse_actors
    assert tune_config.trial_name_creator(SimpleNamespace(trial_id=7)) == "7"
    assert tune_config.trial_dirname_creator(SimpleNamespace(trial_id=7)) == "7"
    assert run_config.verbose == 0
    assert run_config.failure_config.max_failures == scene.context.sweep.failure.max_restarts
    assert run_config.stop("t0", {"epoch": 3}) is False
    [config] = configs
    first = scene.trials[0]
    folder = first.proposal.folder(scene.context.folder).path.absolute()
    assert config["config"] == first.config.model_dump_json()
    assert config["out"] == str(folder)
    assert config["root"] == str(Path.cwd())
    assert (config["source"], config["threads"], config["gpu_fraction"]) == (None, 1, 0.0)
    assert config["timed"] is False
    assert not (scene.context.folder / run_module.SCRATCH).exists()


ASKED = "method={name: qmc, trials_per_cell: 2}"
DRAWN = "parameters={train.lr: {min: 0.1, max: 0.2, distribution: uniform}}"


@pytest.mark.parametrize(
    ("changes", "live", "most"),
    [
        ([ASKED, DRAWN], 1, 6),
        ([ASKED, DRAWN, "resources.gpus=auto"], 1, 6),
        ([ASKED, DRAWN], 3, None),
        ([], 1, None),
    ],
)
def test_only_a_search_that_learns_waits_for_nodes_to_come(monkeypatch, changes, live, most):
    """Of three nodes, with room for three trials each."""
    for module in (run_module, cluster_module):
        monkeypatch.setattr(module, "live_nodes", lambda: [{"CPU": 3}] * live)
        monkeypatch.setattr(module, "possible_nodes", lambda: [{"CPU": 3}] * 3)
    sweep = parse_sweep("small.yaml", TEXT, changes)
    made = SimpleNamespace(context=SimpleNamespace(sweep=sweep), slots=Slots(1, 0.0, 9))
    growing = TuneRun._growing(made)
    assert (None if growing is None else growing()) == most


def test_a_record_that_cannot_be_written_ends_the_run(scene, monkeypatch):
    stopped = threading.Event()

    def unwritable(folder, running):
        stopped.set()
        raise OSError("it is gone")

    def fit(tuner):
        tuner.start()
        stopped.wait(10)

    monkeypatch.setattr(run_module, "write_running", unwritable)
    assert scene.run(fit) == Stop("system", "it is gone")


def test_what_no_trial_runs_for_is_looked_after_and_told_to_status(scene, monkeypatch):
    def check(cores, running):
        cores.waits_for = "" if running else "a node"

    def fit(tuner):
        until(lambda: load_running(folder).waits_for == "a node")
        tuner.start()
        until(lambda: load_running(folder).waits_for == "")
        told.append(True)

    folder, told = scene.context.folder, []
    monkeypatch.setattr(run_module, "RECORD_EVERY_S", 0.0)
    monkeypatch.setattr(run_module.WaitingForCores, "check", check)
    scene.run(fit)
    assert told


def test_a_record_is_written_where_something_has_changed(scene, monkeypatch):
    written, ticks = [], []
    monkeypatch.setattr(run_module, "RECORD_EVERY_S", 0.0)
    monkeypatch.setattr(run_module, "write_running", lambda folder, now: written.append(now))
    scene.cluster.check = lambda **_: ticks.append(1)

    def wait():
        looked = len(ticks)
        until(lambda: len(ticks) >= looked + 3)

    def fit(tuner):
        trial = tuner.start()
        wait()
        tuner.tell("result", trial, {"epoch": 0, "train_loss": 1.0})
        wait()

    scene.run(fit)
    assert [trial.epoch for now in written for trial in now.trials] == [0, 1]


class Granting:
    """Stands for the shares: answers as it is told."""

    def __init__(self, answer):
        self.answer, self.ended = answer, []

    def grant(self, trial):
        return self.answer

    def end(self, name):
        self.ended.append(name)


@pytest.mark.parametrize("why", [None, WAIT])
def test_while_a_trial_waits_for_its_share_no_source_is_looked_for(why):
    looked = []
    sources = SimpleNamespace(folder=looked.append)
    assert TuneRun._request(SimpleNamespace(), SimpleNamespace(), sources, Granting(why)) is why
    assert looked == []


def test_a_trial_that_has_no_source_gives_its_share_back():
    def folder(trial):
        raise TrialFailed("no dense trial to start from has a result")

    trial = SimpleNamespace(proposal=SimpleNamespace(trial="sparse"))
    shares, begun = Granting(Grant(1, 0.5)), []
    tune_run = SimpleNamespace(context=SimpleNamespace(begin=lambda: begun.append(True)))
    with pytest.raises(TrialFailed, match="no dense trial"):
        TuneRun._request(tune_run, trial, SimpleNamespace(folder=folder), shares)
    assert shares.ended == ["sparse"]
    assert begun  # it is given up, which leaves a file
