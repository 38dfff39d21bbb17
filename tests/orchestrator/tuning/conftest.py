"""Runs of a sweep with Tune made up."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from orchestrator.record.folder import journal_of
from orchestrator.sweep import parse_sweep
from orchestrator.tracking.tracker import NullTracker
from orchestrator.tuning import run as run_module
from orchestrator.tuning.run import run_trials
from orchestrator.tuning.sweep_run import SweepRun
from tests.orchestrator.recorded import recorded
from tests.orchestrator.tuning.made_tune import TEXT, FakeTuner


@pytest.fixture
def scene(tmp_path, monkeypatch, request):
    """Runs the trials of a sweep; `fit` stands for Tune's."""
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", TEXT, getattr(request, "param", ()))
    folder, trials = recorded(sweep)
    context = SweepRun(sweep, folder, trials, journal_of(folder), NullTracker())
    cluster = SimpleNamespace(check=lambda **_: None, shared=False, lost=False)
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
