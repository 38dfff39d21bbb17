"""A sweep that lies at an address: what commands see of it, what comes and what is sent."""

import json
import shutil
import threading

import pytest

from orchestrator.conduct import conclude
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record import copies, keeping, lease
from orchestrator.record.copies import (
    bring,
    copy_of,
    fetch,
    here,
    local_storage,
    place_of,
    refresh,
    remove,
    send,
    storage_of,
)
from orchestrator.record.folder import (
    find_folder,
    folder_of,
    held,
    journal_of,
    list_folders,
    load_folder,
    prepare,
)
from orchestrator.record.journal import read_journal
from orchestrator.record.keeping import problem, reached
from orchestrator.record.resolved import load_resolved
from orchestrator.record.states import begun_epochs, load_trials
from orchestrator.record.working_copy import Copy, is_stub
from orchestrator.tuning.sweep_run import known_trials
from tests.orchestrator.finished import finished
from tests.orchestrator.in_process import run_captured
from tests.trainables.remote.faulty import Killed, faulty_store
from trainables.contract.disk import write_atomic, write_json
from trainables.contract.errors import StorageFailed, UserError
from trainables.contract.locks import is_held
from trainables.remote.objects import Objects

pytestmark = pytest.mark.usefixtures("quick_end")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    copies._copy.cache_clear()
    copies.refresh_once.cache_clear()


@pytest.fixture
def store():
    with faulty_store() as found:
        yield found


@pytest.fixture
def local(tmp_path):
    return finished(tmp_path)


@pytest.fixture
def storage(store, local):
    """The address that holds what the local folder does."""
    address, fs = store
    upload(local, f"{address}/{local.name}")
    fs.revive()
    return address


def upload(folder, address):
    """As `aws s3 cp --recursive` does."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    Objects(address).store({path.relative_to(folder).as_posix(): path for path in files})


def download(address, folder):
    objects = Objects(address)
    objects.fetch({name: folder / name for name in objects.list()})


def new_machine(monkeypatch, tmp_path, name="other"):
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / name))
    copies._copy.cache_clear()
    copies.refresh_once.cache_clear()


def state_of(run):
    return [(state.proposal.trial, state.ending, state.result) for state in load_trials(run)]


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


def test_what_was_sent_does_not_come_back(storage, store):
    _, fs = store
    run = find_folder("small", storage)
    with held(run):
        write_json(run / "evaluation.json", {})
    copies._copy.cache_clear()
    fs.requests.clear()
    refresh(run)
    assert "cat_file" not in [name for name, _ in fs.requests]


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
    number = 0
    while True:
        number += 1
        address = f"memory://drivers/{number}"
        upload(local, f"{address}/small")
        fs.revive()
        fs.dies_at, fs.after = number, bool(number % 2)
        new_machine(monkeypatch, tmp_path, f"machine{number}")
        run = find_folder("small", address)
        try:
            driven(run)
        except Killed:
            died = True
        else:
            died = False
        fs.dies_at = None
        fs.revive()
        new_machine(monkeypatch, tmp_path, f"machine after {number}")
        run = find_folder("small", address)
        found = read_journal(run / "journal.jsonl")
        assert found[: len(events)] == events
        assert state_of(run) == state_of(local)
        if found[-1]["event"] == "sweep_finished":
            assert json.loads((run / "evaluation.json").read_bytes())["complete"]
        if not died:
            break
    assert number > 5


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


def test_a_file_that_another_machine_removed_is_said(storage):
    run = find_folder("small", storage)
    stub = next(path for path in run.rglob("*.parquet") if is_stub(path))
    Objects(f"{storage}/small").remove([stub.relative_to(run).as_posix()])
    with pytest.raises(UserError, match=r"small: lacks a file that was there: another machine"):
        here(stub)
