"""Servers that a drill starts, kills and ends: raylets of one Ray cluster and MLflow's, each in a
process group of its own.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from postgres import free_port

UP_WITHIN_S = 120.0
NODES_WITHIN_S = 180.0

LOGICAL_GPUS = """
import importlib.util
import sys


class Logical:
    def find_spec(self, name, path=None, target=None):
        if name != "trainables.ray_trainable":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def with_cpu(module):
            execute(module)
            import torch

            module._device = lambda gpu_fraction: torch.device("cpu")

        spec.loader.exec_module = with_cpu
        return spec


sys.meta_path.insert(0, Logical())
"""
"""Read by every Python that starts on a node. Ray counts the GPUs that it is told of, and places
trials by the shares that they ask for; torch, which would refuse a GPU that is not there, is given
the CPU instead. So what Ray does with GPUs is drilled, and nothing that a GPU does.
"""


class Server:
    """A command that serves until it is ended."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                command, env=environment, stdout=said, stderr=said, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL for it and everything that it started."""
        for member in members_of(self.process.pid):
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def members_of(leader: int) -> list[int]:
    """`leader` and all its descendants: a node of Ray starts processes in sessions of their own."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(entry.name))
    members = [leader]
    for member in members:
        members.extend(children.get(member, ()))
    return members


def wait_for(condition: Callable[[], bool], what: str, seconds: float, every: float = 0.2) -> None:
    """Wait; SystemExit where it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited for {seconds:g} s: {what}")
        time.sleep(every)


class RayNodes:
    """Raylets on this machine that make one cluster, with a token of its own."""

    def __init__(self, folder: Path, log: Path) -> None:
        """folder: for Ray's own files; its sockets need a short name. log: what it says."""
        self._folder = folder
        self._log = log
        self._port = free_port()
        self.environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            try:  # nothing is sent
                asked.connect(("192.0.2.1", 9))
                self.host = asked.getsockname()[0]
            except OSError:
                self.host = "127.0.0.1"
        self.nodes: list[Server] = []

    @property
    def address(self) -> str:
        return f"{self.host}:{self._port}"

    def start(self, cpus: int = 1) -> Server:
        """One more node, the first of which is the head."""
        where = [f"--address={self.address}"]
        if not self.nodes:
            where = ["--head", f"--port={self._port}", f"--temp-dir={self._folder}"]
            where += ["--include-dashboard=false"]
        node = Server(
            [
                *(str(Path(sys.executable).parent / "ray"), "start", *where, "--block"),
                *(f"--num-cpus={cpus}", "--num-gpus=1", "--object-store-memory=100000000"),
                *(f"--node-ip-address={self.host}", "--min-worker-port=0", "--max-worker-port=0"),
            ],
            self.environment,
            self._log,
        )
        self.nodes.append(node)
        if len(self.nodes) == 1:
            wait_for(self._head_answers, "the head does not answer", UP_WITHIN_S)
        return node

    def _head_answers(self) -> bool:
        try:
            socket.create_connection((self.host, self._port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def wait(self, number: int) -> None:
        """Until so many nodes have joined."""
        code = (
            "import sys, ray; from ray._raylet import GcsClient\n"
            "nodes = GcsClient(address=sys.argv[1]).get_all_node_info().values()\n"
            "sys.exit(sum(node.state == 0 for node in nodes) < int(sys.argv[2]))"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, self.address, str(number)]

        def joined() -> bool:
            if any(node.process.poll() is not None for node in self.nodes):
                raise SystemExit(f"a node has ended: {self._log.read_text()[-2000:]}")
            done = subprocess.run(
                command, env=self.environment, check=False, capture_output=True, timeout=60
            )
            return done.returncode == 0

        wait_for(joined, f"the cluster does not have {number} nodes", NODES_WITHIN_S, every=0.5)

    def end(self) -> None:
        """All of them, the head last."""
        for node in reversed(self.nodes):
            node.kill()


class TrackingServer:
    """`mlflow server` on a store; can be killed and started again at the same address."""

    def __init__(self, store: str, folder: Path, host: str = "127.0.0.1") -> None:
        self._store = store
        self._host = host
        self._folder = folder
        self._port = free_port()
        self._server: Server | None = None

    @property
    def address(self) -> str:
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._server = Server(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", self._host, "--port", str(self._port)),
                *("--allowed-hosts", f"{self._host}:{self._port}"),
                *("--artifacts-destination", str(self._folder / "files")),
            ],
            # an address with a password is no business of a process list
            os.environ | quiet | {"MLFLOW_BACKEND_STORE_URI": self._store},
            self._folder / "mlflow.log",
        )

    def wait(self) -> None:
        wait_for(self._answers, f"{self.address} does not answer", UP_WITHIN_S)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server = None
