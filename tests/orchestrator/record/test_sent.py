"""A sweep that lies at an address: what a process that drives it sends there, and when."""

import json
import shutil
from itertools import count

import pytest

from orchestrator.record import copies, keeping, lease
from orchestrator.record.copies import bring, here, local_storage, refresh, remove, send
from orchestrator.record.folder import find_folder, held, journal_of
from orchestrator.record.journal import read_journal
from orchestrator.record.keeping import problem, reached
from orchestrator.record.states import load_trials
from tests.orchestrator.record.at_an_address import new_machine, state_of, upload
from tests.trainables.remote.faulty import Killed
from trainables.contract.disk import write_atomic, write_json
from trainables.contract.errors import StorageFailed, UserError
from trainables.remote.objects import Objects

pytestmark = pytest.mark.usefixtures("quick_end", "own_cache")


def test_what_a_hold_changed_is_there_when_it_ends(storage):
    objects = Objects(f"{storage}/small")
    run = find_folder("small", storage)
    with held(run):
        journal_of(run).append("sweep_running")
        write_json(run / "report" / "x.json", 1)
        write_json(run / "evaluation.json", {})
        assert not objects.has("evaluation.json")
        reached(run)
        assert objects.has("evaluation.json")
        remove(run / "evaluation.json")
    assert not objects.has("evaluation.json")
    assert objects.read("report/x.json") == b"1\n"
    assert objects.read("journal.jsonl") == (run / "journal.jsonl").read_bytes()
    assert not any(objects.read(name) == b"" for name in objects.list())


def test_stubs_are_not_sent_and_their_removal_is(storage):
    objects = Objects(f"{storage}/small")
    before = {name: objects.read(name) for name in objects.list()}
    run = find_folder("small", storage)
    trial = load_trials(run)[0].proposal.folder(run)
    with held(run):
        pass
    assert {name: objects.read(name) for name in before} == before
    objects.write(f"trials/{trial.path.name}/checkpoint/last.pt", b"state")
    bring(trial.path)
    with held(run):
        remove(trial.checkpoint_file)
    assert not objects.has(f"trials/{trial.path.name}/checkpoint/last.pt")


def test_what_a_worker_wrote_there_is_here_once_it_is_brought(storage):
    objects = Objects(f"{storage}/small")
    run = find_folder("small", storage)
    first, second = [state.proposal.folder(run) for state in load_trials(run)][:2]
    for folder in (first, second):
        objects.write(f"trials/{folder.path.name}/checkpoint/last.pt", b"state")
    bring(first.path)
    assert here(first.checkpoint_file).read_bytes() == b"state"
    assert not second.checkpoint_file.exists()
    bring(second.checkpoint_file)
    assert here(second.checkpoint_file).read_bytes() == b"state"


@pytest.mark.parametrize("lost", ["*.json", "*.pt", "*.parquet"])
def test_what_gets_lost_here_stays_there(storage, lost):
    """As where something tidies the cache by the age of files."""
    objects = Objects(f"{storage}/small")
    run = find_folder("small", storage)
    before = set(objects.list())
    with held(run):
        for path in run.rglob(lost):
            if path.name != "resolved.json":
                path.unlink()
        reached(run, trials=True)
    assert before <= set(objects.list())
    refresh(run)
    assert before - {".lease.1"} <= {
        path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()
    }


def test_a_cache_that_is_removed_while_a_sweep_runs_takes_nothing_with_it(storage):
    objects = Objects(f"{storage}/small")
    run = find_folder("small", storage)
    before = {name: objects.read(name) for name in objects.list()}

    def removed():
        with held(run):
            shutil.rmtree(run)
            journal_of(run).append("sweep_running")
            reached(run, trials=True)

    with pytest.raises(StorageFailed, match="was removed while it was in use"):
        removed()
    assert {name: objects.read(name) for name in before} == before
    assert state_of(find_folder("small", storage))


def test_what_was_sent_does_not_come_back(storage, store):
    _, fs = store
    run = find_folder("small", storage)
    with held(run):
        write_json(run / "evaluation.json", {})
    copies._copy.cache_clear()
    fs.requests.clear()
    refresh(run)
    assert "cat_file" not in [name for name, _ in fs.requests]


def test_a_driver_that_stood_still_sends_nothing(storage, monkeypatch):
    """As one whose machine slept while another machine took the sweep over."""
    objects = Objects(f"{storage}/small")
    now = [100.0]
    monkeypatch.setattr(lease, "_boot_time", lambda: now[0])
    monkeypatch.setattr(lease, "RENEW_S", 1000.0)
    monkeypatch.setattr(keeping, "EVERY_S", 1000.0)
    ended = []

    def end(run):
        ended.append(run)
        raise Killed

    monkeypatch.setattr(lease, "_end", end)
    run = find_folder("small", storage)

    def stood_still():
        with held(run):
            journal_of(run).append("space_freed", bytes=1)
            now[0] += 3600.0
            objects.write(".lease.7", b"another one's")
            objects.write("journal.jsonl", objects.read("journal.jsonl") + theirs)
            reached(run)

    theirs = b'{"time": 1.0, "event": "sweep_running"}\n'
    with pytest.raises(Killed):
        stood_still()
    assert ended[0] == run
    assert objects.read("journal.jsonl").endswith(theirs)


