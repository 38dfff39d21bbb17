"""An S3 server on the loopback: moto's, in a process of its own, and buckets in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

PATIENCE_S = 60.0

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED01", "AWS_SECRET_ACCESS_KEY": "planted/Secret+1"}
"""Which moto takes as it takes all others."""

SETTINGS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION")
"""Of a user, which would be stronger."""


@dataclass(frozen=True)
class ObjectStore:
    """A server that answers, and the environment by which its clients find it."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables for processes that shall use it."""
        return {
            **KEYS,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def bucket(self) -> str:
        """The address of a new, empty bucket."""
        from fsspec import filesystem

        name = f"bucket-{uuid.uuid4().hex[:12]}"
        filesystem("s3", use_listings_cache=False).mkdir(name)
        return f"s3://{name}"


@pytest.fixture(scope="session")
def object_store_server() -> Iterator[ObjectStore]:
    """The server; `object_store` says it to this process, too."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{endpoint}/moto-api/data.json", server)
        yield ObjectStore(endpoint)
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def object_store(
    object_store_server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """The server, which this process and those that it starts find by their environment."""
    with _spoken_to(object_store_server, monkeypatch):
        yield object_store_server


@pytest.fixture
def refusing_store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """A server that refuses: the parameter is (status, code) of its answer to every request, or
    (status, code, methods), such as (403, "AccessDenied", ("PUT",)).
    """
    with refusing(*request.param) as store, _spoken_to(store, monkeypatch):
        yield store


@contextmanager
def _spoken_to(store: ObjectStore, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within: this process knows the server. File systems that know another are forgotten."""
    from s3fs import S3FileSystem

    for name in SETTINGS:
        patch.delenv(name, raising=False)
    for name, value in store.environment.items():
        patch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


@contextmanager
def refusing(status: int, code: str, methods: tuple[str, ...] = ()) -> Iterator[ObjectStore]:
    """Within: a server that answers requests of these methods (none: all) with an error of S3, and
    all others with an empty listing.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # clients wait for `100 Continue`

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refused = not methods or self.command in methods
            body = _ERROR.format(code=code) if refused else _EMPTY
            self.send_response(status if refused else 200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield ObjectStore(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


_ERROR = "<Error><Code>{code}</Code><Message>refused by {code}</Message></Error>"
_EMPTY = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>'


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
        time.sleep(0.05)
