"""Who drives a sweep, told between machines that share nothing but its folder. Time is invented."""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.record import lease as lease_module
from orchestrator.record.lease import (
    LOOK_S,
    RENEW_S,
    STILL_S,
    Lease,
    World,
    busy,
    is_renewed,
    lease_files,
    leased,
    look,
)
from orchestrator.record.processes import Process, process_start, this_process
from trainables.contract.errors import OutOfSpace, UserError


@dataclass
class Clock:
    """Time that passes while somebody sleeps; `during` is done every second of it."""

    now: float = 1000.0
    during: list = field(default_factory=list)

    def sleep(self, seconds):
        self.now += seconds
        for action in list(self.during):
            action(self.now)


@pytest.fixture
def clock():
    return Clock()


def machine(clock, host, *, pid=7, alive=True, skew=0.0):
    """A process on a machine whose clock is `skew` seconds off; it sees whether others of its own
    machine are alive.
    """
    return World(
        Process(host, f"boot of {host}", "ns", pid, "started"),
        started=lambda asked: "started" if alive and asked == pid else None,
        now=lambda: clock.now + skew,
        sleep=clock.sleep,
    )


def renewing(clock, lease):
    """Let the holder renew every RENEW_S."""
    due = [clock.now + RENEW_S]

    def beat(now):
        if now >= due[0]:
            due[0] = now + RENEW_S
            lease.renew()

    clock.during.append(beat)


def test_a_lease_is_taken_given_back_and_taken_again(tmp_path, clock):
    for host in ("a", "b", "a"):
        lease = Lease(tmp_path, machine(clock, host))
        lease.acquire()
        assert lease.renew()
        lease.release()
    assert [path.name for path in lease_files(tmp_path)] == [".lease.3"]
    assert clock.now == 1000.0  # nobody waited


def test_a_holder_elsewhere_that_renews_is_refused_to_within_seconds(tmp_path, clock):
    first = Lease(tmp_path, machine(clock, "a"))
    first.acquire()
    renewing(clock, first)
    with pytest.raises(UserError, match=r"is being run by process 7 on a; .* status"):
        Lease(tmp_path, machine(clock, "b", skew=-1e6)).acquire()
    assert clock.now - 1000.0 <= RENEW_S + 1
    assert first.renew()


@pytest.mark.parametrize("skew", [-1e6, 0.0, 1e6])
def test_a_holder_elsewhere_that_stands_still_is_waited_for(tmp_path, clock, caplog, skew):
    first = Lease(tmp_path, machine(clock, "a"))
    first.acquire()
    clock.now += 1e5  # however old it is: clocks of two machines are not compared
    began = clock.now
    second = Lease(tmp_path, machine(clock, "b", skew=skew))
    second.acquire()
    assert STILL_S <= clock.now - began <= STILL_S + 1
    assert "process 7 on a may still run it" in caplog.text
    assert second.renew()
    assert not first.renew()  # it wakes, and finds out
    first.release()
    assert not look(tmp_path, machine(clock, "c")).is_released


def test_a_holder_that_comes_back_while_it_is_watched_keeps_it(tmp_path, clock):
    first = Lease(tmp_path, machine(clock, "a"))
    first.acquire()
    clock.during.append(lambda now: now > 1000.0 + STILL_S - 5 and first.renew())
    with pytest.raises(UserError, match="is being run by"):
        Lease(tmp_path, machine(clock, "b")).acquire()
    assert first.renew()


@pytest.mark.parametrize(
    ("how", "waits"),
    [("dead", False), ("number used again", False), ("alive", True), ("another boot", True)],
)
def test_a_dead_holder_of_this_machine_is_followed_at_once(tmp_path, clock, how, waits):
    first = machine(clock, "a")
    Lease(tmp_path, first).acquire()
    started = {"dead": None, "number used again": "later"}.get(how, "started")
    second = replace(machine(clock, "a", pid=8), started=lambda pid: started)
    if how == "another boot":
        second = replace(second, process=replace(second.process, boot="next"))
    Lease(tmp_path, second).acquire()
    assert (clock.now > 1000.0) is waits


def test_a_start_that_is_not_known_proves_nothing(tmp_path, clock):
    first = machine(clock, "a")
    Lease(tmp_path, replace(first, process=replace(first.process, started=""))).acquire()
    assert not look(tmp_path, first).is_free(first)
    unknown = replace(first, started=lambda pid: "")
    assert not look(tmp_path, unknown).is_free(unknown)


@pytest.mark.parametrize("content", [b"", b"{", b'{"holder": {}}\n000000000000', b"\xff\n"])
def test_a_damaged_lease_is_one_of_somebody_unknown(tmp_path, clock, content):
    (tmp_path / ".lease.4").write_bytes(content)
    world = machine(clock, "a")
    assert not look(tmp_path, world).is_free(world)
    assert "is being run by another process" in busy(tmp_path)
    Lease(tmp_path, world).acquire()
    assert clock.now - 1000.0 >= STILL_S
    assert [path.name for path in lease_files(tmp_path)] == [".lease.5"]


