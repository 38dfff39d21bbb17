"""MLflow's own pages on a store, served on this machine for as long as they are looked at."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.tracking.client import ui_command

PATIENCE_S = 120.0

CLOSED_ASSISTANT = """
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
"""
"""What a page is told before it opens, so that half of it is not a panel of MLflow's assistant."""


@contextmanager
def served(uri: str) -> Iterator[str]:
    """The address, with a slash at its end, under which the pages of the store at `uri` answer."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    command, environment = ui_command(uri, "127.0.0.1", port)
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [*command, "--workers", "1"],
        env=os.environ | environment | quiet,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        _wait(f"{address}health", server)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
        time.sleep(0.3)