def test_a_journal_that_could_not_be_sent_is_sent_by_the_next_process(storage):
    run = find_folder("small", storage)
    journal_of(run).append("sweep_running")  # and its process was killed
    refresh(run)
    assert read_journal(run / "journal.jsonl")[-1]["event"] == "sweep_running"
    with held(run):
        pass
    assert Objects(f"{storage}/small").read("journal.jsonl").count(b"sweep_running") == 1


def test_a_journal_that_another_machine_wrote_on_is_the_one_that_counts(storage):
    run = find_folder("small", storage)
    objects = Objects(f"{storage}/small")
    theirs = objects.read("journal.jsonl") + b'{"time": 1.0, "event": "sweep_running"}\n'
    journal_of(run).append("space_freed", bytes=1)
    objects.write("journal.jsonl", theirs)
    refresh(run)
    assert (run / "journal.jsonl").read_bytes() == theirs


def test_a_second_machine_is_refused(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.record.lease.PAUSE_S", 0.01)
    monkeypatch.setattr("orchestrator.record.lease.RENEW_S", 0.01)
    run = find_folder("small", storage)
    with held(run):
        new_machine(monkeypatch, tmp_path)
        other = find_folder("small", storage)
        assert other != run
        with pytest.raises(UserError, match="is being run by"), held(other):
            pass


def test_a_failure_to_send_is_said_and_ends_the_sweep(storage, store, monkeypatch):
    _, fs = store
    monkeypatch.setattr(keeping, "EVERY_S", 0.01)
    run = find_folder("small", storage)

    def refused():
        with held(run):
            fs.refuses = {"pipe_file"}
            write_json(run / "evaluation.json", {})
            with pytest.raises(StorageFailed, match="no right to write there"):
                reached(run)
            keeper = keeping._KEPT[run.absolute()]
            while keeper.problem is None:
                keeper._thread.join(0.01)
            assert "evaluation.json" in str(problem(run))

    with pytest.raises(StorageFailed, match=r"evaluation\.json: no right to write there"):
        refused()
    assert problem(run) is None


def test_requests_to_stop_come_from_other_machines(storage, monkeypatch):
    monkeypatch.setattr(keeping, "EVERY_S", 0.01)
    run = find_folder("small", storage)
    with held(run):
        Objects(f"{storage}/small").write("cancel", b"{}")
        keeper = keeping._KEPT[run.absolute()]
        while not (run / "cancel").is_file():
            keeper._thread.join(0.01)
        remove(run / "cancel")
    assert not Objects(f"{storage}/small").has("cancel")


def test_one_file_can_be_sent(storage):
    run = find_folder("small", storage)
    write_json(run / "drain", {})
    write_json(run / "cancel", {})
    send(run / "drain")
    objects = Objects(f"{storage}/small")
    assert objects.has("drain")
    assert not objects.has("cancel")


def driven(run):
    """What a driver does with a sweep whose trials are trained elsewhere: in this order."""
    with held(run):
        write_json(run / "times.json", {"a": 1})
        journal_of(run).append("sweep_resumed", name="small")
        reached(run)
        for state in load_trials(run):
            bring(state.proposal.folder(run).path)
            journal_of(run).append("trial_finished", trial=state.proposal.trial, cell="c")
        write_json(run / "evaluation.json", {"complete": True})
        journal_of(run).append("sweep_finished")


def test_wherever_a_driver_dies_another_machine_finds_a_sweep_without_a_gap(
    store, local, tmp_path, monkeypatch
):
    _, fs = store
    events = read_journal(local / "journal.jsonl")
    for number, after in ((n, after) for n in count(1) for after in (False, True)):
        address = f"memory://drivers/{number}-{after}"
        upload(local, f"{address}/small")
        fs.revive()
        fs.dies_at, fs.after = number, after
        new_machine(monkeypatch, tmp_path, f"machine{number}{after}")
        run = find_folder("small", address)
        try:
            driven(run)
        except Killed:
            died = True
        else:
            died = False
        fs.dies_at = None
        fs.revive()
        new_machine(monkeypatch, tmp_path, f"machine after {number}{after}")
        run = find_folder("small", address)
        found = read_journal(run / "journal.jsonl")
        assert found[: len(events)] == events
        assert state_of(run) == state_of(local)
        if found[-1]["event"] == "sweep_finished":
            assert json.loads((run / "evaluation.json").read_bytes())["complete"]
        if not died:
            break
    assert number > 5


def test_a_sweep_that_is_undone_leaves_nothing(store):
    address, _ = store
    run = local_storage(address) / "new"

    def refused():
        with held(run):
            write_atomic(run / "resolved.json", b"{}")
            reached(run)
            remove(run / "resolved.json")
            raise UserError("refused")

    with pytest.raises(UserError, match="refused"):
        refused()
    assert Objects(address).list() == {}


def test_nothing_happens_to_a_folder_of_its_own(local):
    with held(local):
        before = sorted(local.rglob("*"))
        reached(local)
        bring(local)
        send(local)
        refresh(local)
        assert sorted(local.rglob("*")) == before
        assert problem(local) is None
