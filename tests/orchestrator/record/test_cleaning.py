"""What `clean` finds and removes: only what nobody needs, only what a sweep made."""

import json

import pytest

from orchestrator.record import lease
from orchestrator.record.cleaning import clean, find_everything, find_waste
from orchestrator.record.folder import journal_of, load_folder
from orchestrator.record.proposals import load_proposals
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.space import all_trials
from tests.orchestrator.finished import finished
from tests.orchestrator.sweep_files import SMALL
from trainables.contract.disk import write_json

UNTRACKED = SMALL + "tracking: {uri: none}\n"


@pytest.fixture
def run(tmp_path):
    """A sweep of four finished trials with checkpoints; two of them are dense."""
    return with_checkpoints(finished(tmp_path, UNTRACKED))


def with_checkpoints(run):
    for proposal in load_proposals(run):
        folder = proposal.folder(run)
        folder.checkpoint_file.parent.mkdir()
        folder.checkpoint_file.write_bytes(b"x" * 70)
        folder.best_file.write_bytes(b"x" * 30)
    return run


def found(run, policy="none"):
    cleaning = find_waste(run, load_folder(run), policy)
    return {waste.what: (len(waste.files), waste.size) for waste in cleaning.wastes}


def files(run):
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", {}),
        ("best_per_cell", {}),
        ("none", {"checkpoints of finished trials": (8, 400)}),
    ],
)
def test_checkpoints_by_policy(run, policy, expected):
    assert found(run, policy) == expected  # each cell has one trial


def test_trials_that_will_not_go_on_need_no_checkpoint(run):
    journal = journal_of(run)
    for proposal, event in zip(
        load_proposals(run), ("trial_failed", "trial_pruned", "trial_interrupted"), strict=False
    ):
        proposal.folder(run).result_file.unlink()
        journal.append(event, trial=proposal.trial, cell=proposal.cell, reason="loss is nan")
    expected = {"checkpoints of failed trials": (2, 100), "checkpoints of pruned trials": (2, 100)}
    assert found(run, "all") == expected
    assert clean(run, find_waste(run, load_folder(run), "all")) == 200
    assert found(run, "all") == {}
    going_on = load_proposals(run)[2].folder(run)
    assert going_on.checkpoint_file.is_file()


def test_what_dead_processes_left_goes(run):
    trial = load_proposals(run)[0].folder(run)
    left = {
        "epochs": run / ".tune" / "run" / "t0" / "result.json",
        "driver": run / ".running.json.0123abcd.partial",
        "trial": trial.path / ".deploy.pt.0123abcd.partial",
        "lease": run / ".lease.0123456789ab.partial",
        "source": run / "sources" / ".0a1b.partial" / "config.json",
    }
    for path in left.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    (run / ".tune" / "empty").mkdir()
    mine = [run / ".notes.partial", trial.path / "mine.txt", run / "sources" / "notes.txt"]
    for path in mine:
        path.write_bytes(b"mine")
    before = files(run)
    assert found(run, "all") == {
        "Ray Tune's scratch": (1, 5),
        "files that killed processes left half written": (4, 20),
    }
    assert clean(run, find_waste(run, load_folder(run), "all")) == 25
    assert before - files(run) == {path.relative_to(run).as_posix() for path in left.values()}
    assert not (run / ".tune").exists()
    assert not (run / "sources" / ".0a1b.partial").exists()


def test_dense_weights_stay_while_mlflow_may_lack_them(tmp_path):
    run = with_checkpoints(finished(tmp_path, SMALL))
    both = {"checkpoints of finished trials": (4, 200)}  # the sparse ones
    assert found(run) == both
    cleaning = find_waste(run, load_folder(run), "none")
    assert cleaning.notes == (
        "2 checkpoints of dense trials stay: MLflow may lack their weights until the sweep has"
        " finished with all delivered",
    )
    journal_of(run).append("sweep_finished", failed=0, trials=4, undelivered=1)
    assert found(run) == both
    journal_of(run).append("sweep_finished", failed=0, trials=4)
    assert found(run) == {"checkpoints of finished trials": (8, 400)}


