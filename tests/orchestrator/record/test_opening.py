"""A folder is held for a run of a sweep; what a start has written is undone where nothing began."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from orchestrator.record import folder
from orchestrator.record.folder import (
    closed_folders,
    find_folder,
    folder_of,
    held,
    is_running,
    journal_of_run,
    known_proposals,
    list_folders,
    load_folder,
    opened,
    prepare,
    store_digest,
)
from orchestrator.record.journal import read_journal
from orchestrator.sweep import parse_sweep
from tests.orchestrator.fake_run import make_store
from tests.orchestrator.record.test_folder import TEXT, sweep_of
from tests.orchestrator.recorded import recorded
from trainables.contract.errors import UserError

RUN = Path("runs/small")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fail_after(act, *, begun=False):
    """Open the folder, do something and fail. begun: once a trial was given out."""

    def begin(opening):
        act()
        if begun:
            opening.begin()
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"), opened(RUN) as opening:
        begin(opening)


def start(*events):
    """Write what a start writes, with these events."""
    prepare(sweep_of(), RUN)
    for event in events:
        journal_of_run(RUN).append(event, trial="t", cell="c")
    (RUN / "sources").mkdir()
    (RUN / ".tune").mkdir()


@pytest.mark.parametrize("there_before", [False, True])
def test_a_start_that_fails_leaves_nothing_but_a_folder_that_was_there(there_before):
    if there_before:
        RUN.mkdir(parents=True)
    fail_after(lambda: start("sweep_started"))
    assert RUN.exists() == there_before
    assert not there_before or list(RUN.iterdir()) == []


def test_a_start_that_fails_early_leaves_nothing_and_raises_what_happened():
    fail_after(lambda: prepare(sweep_of(), RUN))  # there is no journal and no scratch folder yet
    assert not RUN.exists()


def test_what_others_put_there_meanwhile_stays():
    fail_after(lambda: (start("sweep_started"), (RUN / "notes.txt").write_text("mine")))
    assert [path.name for path in RUN.iterdir()] == ["notes.txt"]


def test_a_start_whose_trials_began_stays():
    fail_after(lambda: start("sweep_started"), begun=True)  # the journal could not tell of one
    assert find_folder("small") == RUN
    assert len(read_journal(RUN / "journal.jsonl")) == 1


def test_only_what_a_refused_resume_changed_is_written_again(monkeypatch, caplog):
    prepare(sweep_of(), RUN)
    written = []
    monkeypatch.setattr(folder, "write_atomic", lambda path, content: written.append(path.name))
    fail_after(lambda: (RUN / "sweep.yaml").write_text("changed"))
    assert written == ["sweep.yaml"]

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_atomic", full)
    fail_after(lambda: (RUN / "sweep.yaml").write_text("changed again"))
    assert "what it was before cannot be written back" in caplog.text


def test_a_folder_that_no_sweep_made_is_left_alone():
    RUN.mkdir(parents=True)
    (RUN / ".lock").touch()  # as a start that was killed leaves it
    (RUN / ".resolved.json.k3").touch()
    with opened(RUN):
        assert is_running(RUN)
    (RUN / "b.txt").touch()
    (RUN / "a.txt").touch()
    with pytest.raises(UserError, match=r"but holds a\.txt and no resolved\.json"), opened(RUN):
        pass
    (RUN / "a.txt").unlink()
    (RUN / "b.txt").unlink()
    (RUN / ".resolved.json.d").mkdir()
    with pytest.raises(UserError, match=r"but holds \.resolved\.json\.d"), opened(RUN):
        pass


def test_a_file_in_the_place_of_a_folder_is_named():
    RUN.parent.mkdir()
    RUN.touch()
    with pytest.raises(UserError, match="runs/small: must be a folder, but is a file"), opened(RUN):
        pass


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_sweep_runs_where_a_driver_of_this_machine_or_of_another_holds_it(
    monkeypatch, here, elsewhere
):
    monkeypatch.setattr(folder.locks, "is_held", lambda run: here)
    monkeypatch.setattr(folder, "is_renewed", lambda run, first: elsewhere)
    assert is_running(RUN) == (here or elsewhere)


def test_a_store_is_named_by_its_content_wherever_it_lies(tmp_path):
    make_store(tmp_path / "store")
    make_store(tmp_path / "other", copies=1)
    shutil.copytree(tmp_path / "store", tmp_path / "moved")
    names = [store_digest(str(tmp_path / each)) for each in ("store", "moved", "other", "nowhere")]
    assert names[0] == names[1] != names[2]
    assert None not in names[:3]
    assert names[3] is None


def test_a_sweep_stays_where_its_folder_is():
    prepare(sweep_of(), RUN)
    for setting in ("name=other", "storage=elsewhere"):
        with pytest.raises(UserError, match=r"must stay \S+, got \S+: move the folder"):
            load_folder(RUN, [setting])
    assert load_folder(RUN, ["budget.hours=2"]).budget.hours == 2
    moved = RUN.rename("elsewhere")
    assert load_folder(moved).storage == "."


def test_what_is_found_by_name():
    with pytest.raises(UserError, match=r"small: must be a sweep in runs/ .* there are none"):
        find_folder("small")
    for name in ("b", "a"):
        prepare(parse_sweep("small.yaml", TEXT, [f"name={name}"]), Path("runs", name))
    Path("runs/other").mkdir()
    Path("runs/file").touch()
    assert list_folders() == [Path("runs/a"), Path("runs/b")]
    with pytest.raises(UserError, match=r"there are a, b$"):
        find_folder("small")
    assert list_folders("runs/file") == closed_folders("runs/file") == []


def test_folders_that_may_not_be_looked_into_are_listed(monkeypatch):
    assert closed_folders() == []
    for name in ("b", "a", "open"):
        Path("runs", name).mkdir(parents=True)
    Path("runs/file").touch()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.name == "open" and access(path, mode))
    assert closed_folders() == [Path("runs/a"), Path("runs/b")]


def test_what_was_proposed_before_is_known_while_the_sweep_is_the_same():
    sweep = sweep_of()
    assert known_proposals(sweep, RUN) == ()
    prepare(sweep, folder_of(sweep))
    _, trials = recorded(sweep)
    assert known_proposals(sweep, RUN) == tuple(trial.proposal for trial in trials)
    assert known_proposals(sweep_of(TEXT, "train.epochs=4"), RUN) == ()
    (RUN / "resolved.json").write_text("{")
    assert known_proposals(sweep, RUN) == ()


def test_a_store_at_another_place_is_the_same_where_its_content_is(monkeypatch):
    digests = {"nowhere": "d1", "moved": "d1", "other": "d2"}
    monkeypatch.setattr(folder, "store_digest", digests.get)
    prepare(sweep_of(), RUN)
    del digests["nowhere"]  # what the folder noted of it counts
    moved = sweep_of(TEXT, "data.store=moved")
    assert prepare(moved, RUN).resumed
    with pytest.raises(UserError, match=r"data\.store: was 'moved', is now 'other'") as caught:
        prepare(sweep_of(TEXT, "data.store=other"), RUN)
    assert len(caught.value.problems) == 2
    digests.clear()  # no store is there any more; the folder knows which it was
    assert prepare(moved, RUN).resumed
    with pytest.raises(UserError, match=r"data\.store: was 'moved'"):
        prepare(sweep_of(), RUN)
    digests["again"] = "d1"
    assert prepare(sweep_of(TEXT, "data.store=again"), RUN).resumed


def test_a_store_that_is_gone_cannot_be_told_from_another(monkeypatch):
    monkeypatch.setattr(folder, "store_digest", lambda store: None)
    prepare(sweep_of(), RUN)
    with pytest.raises(UserError) as caught:
        prepare(sweep_of(TEXT, "data.store=other"), RUN)
    assert caught.value.problems[-1] == (
        "  (nowhere is not there, so it cannot be told whether other is the same)"
    )


def test_a_parameter_more_is_one_difference():
    prepare(sweep_of(), RUN)
    more = "parameters.train.lr={min: 0.1, max: 0.2}"
    with pytest.raises(UserError) as caught:
        prepare(sweep_of(TEXT, "method={name: random, trials_per_cell: 1}", more), RUN)
    lines = [line for line in caught.value.problems if "train.lr" in line]
    assert len(lines) == 1
    assert lines[0].startswith("  parameters.train.lr: was None, is now {")


def test_every_difference_is_a_line():
    prepare(sweep_of(), RUN)
    changed = TEXT.replace("[0.0, 0.6]", "[0.0, 0.7]").replace("epochs: 3", "epochs: 4, lr: 0.2")
    with pytest.raises(UserError) as caught:
        prepare(sweep_of(changed), RUN)
    first, *lines = caught.value.problems
    assert first.startswith("runs/small: holds another sweep of the name 'small'; take another")
    assert [line.split(":")[0] for line in lines] == [
        "  parameters.sparsity.level.values",
        "  train.epochs",
        "  train.lr",
        "  train.warmup_epochs",
        "  train.milestones",
    ]


def test_who_holds_a_folder_is_told_what_shows_how_far_it_is():
    with (
        held(RUN),
        pytest.raises(UserError, match="`orchestrate status small` shows how far it is"),
        held(RUN),
    ):
        pass
    assert not is_running(RUN)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("number", range(1, 8))
def test_a_start_that_is_killed_while_it_is_taken_back_can_be_repeated(monkeypatch, number):
    unlink, count = os.unlink, itertools.count(1)

    def die(path, **options):
        if next(count) == number:
            raise Killed
        unlink(path, **options)

    def begin():
        start("sweep_started")
        (RUN / ".sweep.yaml.0123abcd.partial").touch()
        monkeypatch.setattr(os, "unlink", die)
        raise KeyError

    def opened_and_failed():
        with opened(RUN):
            begin()

    with pytest.raises((Killed, KeyError)):
        opened_and_failed()
    monkeypatch.setattr(os, "unlink", unlink)
    with opened(RUN):
        prepare(sweep_of(), RUN)
