"""A sweep that lies at an address: what commands see of it, and what comes."""

import json
import shutil
import threading
from contextlib import nullcontext

import pytest

from orchestrator.conduct import conclude
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record import copies
from orchestrator.record.copies import copy_of, fetch, here, place_of, refresh, storage_of
from orchestrator.record.folder import (
    find_folder,
    folder_of,
    held,
    list_folders,
    list_names,
    load_folder,
    prepare,
)
from orchestrator.record.journal import read_journal
from orchestrator.record.resolved import load_resolved
from orchestrator.record.states import begun_epochs, load_trials
from orchestrator.record.status import load_status, load_statuses
from orchestrator.record.working_copy import Copy, is_stub
from orchestrator.tuning.sweep_run import known_trials
from tests.orchestrator.in_process import run_captured
from tests.orchestrator.record.at_an_address import download, new_machine, state_of, upload
from trainables.contract.disk import write_atomic, write_json
from trainables.contract.errors import UserError
from trainables.contract.locks import is_held
from trainables.remote.objects import Objects

pytestmark = pytest.mark.usefixtures("quick_end", "own_cache")


def test_a_sweep_that_was_copied_to_an_address_is_the_same_one(storage, local):
    run = find_folder("small", storage)
    assert state_of(run) == state_of(local)
    moved, before = load_folder(run), load_folder(local)
    assert moved.storage == storage
    assert moved.digest() == before.digest()
    assert folder_of(moved) == run
    assert read_journal(run / "journal.jsonl") == read_journal(local / "journal.jsonl")


def test_it_has_its_address_for_a_name(storage):
    assert find_folder(f"{storage}/small").name == "small"
    assert [run.name for run in list_folders(storage)] == ["small"]
    with pytest.raises(UserError, match="there are small"):
        find_folder("smal", storage)


def test_places_are_said_as_other_machines_find_them(storage, local):
    run = find_folder("small", storage)
    assert storage_of(run) == storage
    assert place_of(run) == f"{storage}/small"
    assert place_of(run / "trials" / "t1") == f"{storage}/small/trials/t1"
    assert storage_of(local) == str(local.parent)
    assert place_of(local / "trials") == str(local / "trials")
    assert copy_of(local) is None


def test_large_files_of_trials_come_when_they_are_read(storage, local, store):
    _, fs = store
    run = find_folder("small", storage)
    trial = load_trials(run)[0].proposal
    file, there = trial.folder(run).test_scores, trial.folder(local).test_scores
    assert is_stub(file)
    assert file.stat().st_size == there.stat().st_size
    assert file.stat().st_blocks == 0
    assert not any("scores" in path for name, path in fs.requests if name == "cat_file")
    assert here(file).read_bytes() == there.read_bytes()
    assert not is_stub(file)
    fetch([run / "trials"])
    assert not [path for path in run.rglob("*") if path.is_file() and is_stub(path)]
    assert here(there).read_bytes() == there.read_bytes()


def test_what_has_not_changed_is_not_fetched_again(storage, store):
    _, fs = store
    run = find_folder("small", storage)
    fs.revive()
    copies._copy.cache_clear()  # another process
    refresh(run)
    assert [name for name, _ in fs.requests] == ["find"]


def test_what_is_gone_there_goes_here(storage):
    run = find_folder("small", storage)
    Objects(f"{storage}/small").remove(["sweep.yaml"])
    refresh(run)
    assert not (run / "sweep.yaml").exists()


def test_an_evaluation_is_the_one_of_a_folder_and_may_move_back(
    storage, local, tmp_path, monkeypatch
):
    conclude(local, partial=False)
    conclude(find_folder("small", storage), partial=False)
    here_, there = (FinalEvaluation.load(run) for run in (local, find_folder("small", storage)))
    assert here_ == there
    back = tmp_path / "back" / "small"
    download(f"{storage}/small", back)
    assert state_of(back) == state_of(local)
    assert FinalEvaluation.load(back) == here_
    assert load_folder(back).storage == str(back.parent)
    new_machine(monkeypatch, tmp_path)
    assert FinalEvaluation.load(find_folder("small", storage)) == here_


def test_a_sweep_that_is_half_done_goes_on_wherever_it_was_moved(store, local, tmp_path):
    """In a folder, at an address, in a folder at another place: of the same file, with the same
    trials, of which the same are left, from the same checkpoint.
    """
    address, _ = store
    begun, waiting, *_rest = (state.proposal.folder(local) for state in load_trials(local))
    begun.result_file.unlink()
    write_atomic(begun.checkpoint_file, b"state")
    shutil.rmtree(waiting.path)
    upload(local, f"{address}/small")
    back = tmp_path / "elsewhere" / "small"
    download(f"{address}/small", back)
    before, there = load_folder(local), []
    for run in (local, find_folder("small", address), back):
        sweep = before.model_copy(update={"storage": storage_of(run)})
        with held(run):
            assert prepare(sweep, run).resumed
        states = load_trials(run)
        trials, slots, behind = known_trials(sweep, [state.proposal for state in states])
        there.append(
            (
                (load_resolved(run)["mark"], load_resolved(run)["digest"]),
                [(trial.proposal, trial.config) for trial in trials],
                (slots, behind, state_of(run), begun_epochs(run, states)),
            )
        )
    assert there[0] == there[1] == there[2]
    assert list(there[0][2][3]) == [begun.path.name]
    with pytest.raises(UserError, match="holds another sweep"), held(run):
        prepare(sweep.model_copy(update={"seed": 5}), run)


