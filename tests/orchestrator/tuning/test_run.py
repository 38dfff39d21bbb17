"""The run of the trials: however Tune ends, trials without an ending make it cut short."""

import errno
import io
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune import TuneError
from rich.console import Console

from orchestrator.record.epochs import EpochLog
from orchestrator.record.folder import journal_of
from orchestrator.record.journal import read_journal
from orchestrator.record.running import load_running
from orchestrator.record.states import load_trials
from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.search.protocol import WAIT
from orchestrator.sweep import parse_sweep
from orchestrator.tracking.tracker import NullTracker
from orchestrator.tuning import cluster as cluster_module
from orchestrator.tuning import run as run_module
from orchestrator.tuning.cluster import ClusterLost, Slots
from orchestrator.tuning.progress import Display
from orchestrator.tuning.run import TuneRun, beside, run_trials
from orchestrator.tuning.shares import Grant
from orchestrator.tuning.sweep_run import SweepRun
from tests.orchestrator.fake_run import Trial as MadeUp
from tests.orchestrator.fake_run import result_of
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import THREE_LEVELS
from trainables.contract.artifacts import load_curve
from trainables.contract.disk import write_json
from trainables.contract.errors import TrialFailed, UserError

TEXT = THREE_LEVELS + "tracking: {uri: none}\nresources: {gpus: 0}\n"


class FakeTuner:
    """Stands for Tune: does with the callback and the searcher what a test wants."""

    def __init__(self, trainable, tune_config, run_config):
        self.searcher = tune_config.search_alg
        self.callback, _ = run_config.callbacks
        self.stopper = run_config.stop

    def start(self, number=0):
        """Start the next trial; returns it as Tune knows it."""
        config = self.searcher.suggest(f"t{number}")
        trial = SimpleNamespace(
            trial_id=f"t{number}", config=config, last_result={}, pickled_error_file=None
        )
        self.tell("start", trial)
        return trial

    def tell(self, event, trial, *arguments):
        getattr(self.callback, f"on_trial_{event}")(0, [], trial, *arguments)

    def fit(self):
        raise NotImplementedError


@pytest.fixture
def scene(tmp_path, monkeypatch, request):
    """Runs the trials of a sweep; `fit` stands for Tune's."""
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", TEXT, getattr(request, "param", ()))
    folder, trials = recorded(sweep)
    context = SweepRun(sweep, folder, trials, journal_of(folder), NullTracker())
    cluster = SimpleNamespace(check=lambda: None, shared=False)
    monkeypatch.setattr(run_module, "ray_cluster", lambda address, note: nullcontext(cluster))
    monkeypatch.setattr(run_module, "possible_nodes", lambda: [{"CPU": 2}])
    monkeypatch.setattr(run_module, "live_nodes", lambda: [{"CPU": 2}])
    monkeypatch.setattr(run_module, "TICK_S", 0.01)
    monkeypatch.setattr(run_module.tune, "with_resources", lambda trainable, wanted: trainable)
    monkeypatch.setattr(run_module.tune, "Tuner", FakeTuner)

    def run(fit):
        monkeypatch.setattr(FakeTuner, "fit", fit)
        return run_trials(context)

    return SimpleNamespace(run=run, context=context, cluster=cluster, trials=trials)


def fail(tuner, trial, reason="train_loss must be finite"):
    trial.last_result = {"failed": reason}
    tuner.tell("complete", trial)


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
    def lost():
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
        for _ in range(200):
            written[:] = load_running(folder).trials
            if written:
                return
            threading.Event().wait(0.05)

    scene.run(fit)
    assert [trial.epoch for trial in written] == [5]
    assert load_running(folder).trials == ()


def test_a_quiet_trial_costs_its_time_even_where_the_driver_is_killed(scene, monkeypatch):
    """What is left of `budget.hours` is counted from the journal alone."""
    monkeypatch.setattr("orchestrator.record.journal.HEARTBEAT_S", 0.05)
    path = scene.context.journal.path

    def fit(tuner):
        trial = tuner.start()
        for _ in range(200):
            if any(event["event"] == "sweep_running" for event in read_journal(path)):
                break
            threading.Event().wait(0.05)
        fail(tuner, trial)

    scene.run(fit)
    assert "sweep_running" in [event["event"] for event in read_journal(path)]


def test_ends_of_earlier_runs_are_told_to_a_tracker_that_missed_them(scene):
    told = []

    class Forgetful(NullTracker):
        def knows_end(self, trial, status):
            return trial != names[0]

        def finish_trial(self, trial, folder, status, reason="", stopped_at=None):
            told.append((trial, status, reason))

    names = [trial.proposal.trial for trial in scene.trials]
    for trial in scene.trials[:2]:
        write_json(
            trial.proposal.folder(scene.context.folder).failure_file, {"reason": "loss is nan"}
        )
    object.__setattr__(scene.context, "tracker", Forgetful())
    scene.run(lambda tuner: fail(tuner, tuner.start(), "later"))
    assert told == [(names[0], "failed", "loss is nan"), (names[2], "failed", "later")]