@pytest.mark.parametrize("links", [True, False])
def test_of_two_that_take_it_at_once_one_has_it(tmp_path, clock, monkeypatch, links):
    """The second takes it between the first one's look and its step."""
    first, second = (Lease(tmp_path, machine(clock, host)) for host in "ab")
    made, order = lease_module._link, []

    def no_links(*told):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)

    def link(partial, file, content):
        if not order:
            order.append("first")
            second.acquire()
        return made(partial, file, content)

    monkeypatch.setattr(lease_module, "_link", link)
    with pytest.raises(UserError, match="is being run by process 7 on b"):
        first.acquire()
    assert second.renew()
    assert not list(tmp_path.glob("*.partial"))


def test_a_number_that_others_have_passed_is_given_up(tmp_path, clock, monkeypatch):
    """Between its look and its step two others had the lease, and the older file is gone."""
    late, others = Lease(tmp_path, machine(clock, "a")), []
    made = lease_module._link

    def link(partial, file, content):
        if not others:
            for host in "bc":
                others.append(Lease(tmp_path, machine(clock, host)))
                others[-1].acquire()
                if host == "b":
                    others[-1].release()
        return made(partial, file, content)

    monkeypatch.setattr(lease_module, "_link", link)
    with pytest.raises(UserError, match="is being run by process 7 on c"):
        late.acquire()
    assert [path.name for path in lease_files(tmp_path)] == [".lease.2"]
    assert others[-1].renew()


def test_a_link_that_a_network_made_twice_is_ours(tmp_path, clock, monkeypatch):
    linked = os.link

    def link(source, target):
        linked(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    lease = Lease(tmp_path, machine(clock, "a"))
    lease.acquire()
    assert lease.renew()


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.ENOSPC, OutOfSpace, "cannot be written: No space left"),
        (errno.EACCES, UserError, "must be a folder that can be written to: Permission denied"),
    ],
)
def test_a_lease_that_cannot_be_written_is_one_clear_error(
    tmp_path, clock, monkeypatch, number, error, message
):
    def refuse(*told):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lease_module, "_link", refuse)
    with pytest.raises(error, match=message):
        Lease(tmp_path, machine(clock, "a")).acquire()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_removed_ends_nobody(tmp_path, clock):
    lease = Lease(tmp_path / "run", machine(clock, "a"))
    (tmp_path / "run").mkdir()
    lease.acquire()
    for path in lease_files(tmp_path / "run"):
        path.unlink()
    assert lease.renew()
    lease.release()
    assert not list((tmp_path / "run").iterdir())


# --- what `status` sees


def test_whether_another_machine_runs_it_is_seen_by_its_renewals(tmp_path, clock):
    reader = machine(clock, "b", skew=1e6)
    assert not is_renewed(tmp_path, world=reader)
    holder = Lease(tmp_path, machine(clock, "a"))
    holder.acquire()
    began = clock.now
    assert not is_renewed(tmp_path, world=reader)
    assert LOOK_S <= clock.now - began <= LOOK_S + 1
    renewing(clock, holder)
    began = clock.now
    assert is_renewed(tmp_path, world=reader)
    assert clock.now - began <= RENEW_S + 1
    holder.release()
    began = clock.now
    assert not is_renewed(tmp_path, world=reader)
    assert clock.now == began


def test_many_folders_are_waited_for_once(tmp_path, clock):
    reader, folders = machine(clock, "b"), [tmp_path / name for name in "xyz"]
    for folder in folders:
        folder.mkdir()
        Lease(folder, machine(clock, "a")).acquire()
    looks = {folder: look(folder, reader) for folder in folders}
    began = clock.now
    assert not any(is_renewed(folder, looks[folder], reader) for folder in folders)
    assert clock.now - began <= LOOK_S + 1


# --- real processes


def test_a_process_is_there_until_it_has_ended():
    assert process_start(os.getpid()) == this_process().started
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_start(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie, not yet waited for
    assert process_start(child.pid) is None
    child.communicate()
    assert process_start(child.pid) is None


def test_a_holder_that_lost_its_lease_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_S", 0.01)
    lost = lease_module.threading.Event()
    with leased(tmp_path, lost.set):
        (tmp_path / ".lease.2").write_bytes(b"of another machine")
        assert lost.wait(10)
    assert (tmp_path / ".lease.2").read_bytes() == b"of another machine"


def test_a_killed_holder_is_followed_at_once_on_its_machine(tmp_path):
    code = (
        "import sys; from pathlib import Path; from orchestrator.record.folder import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    from orchestrator.record.folder import held, is_running

    assert is_running(tmp_path)
    with pytest.raises(UserError, match=f"is being run by process {child.pid} on"), held(tmp_path):
        pass
    child.kill()
    child.communicate()
    assert not is_running(tmp_path)
    with held(tmp_path):
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
