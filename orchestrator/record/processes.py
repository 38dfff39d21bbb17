"""Who a process is, so that another one can tell whether it is still there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its number is its own within one start of one machine, and one container there."""

    host: str
    boot: str  # names this start of the machine; empty where the system does not tell
    namespace: str  # the container's own numbers of processes; empty likewise
    pid: int
    started: str  # in ticks since the machine started; empty likewise

    def sees(self, other: Process) -> bool:
        """Whether this process can tell if the other one is there."""
        return (self.host, self.boot, self.namespace) == (other.host, other.boot, other.namespace)

    @property
    def words(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Process:
    """The one that asks."""
    pid = os.getpid()
    return Process(socket.gethostname(), _boot(), _namespace(), pid, process_start(pid) or "")


def process_start(pid: int) -> str | None:
    """When the process started; None if there is none, empty if there is one whose start is not
    known.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _exists(pid)
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]  # a zombie has ended


def _exists(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another user's, hidden
        return ""
    return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