def test_dense_weights_stay_while_a_search_may_propose_trials_that_start_from_them(tmp_path):
    run = with_checkpoints(finished(tmp_path, UNTRACKED))
    resolved = json.loads((run / "resolved.json").read_text())
    resolved["sweep"]["method"] = {"name": "qmc", "trials_per_cell": 1}
    resolved["sweep"]["parameters"]["train.lr"] = {"min": 0.1, "max": 0.2, "axis": "trial"}
    write_json(run / "resolved.json", resolved)
    assert found(run) == {"checkpoints of finished trials": (4, 200)}
    journal_of(run).append("sweep_finished", failed=0, trials=4)
    assert found(run) == {"checkpoints of finished trials": (8, 400)}


# --- a whole sweep


def test_a_whole_sweep_goes_and_what_it_did_not_make_stays(run):
    trial = load_proposals(run)[0].folder(run)
    made = [
        *(run / name for name in ("drain", ".lock", ".lease.3", "epochs.jsonl", "times.json")),
        *(trial.path / name for name in (".lock", "latency.json", "model/bundle.json")),
        trial.level_scores("l0", "test"),
        *(
            run / "ensembles" / "final" / name
            for name in ("members.json", "model/t.pt", "model/README.md")
        ),
        run / "asked" / "small" / "ensembles" / "small" / "scores.parquet",
        run / "predictions" / "0.parquet",
        run / "report" / "tables" / "results.csv",
        run / ".tune" / "x" / "y",
        run / "sources" / "0a1b" / "checkpoint" / "best.pt",
    ]
    others = ["notes.txt", "report/mine.md", "trials/strange/result.json", "ensembles/final/x.txt"]
    for path in (*made, *(run / name for name in others)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    elsewhere = run.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.json").write_bytes(b"1")
    (run / "trials" / "link").symlink_to(elsewhere)
    cleaning = find_everything(run)
    # nobody else may begin in the folder before no sweep is known there
    held = [run / ".lease.3", run / ".lock"]
    assert list(cleaning.wastes[0].files[-3:]) == [run / "resolved.json", *held]
    assert cleaning.notes == ("what no sweep made stays: 5, such as ensembles/final/x.txt",)
    assert clean(run, cleaning) == cleaning.size
    assert files(run) == set(others)
    assert (elsewhere / "result.json").is_file()
    assert not trial.path.exists()


def test_a_whole_sweep_leaves_no_folder(run):
    assert find_everything(run).notes == ()
    clean(run, find_everything(run))
    assert not run.exists()


def test_killed_at_any_moment_the_rest_is_still_known_as_a_sweep(run, monkeypatch):
    files_before, unlinked = files(run), []
    original = type(run).unlink

    def unlink(path, **options):
        original(path, **options)
        unlinked.append(path.name)
        assert (run / "resolved.json").is_file() or len(unlinked) == len(files_before)

    monkeypatch.setattr(type(run), "unlink", unlink)
    clean(run, find_everything(run))
    assert unlinked[-1] == "resolved.json"
    assert lease.lease_files(run) == []


def test_a_shared_beginning_goes_once_no_trial_needs_it(tmp_path):
    text = UNTRACKED.replace("parameters:", "sparsity: {penalty: none}\nparameters:")
    run = finished(tmp_path, text)
    sweep, proposals = load_folder(run), load_proposals(run)
    trials = all_trials(sweep, proposals)
    first, *_ = shared = shared_beginnings(sweep, trials)
    for each in shared:
        each.file(run).parent.mkdir(exist_ok=True)
        each.file(run).write_bytes(b"x" * 10)
    (run / "shared" / "notes.txt").write_bytes(b"x")
    (run / "shared" / ("0" * 16 + ".pt")).write_bytes(b"x" * 10)
    [waiting] = first.branching
    next(p for p in proposals if p.trial == waiting).folder(run).result_file.unlink()
    assert found(run) == {"shared beginnings that no trial needs": (2, 20)}
    clean(run, find_waste(run, sweep, "none"))
    assert {file for file in files(run) if file.startswith("shared/")} == {
        f"shared/{first.digest}.pt",
        "shared/notes.txt",
    }
    assert f"shared/{first.digest}.pt" in str(find_everything(run).wastes[0].files)
