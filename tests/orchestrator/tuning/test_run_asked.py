"""Runs of a sweep whose search makes trials one by one, with Tune made up: what is started, and how
that goes on after the driver died.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from orchestrator.ensembling.pools import check_ended, unended
from orchestrator.record.epochs import EpochLog
from orchestrator.record.folder import folder_of, journal_of_run, prepare
from orchestrator.record.journal import read_journal
from orchestrator.record.past import load_past
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_trials, open_slots
from orchestrator.record.status import load_status
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import parse_sweep
from orchestrator.tracking.tracker import NullTracker
from orchestrator.tuning import run as run_module
from orchestrator.tuning.run import run_trials
from orchestrator.tuning.sweep_run import SweepRun, known_trials
from tests.orchestrator.simulation.made_curves import made_result
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.9]
  train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}
train: {epochs: 9}
method: {name: tpe, trials_per_cell: 6, startup_trials: 2, final_seeds: 2}
tracking: {uri: none}
resources: {gpus: 0}
"""
FROM_DENSE = "sparsity.from=dense"


class Killed(Exception):
    """The driver dies."""


class FakeTune:
    """One trial at a time, until nothing is left; dies after so many steps."""

    left = 0

    def __init__(self, trainable, tune_config, run_config):
        self.searcher = tune_config.search_alg
        self.callbacks = run_config.callbacks

    def tell(self, event, trial, *arguments):
        self.step()
        for callback in self.callbacks:
            getattr(callback, f"on_trial_{event}")(0, [], trial, *arguments)

    def step(self):
        if FakeTune.left <= 0:
            raise Killed
        FakeTune.left -= 1

    def fit(self):
        number = 0
        while (config := self.searcher.suggest(f"t{number}")) != self.searcher.FINISHED:
            assert isinstance(config, dict)
            name = config["out"].rpartition("/")[2]
            shell = SimpleNamespace(
                trial_id=f"t{number}",
                config=config,
                last_result={},
                pickled_error_file=None,
                temporary_state=SimpleNamespace(ray_actor=None),
            )
            self.tell("start", shell)
            self.train(self.searcher.trial_of(shell.trial_id), shell)
            assert name
            number += 1

    def train(self, trial, shell):
        lr = trial.config.train.lr
        if str(lr)[-1] in "15":
            shell.last_result = {"failed": "train_loss must be finite"}
        else:
            self.step()
            folder = trial.proposal.folder(FakeTune.folder)
            folder.path.mkdir(parents=True, exist_ok=True)
            result = made_result(trial, round(1 - abs(lr - 0.1), 6))
            folder.result_file.write_text(result.model_dump_json())
        self.tell("complete", shell)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Runs a sweep until it dies after so many steps, or is over; returns why it was cut short."""
    cluster = SimpleNamespace(check=lambda **_: None, shared=False, lost=False)
    monkeypatch.setattr(run_module, "ray_cluster", lambda address, note: nullcontext(cluster))
    monkeypatch.setattr(run_module, "possible_nodes", lambda: [{"CPU": 2}])
    monkeypatch.setattr(run_module, "live_nodes", lambda: [{"CPU": 2}])
    monkeypatch.setattr(run_module, "TICK_S", 0.01)
    monkeypatch.setattr(run_module.tune, "with_resources", lambda trainable, wanted: trainable)
    monkeypatch.setattr(run_module.tune, "Tuner", FakeTune)
    monkeypatch.setattr(run_module, "untimed", lambda context, sparse=True: {})

    def run(folder, *changes, steps=10_000):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        sweep = parse_sweep("small.yaml", TEXT, changes)
        FakeTune.folder, FakeTune.left = folder_of(sweep), steps
        prepare(sweep, FakeTune.folder)
        trials, slots, behind = known_trials(sweep, load_proposals(FakeTune.folder))
        journal = journal_of_run(FakeTune.folder)
        context = SweepRun(
            sweep, FakeTune.folder, trials, journal, NullTracker(), slots=slots, behind=behind
        )
        journal.append("sweep_resumed", slots=slots)
        try:
            return run_trials(context)
        except Killed:
            return "killed"

    return run


def by_cell(names):
    return sorted(names, key=lambda name: name.rpartition("-")[0])


def proposed():
    return [each.trial for each in load_proposals(FakeTune.folder)]


@pytest.mark.parametrize(
    "changes", [(), (FROM_DENSE,), ("method.name=qmc", "method.startup_trials=null")]
)
def test_a_driver_that_dies_anywhere_proposes_what_it_would_have(scene, changes):
    assert scene("whole", *changes) is None
    whole = proposed()
    assert len(whole) == 14  # two cells of six trials, and the best of each again
    for steps in (2, 5):
        cut, runs = "killed", 0
        while cut == "killed":
            cut = scene(f"cut{steps}", *changes, steps=steps)
            runs += 1
        assert cut is None
        assert runs > 14 * 2 // (steps + 1)
        assert by_cell(proposed()) == by_cell(whole)
        names = [
            event["trial"]
            for event in read_journal(FakeTune.folder / "journal.jsonl")
            if event["event"] in ("trial_finished", "trial_failed")
        ]
        assert sorted(names) == sorted(whole)  # each ended once, and none was run again


def test_what_has_not_been_proposed_yet_has_not_ended(scene):
    assert scene("some", steps=9) == "killed"
    run = FakeTune.folder
    ended = sum(state.ended for state in load_trials(run))
    left = open_slots(read_journal(run / "journal.jsonl"))
    assert sum(left.values()) == 14 - len(proposed())
    with pytest.raises(UserError, match=f"{14 - ended} trials have not ended"):
        check_ended(run)
    assert f"{14 - ended} of 14 trials have not ended" in unended(run)
    status = load_status(run)
    assert {cell.cell: cell.total for cell in status.cells} == {"level0": 7, "level0.9": 7}
    assert status.state == "not running"
    assert scene("some") is None
    check_ended(run)
    assert unended(run) is None


def test_trials_that_start_from_dense_ones_know_them_by_then(scene):
    assert scene("dense", FROM_DENSE) is None
    proposals = {each.trial: each for each in load_proposals(FakeTune.folder)}
    dense = [name for name, each in proposals.items() if each.cell == "level0"]
    assert list(proposals)[:7] == dense
    for each in proposals.values():
        same_seed = tuple(name for name in dense if proposals[name].seed == each.seed)
        assert each.after == (() if each.cell == "level0" else same_seed)


def test_a_cell_with_fewer_assignments_than_slots_is_over_when_they_are_tried(scene):
    few = "parameters={train.lr: {values: [0.1, 0.2, 0.3], axis: trial}}"
    assert scene("few", few, "method.final_seeds=1") is None
    assert len(proposed()) == 3


def test_what_earlier_runs_ended_is_not_left_to_share_the_cores(scene, monkeypatch):
    told, shares_of = [], run_module.shares_of
    monkeypatch.setattr(
        run_module,
        "shares_of",
        lambda context, slots, left, note: (
            told.append(left) or shares_of(context, slots, left, note)
        ),
    )
    assert scene("some", steps=9) == "killed"
    ended = sum(state.ended for state in load_trials(FakeTune.folder))
    assert ended > 1
    assert scene("some", steps=0) == "killed"
    assert told == [14, 14 - ended]


def test_an_end_by_a_rule_that_was_not_written_down_is_told_as_ever_after(scene, monkeypatch):
    rule, pasts = "early_terminate={type: plateau, patience: 1}", []
    monkeypatch.setattr(
        run_module, "load_past", lambda *told: pasts.append(load_past(*told)) or pasts[-1]
    )
    assert scene("cut", rule, steps=7) == "killed"
    best, *_ = proposed()
    cut = next(state.proposal for state in load_trials(FakeTune.folder) if not state.ended)
    assert best.startswith(f"{cut.cell}-")
    log = EpochLog(FakeTune.folder)
    for name, top1 in ((best, 0.9), (cut.trial, 0.5)):
        for epoch in range(3):
            log.append(name, epoch, {"selection_top1": top1})
    assert scene("cut", rule, steps=0) == "killed"
    assert scene("cut", rule, steps=0) == "killed"
    ends = [
        [step.outcome for step in past if step.outcome and step.trial.proposal == cut]
        for past in pasts[1:]
    ]
    assert ends == [[Outcome("pruned", None, 3, (0.5,))]] * 2
