"""What a sweep over two nodes knows of passwords and keys stays in the processes' environment."""

from __future__ import annotations

import base64
import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import drill
from faults import MAIN, make_store
from servers import RayNodes, TrackingServer

pytestmark = pytest.mark.full

SECRET = "2718281"
"""Part of every secret here, and nowhere to be seen afterwards."""


SLURM = "--partition p --time 1:00:00 --cpus 2 --dry-run".split()


class Door(BaseHTTPRequestHandler):
    """Before a server: lets those in who say the password, and refuses the first file of a name."""

    behind: str
    refused: str | None
    expected = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    stored: list[str]

    def _pass_on(self) -> None:
        content = self._content()
        if self.headers.get("Authorization") != self.expected:
            self._answer(401, b"who are you?")
            return
        if self.command == "PUT" and self.refused and self.path.endswith(self.refused):
            Door.refused = None
            self._answer(403, b"not now")
            return
        asked = {
            name: value
            for name, value in self.headers.items()
            if name not in ("Authorization", "Host", "Connection", "Transfer-Encoding")
        }
        behind = http.client.HTTPConnection(self.behind, timeout=60)
        behind.request(self.command, self.path, content, asked)
        answer = behind.getresponse()
        if self.command == "PUT":
            self.stored.append(self.path)
        self._answer(answer.status, answer.read(), answer.headers.get("Content-Type", ""))
        behind.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, status: int, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def door(host: str, behind: str) -> Iterator[str]:
    """HOST:PORT of the door before the server at `behind`."""
    Door.behind, Door.refused, Door.stored = behind, "result.json", []
    with ThreadingHTTPServer((host, 0), Door) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        try:
            yield f"{host}:{served.server_port}"
        finally:
            served.shutdown()


def test_what_two_nodes_of_a_cluster_know_of_secrets_is_written_nowhere(tmp_path):
    """Not in Ray's logs of any worker, the sweep's folder, what MLflow's server stores and logs,
    what the driver prints, nor what is rendered for a cluster; one upload is refused, so that the
    node has to say why.
    """
    make_store(tmp_path)
    text = drill.SWEEP.replace("STORE", str(tmp_path / "store")).replace("EACH", "2")
    (tmp_path / "drill.yaml").write_text(text)
    with drill.short_folder() as rays:
        cluster = RayNodes(rays, tmp_path / "nodes.log")
        # of the driver, and of the `ray start` of each node
        cluster.environment |= {
            "PLANTED": SECRET,
            "AWS_ACCESS_KEY_ID": f"id{SECRET}",
            "AWS_SECRET_ACCESS_KEY": f"key{SECRET}",
            "RAY_AUTH_TOKEN": f"{SECRET}{cluster.environment['RAY_AUTH_TOKEN']}",
            "ORCHESTRATE_CACHE": str(tmp_path / "cache"),
        }
        tracking = TrackingServer(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, cluster.host)
        try:
            tracking.start()
            cluster.start()
            cluster.start()
            cluster.wait(2)
            tracking.wait()
            with door(cluster.host, tracking.address.removeprefix("http://")) as address:
                uri = f"http://me:${{PLANTED}}@{address}"
                more = ["--set", f"tracking.uri={uri}", "--set", "train.epochs=10"]
                commands = [
                    ["sweep", "drill.yaml", "--address", cluster.address, *more],
                    ["status", "drill"],
                    ["report", "drill"],
                    ["launch", "slurm", "drill.yaml", *more, *SLURM],
                ]
                for arguments in commands:
                    done = subprocess.run(
                        [*MAIN, *arguments],
                        cwd=tmp_path,
                        env=cluster.environment,
                        capture_output=True,
                        check=False,
                    )
                    (tmp_path / f"said-{arguments[0]}").write_bytes(done.stdout + done.stderr)
                    assert done.returncode == 0, done.stderr.decode()
            runs = drill.runs_of_trials(tracking.address)
        finally:
            cluster.end()
            tracking.kill()
        assert Door.refused is None
        assert all(files >= drill.ARTIFACTS for files in runs.values())
        logs = [path for path in rays.rglob("*") if path.is_file()]
        said_by_nodes = [path for path in logs if path.name.startswith(("worker-", "python-core"))]
        assert len(said_by_nodes) > 4
        seen = [*logs, *(path for path in tmp_path.rglob("*") if path.is_file())]
        assert {"mlflow.db", "mlflow.log", "nodes.log", "resolved.json", "said-launch"} <= {
            path.name for path in seen
        }
        encoded = base64.b64encode(f"me:{SECRET}".encode())
        for path in seen:
            content = path.read_bytes()
            assert SECRET not in path.name
            assert SECRET.encode() not in content, path
            assert encoded not in content, path
