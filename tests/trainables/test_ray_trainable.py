"""What a worker makes of a request, and what it reports of how the trial ended."""

import errno
import gc
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from ray import tune

from trainables import ray_trainable, run
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import DataConfig, TrialConfig
from trainables.contract.disk import write_atomic
from trainables.contract.errors import (
    Interrupted,
    StorageFailed,
    TrialFailed,
    Unreached,
    UserError,
)
from trainables.ray_trainable import (
    AWAY,
    BEGAN,
    BRANCHED,
    CPU_S,
    DISK,
    EPOCHS,
    FAILED,
    GPU_MEMORY_GB,
    GPU_PEAK_GB,
    IN_EPOCH,
    SHARED,
    SHARED_EPOCHS,
    SHARED_S,
    STEP,
    STEPS,
    WALL_S,
    WARNING,
    NoGpu,
    Reports,
    SharedRequest,
    StepReports,
    TrialRequest,
    _device,
    epochs_of,
    gpu_memory,
    resources_of,
    train,
)


@pytest.fixture
def reports(monkeypatch):
    """What the worker reports to Tune."""
    found = []
    monkeypatch.setattr(tune, "report", found.append)
    before = torch.get_num_threads()
    yield found
    torch.set_num_threads(before)


def request(folder, threads=1):
    config = TrialConfig(data=DataConfig(store="s", protocol="p"))
    return TrialRequest(
        config=config.model_dump_json(),
        root=str(folder),
        out=str(folder / "trial"),
        source=None,
        cancel_file=str(folder / "cancel"),
        threads=threads,
        cpus=threads,
        gpu_fraction=0.0,
        timed=False,
        start=None,
        leave=[],
        together_s=0.0,
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_a_trial_runs_with_the_threads_of_its_request(tmp_path, reports, monkeypatch, threads):
    seen = []

    def trained(config, out, setup, watch):
        seen.append((torch.get_num_threads(), out.path, setup.device.type, setup.root))
        watch.warn("a sentence")
        watch.report({"epoch": 0, "train_loss": 1.0})

    monkeypatch.setattr(run, "run_trial", trained)
    train(request(tmp_path, threads))
    assert seen == [(threads, tmp_path / "trial", "cpu", tmp_path)]
    assert reports[:2] == [{WARNING: "a sentence"}, {"epoch": 0, "train_loss": 1.0}]
    [last] = reports[2:]
    assert set(last) == {"complete", WALL_S, CPU_S}
    assert 0 <= last[CPU_S] <= last[WALL_S] + 0.1


def test_what_was_loaded_is_looked_through_for_cycles_no_more_and_trials_are(
    tmp_path, reports, monkeypatch
):
    frozen, trials = [], []
    monkeypatch.setattr(ray_trainable.gc, "freeze", lambda: frozen.append(len(trials)))
    monkeypatch.setattr(run, "run_trial", lambda *_: trials.append(1))
    ray_trainable._load.cache_clear()
    for _ in range(3):
        train(request(tmp_path))
    assert (frozen, len(trials), gc.isenabled()) == ([0], 3, True)


def test_epochs_that_take_less_than_seconds_are_reported_together(monkeypatch):
    now, sent = [0.0], []
    monkeypatch.setattr(ray_trainable.time, "monotonic", lambda: now[0])
    tell = Reports(sent.append, 2.0)
    epochs = [{"epoch": epoch} for epoch in range(6)]
    for epoch in range(3):
        now[0] += 0.9
        tell.epoch(epochs[epoch])
    assert sent == [{EPOCHS: epochs[:3]}]
    now[0] += 2.0
    tell.epoch(epochs[3])
    assert sent[1:] == [epochs[3]]
    now[0] += 1.0
    tell.epoch(epochs[4])
    tell({WARNING: "a sentence"})
    assert sent[2:] == [{EPOCHS: [epochs[4]], WARNING: "a sentence"}]
    now[0] += 1.5
    tell.epoch(epochs[5])
    tell.flush()
    tell.flush()
    assert sent[3:] == [epochs[5]]
    assert [told for report in sent for told in epochs_of(report)] == epochs


@pytest.mark.parametrize("error", [Interrupted("stop"), TrialFailed("no"), RuntimeError("again")])
def test_epochs_that_wait_are_reported_however_a_trial_ends(tmp_path, reports, monkeypatch, error):
    def trained(config, out, setup, watch):
        watch.report({"epoch": 0, "train_loss": 1.0})
        raise error

    monkeypatch.setattr(run, "run_trial", trained)
    with suppress(RuntimeError):
        train({**request(tmp_path), "together_s": 60.0})
    assert [told for report in reports for told in epochs_of(report)] == [
        {"epoch": 0, "train_loss": 1.0}
    ]


def test_an_epoch_that_takes_minutes_says_how_far_it_is(monkeypatch):
    now, reports = [0.0], []
    monkeypatch.setattr(ray_trainable.time, "monotonic", lambda: now[0])
    stepped = StepReports(reports.append)
    for step in range(1, 11):
        now[0] += 20.0
        stepped(4, step, 10)
    assert [(row[IN_EPOCH], row[STEP], row[STEPS]) for row in reports] == [
        (4, 3, 10),
        (4, 6, 10),
        (4, 9, 10),
    ]


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (TrialFailed("train_loss must be finite"), {FAILED: "train_loss must be finite"}),
        (UserError("no such store"), {FAILED: "no such store"}),
        (Interrupted("stopped in epoch 3"), {"interrupted": "stopped in epoch 3"}),
        (
            OSError(errno.ENOSPC, "full", "trial/last.pt"),
            {DISK: "No space left on device: trial/last.pt"},
        ),
    ],
)
def test_an_end_that_another_attempt_would_meet_again_is_reported(
    tmp_path, reports, monkeypatch, error, reported
):
    def end(*_):
        raise error

    monkeypatch.setattr(run, "run_trial", end)
    train(request(tmp_path))
    assert reports == [reported]