def test_an_address_that_knows_nothing_does_not_empty_the_copy(storage):
    """Another server that answers, such as a proxy that has no such page."""
    run = find_folder("small", storage)
    before = sorted(run.rglob("*"))
    objects = Objects(f"{storage}/small")
    objects.remove(objects.list())
    with pytest.raises(UserError, match=r"resolved\.json: is not there any more, but was"):
        refresh(run)
    assert sorted(run.rglob("*")) == before


def test_a_report_can_be_read_after_any_command(storage):
    run = find_folder("small", storage)
    with held(run):
        write_atomic(run / "report" / "index.html", b"<html>")
    copies._copy.cache_clear()  # another process
    refresh(run)
    assert (run / "report" / "index.html").read_bytes() == b"<html>"


def test_two_processes_share_a_copy(storage):
    """What one has fetched the other does not take away, and a process that reads takes nothing
    from one that begins to write.
    """
    run = find_folder("small", storage)
    other = Copy(run, f"{storage}/small")
    other.pull()
    file = load_trials(run)[0].proposal.folder(run).test_scores
    here(file)
    other.pull()
    assert not is_stub(file)
    listed, go = threading.Event(), threading.Event()
    real = other.objects.list

    def slow(below=""):
        found = real(below)
        listed.set()
        assert go.wait(10)
        return found

    other.objects.list = slow
    reader = threading.Thread(target=other.pull, kwargs={"unless": lambda: False})
    reader.start()
    assert listed.wait(10)
    threading.Timer(0.2, go.set).start()
    with held(run):  # once the other one has ended
        reader.join()
        write_json(run / "running.json", {})
        other.pull(unless=lambda: is_held(run))
        assert (run / "running.json").is_file()


def test_commands_take_an_address(storage, capsys):
    code, out, _ = run_captured(capsys, "status", "small", "--storage", storage, "--json")
    assert (code, json.loads(out)["name"]) == (0, "small")
    code, out, _ = run_captured(capsys, "status", "--storage", storage, "--json")
    assert [each["name"] for each in json.loads(out)] == ["small"]
    code, out, _ = run_captured(capsys, "ensemble", "small", "--storage", storage, "--json")
    assert code == 0
    code, _, err = run_captured(capsys, "report", "small", "--storage", storage)
    assert code == 0, err
    assert Objects(f"{storage}/small").has("report/index.html")
    code, out, _ = run_captured(capsys, "clean", "small", "--storage", storage, "--all", "--yes")
    assert code == 0
    assert Objects(storage).list() == {}


def test_a_file_that_another_machine_removed_is_said(storage):
    run = find_folder("small", storage)
    stub = next(path for path in run.rglob("*.parquet") if is_stub(path))
    Objects(f"{storage}/small").remove([stub.relative_to(run).as_posix()])
    with pytest.raises(UserError, match=r"small: lacks a file that was there: another machine"):
        here(stub)


def test_a_list_of_sweeps_fetches_what_it_shows_and_a_command_the_rest(storage, store, local):
    _, fs = store
    [found] = load_statuses(storage)
    fetched = {path.rpartition("/")[2] for name, path in fs.requests if name == "cat_file"}
    assert fetched <= {"resolved.json", "journal.jsonl", "result.json", "failure.json"}
    expected = load_status(local)
    assert found.cells == expected.cells
    assert found.state == expected.state
    run = find_folder("small", storage)
    assert all(trial.proposal.folder(run).config_file.is_file() for trial in load_trials(run))


def test_names_of_sweeps_need_none_of_their_files(storage, store):
    _, fs = store
    assert list_names(storage) == ["small"]
    assert "cat_file" not in {name for name, _ in fs.requests}


@pytest.mark.parametrize(
    ("words", "held_now"),
    [
        (("stop", "small"), False),  # it is not running
        (("extend", "small"), False),  # nothing would be added
        (("export", "small/other", "x.pt2"), False),  # there is no such trial
        (("ensemble", "small"), True),  # it is being run
    ],
)
def test_messages_name_the_address_and_not_the_copy(storage, capsys, words, held_now, tmp_path):
    run = find_folder("small", storage)
    with held(run) if held_now else nullcontext():
        code, _, err = run_captured(capsys, *words, "--storage", storage)
    assert code == 2
    assert f"{storage}/small" in err
    assert str(tmp_path) not in err.replace(storage, "")
