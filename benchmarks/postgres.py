"""A PostgreSQL server of our own, for as long as somebody uses it: in a temporary folder, on a free
port of this machine alone, with a password.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTS_WITHIN_S = 60.0
DEBIANS = "/usr/lib/postgresql"
ACCOUNT = "postgres"
"""What the server runs as where we are root, which it refuses: Debian's package makes it."""


class NoPostgres(Exception):
    """There is none on this machine."""


def programs() -> Path:
    """The folder with `initdb` and `postgres`; NoPostgres where there is none."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path(DEBIANS).glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise NoPostgres("PostgreSQL is not installed here: apt-get install postgresql")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a new, empty database, as MLflow takes it."""
    bin_folder = programs()
    account: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    if os.geteuid() == 0:
        account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}
        shutil.chown(folder, ACCOUNT, ACCOUNT)
    try:
        with _running(bin_folder, folder, account) as port:
            yield f"postgresql+psycopg2://sweeps:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


PASSWORD = "not-a-secret"
"""Of a server that lives for minutes and listens on this machine alone."""


@contextmanager
def _running(bin_folder: Path, folder: Path, account: dict[str, Any]) -> Iterator[int]:
    data, port = folder / "data", free_port()
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    options = ("-U", "sweeps", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C")
    subprocess.run(
        [bin_folder / "initdb", "-D", data, "--pwfile", password, *options],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        **account,
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [bin_folder / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"],
            cwd=folder,
            stdout=log,
            stderr=log,
            **account,
        )
    try:
        _wait(bin_folder, port, server)
        yield port
    finally:
        server.send_signal(signal.SIGINT)  # ends its connections, and itself
        server.wait()


def _wait(bin_folder: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    asked = [bin_folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    end = time.monotonic() + STARTS_WITHIN_S
    while subprocess.run(asked, check=False).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"PostgreSQL did not start: exit code {server.poll()}")
        time.sleep(0.1)