@pytest.mark.parametrize("kind", [StorageFailed, Unreached])
def test_what_a_node_does_not_reach_is_tried_again_elsewhere(tmp_path, reports, monkeypatch, kind):
    def end(*_):
        raise kind("s3://b/x: nothing answers")

    monkeypatch.setattr(run, "run_trial", end)
    with pytest.raises(kind):
        train(request(tmp_path))
    assert reports == [{AWAY: "s3://b/x: nothing answers"}]


def test_a_trial_in_a_folder_starts_from_one_at_an_address(tmp_path, reports, monkeypatch):
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    dense = tmp_path / "bucket" / "trials" / "dense"
    write_atomic(dense / "checkpoint" / "best.pt", b"weights")
    seen = []

    def trained(config, out, setup, watch):
        seen.append((out.path, TrialDir(setup.source).best_file.read_bytes(), setup.source))

    monkeypatch.setattr(run, "run_trial", trained)
    train({**request(tmp_path), "source": f"file://{dense}"})
    [(out, weights, source)] = seen
    assert (out, weights, source.name) == (tmp_path / "trial", b"weights", "dense")
    assert not source.exists()


def test_any_other_exception_reaches_tune_which_starts_the_trial_again(
    tmp_path, reports, monkeypatch
):
    def end(*_):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(run, "run_trial", end)
    with pytest.raises(RuntimeError, match="CUDA error"):
        train(request(tmp_path))
    assert reports == []


def test_a_cancelled_sweep_starts_no_trial(tmp_path, reports, monkeypatch):
    monkeypatch.setattr(run, "run_trial", lambda *_: pytest.fail("it was started"))
    (tmp_path / "cancel").touch()
    train(request(tmp_path))
    assert reports == [{"interrupted": "stopped before the first step"}]


def test_a_cpu_trial_runs_on_the_cpu_whatever_the_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _device(0.0) == torch.device("cpu")


def test_a_gpu_trial_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoGpu, match="torch finds none on this node"):
        _device(1.0)


@pytest.mark.parametrize(("fraction", "capped"), [(0.25, [0.25]), (1.0, []), (2.0, [])])
def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch, fraction, capped):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    assert _device(fraction) == torch.device("cuda")
    assert calls == capped


def test_what_a_trial_asks_of_its_node(tmp_path):
    asked = {**request(tmp_path, threads=2), "gpu_fraction": 0.5}
    assert resources_of(asked, 1024.0).bundles == [{"CPU": 2.0, "GPU": 0.5, "memory": 1024.0}]
    assert resources_of(request(tmp_path)).bundles == [{"CPU": 1.0}]


def test_memory_is_reported_of_gpus_alone(monkeypatch):
    assert gpu_memory(torch.device("cpu")) == {}
    card = SimpleNamespace(total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 2.5e9)
    found = gpu_memory(torch.device("cuda"))
    assert found == {GPU_MEMORY_GB: 80.0, GPU_PEAK_GB: 2.5}


def test_what_a_trial_shares_is_reported_and_its_epochs_are_marked(tmp_path, reports, monkeypatch):
    def trained(config, out, setup, watch):
        start, (leave,) = setup.beginnings.start, setup.beginnings.leave
        assert (start.path, start.digest, start.epochs) == (tmp_path / "a.pt", "a", 2)
        setup.beginnings.branched(start, 4.0)
        for epoch in range(3):
            watch.report({"epoch": epoch})
        setup.beginnings.left(leave, 5.0)

    monkeypatch.setattr(run, "run_trial", trained)
    shared = {
        name: SharedRequest(path=str(tmp_path / f"{name}.pt"), digest=name, epochs=epochs)
        for name, epochs in (("a", 2), ("b", 3))
    }
    train({**request(tmp_path), "start": shared["a"], "leave": [shared["b"]]})
    assert reports[:-1] == [
        {BRANCHED: "a", SHARED_EPOCHS: 2, SHARED_S: 4.0},
        {"epoch": 0, SHARED: True},
        {"epoch": 1, SHARED: True},
        {"epoch": 2},
        {BEGAN: "b", SHARED_EPOCHS: 3, SHARED_S: 5.0},
    ]