def test_what_earlier_runs_ended_is_on_display(scene, monkeypatch):
    """Of three trials one is finished, one is discarded and one fails now."""
    finished, discarded, waiting = load_trials(scene.context.folder)
    finished = replace(finished, ending="finished", result=result_of(MadeUp("joint", 0.6)))
    states = [finished, replace(discarded, ending="discarded"), waiting]
    monkeypatch.setattr(run_module, "load_trials", lambda folder: states)
    display = Display({}, Console(file=io.StringIO()))

    def made(totals):
        display.__init__(totals, Console(file=io.StringIO()))
        return display

    monkeypatch.setattr(run_module, "Display", made)
    assert scene.run(lambda tuner: fail(tuner, tuner.start())) is None
    stream = io.StringIO()
    Console(file=stream, width=100).print(display.render())
    title, _, first, second, third = stream.getvalue().splitlines()
    assert title.startswith("2/2 trials")
    assert first.split()[:2] == ["level0", "1/1"]
    assert second.split() == ["level0.6", "0/0"]
    assert third.split() == ["level0.8", "0/1", "1"]


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


ONE_CELL = [
    "parameters.sparsity.level={values: [0.6, 0.8, 0.9], axis: trial}",
    "early_terminate={type: asha, grace: 1}",
    "retain.checkpoints=best_per_cell",
]


@pytest.mark.parametrize("scene", [ONE_CELL], indirect=True)
def test_a_trial_that_a_rule_ended_before_the_driver_was_killed_is_not_run_again(scene):
    folder, (first, second, third) = scene.context.folder, scene.trials
    last = first.config.first_kept_epoch
    for trial, top1 in ((first, 0.9), (second, 0.1)):
        trial.proposal.folder(folder).path.mkdir(parents=True)
        EpochLog(folder).append(trial.proposal.trial, last, {"selection_top1": top1})
    checkpoint = second.proposal.folder(folder).checkpoint_file
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"x")
    started, kept = [], []

    def fit(tuner):
        kept.append(checkpoint.exists())
        for number in range(2):
            trial = tuner.start(number)
            started.append(tuner.searcher.trial_of(trial.trial_id))
            fail(tuner, trial)

    assert scene.run(fit) is None
    assert started == [first, third]
    assert kept == [False]
    state = load_trials(folder)[1]
    assert (state.ending, state.stopped_at) == ("pruned", last + 1)
    assert load_curve(second.proposal.folder(folder).metrics_file)["selection_top1"] == [0.1]


def test_a_disk_that_fills_up_stops_the_run_before_writes_fail(scene, monkeypatch):
    asked = []

    def problem(room, running):
        asked.append(list(running))
        return "runs/small: too little" if running else None

    def fit(tuner):
        trial = tuner.start()
        while not tuner.callback._switch.closed():
            time.sleep(0.01)
        assert tuner.searcher.suggest("t1") == "FINISHED"  # no others start
        tuner.tell("complete", trial)

    monkeypatch.setattr(run_module.Room, "problem", problem)
    assert scene.run(fit) == Stop("system", "runs/small: too little")
    assert asked[-1] == [scene.trials[0].proposal.trial]
    assert load_trials(scene.context.folder)[0].ending == "interrupted"


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


@pytest.mark.parametrize("fails", [False, True])
def test_however_tune_ends_what_trials_took_is_noted_and_nothing_of_tune_stays(
    scene, monkeypatch, fails
):
    def fit(tuner):
        (scene.context.folder / run_module.SCRATCH / "run").mkdir(parents=True)
        if fails:
            raise KeyError("a mistake")

    written = []
    history = SimpleNamespace(write=lambda: written.append(True))
    remaining = SimpleNamespace(
        history=history, trial_seconds=lambda name: None, waiting_seconds=lambda names, number: None
    )
    monkeypatch.setattr(run_module, "remaining_of", lambda *told: remaining)
    with pytest.raises(KeyError) if fails else nullcontext():
        scene.run(fit)
    assert written == [True]
    assert not (scene.context.folder / run_module.SCRATCH).exists()


ASKED = "method={name: qmc, trials_per_cell: 2}"
DRAWN = "parameters={train.lr: {min: 0.1, max: 0.2, distribution: uniform}}"


@pytest.mark.parametrize(
    ("changes", "live", "most"), [([ASKED, DRAWN], 1, 6), ([ASKED, DRAWN], 3, None), ([], 1, None)]
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
        threading.Event().wait(0.2)
        seen.append(load_running(scene.context.folder).waits_for)
        tuner.start()
        threading.Event().wait(0.2)
        seen.append(load_running(scene.context.folder).waits_for)

    seen = []
    monkeypatch.setattr(run_module, "RECORD_EVERY_S", 0.0)
    monkeypatch.setattr(run_module.WaitingForCores, "check", check)
    scene.run(fit)
    assert seen == ["a node", ""]


def test_networks_are_timed_when_all_trials_have_ended_until_somebody_stops(scene, monkeypatch):
    timed = []

    class FakeTiming:
        def __init__(self, context, slots, cluster, closed, note):
            timed.append((slots.concurrent, closed()))

        def run(self, todo):
            timed.append("run")

    monkeypatch.setattr(run_module, "Timing", FakeTiming)
    scene.run(lambda tuner: tuner.start())
    assert timed == []
    scene.run(lambda tuner: [fail(tuner, tuner.start(number)) for number in range(3)])
    assert timed == [(2, False), "run"]


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
    shares = Granting(Grant(1, 0.5))
    with pytest.raises(TrialFailed, match="no dense trial"):
        TuneRun._request(SimpleNamespace(), trial, SimpleNamespace(folder=folder), shares)
    assert shares.ended == ["sparse"]
