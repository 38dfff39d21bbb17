"""A Ray of this machine alone: nobody on the network reaches it, nor does another account of this
machine. Knows no clusters of several nodes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


@contextmanager
def on_loopback() -> Iterator[None]:
    """Within: a Ray that is started listens on the loopback only, and takes orders only with a
    token of its own, which lives in the environment of its processes.

    Ray itself listens on every interface, and whoever reaches it runs what code they like. A
    RAY_AUTH_MODE of the person's stays as it is.
    """
    several, before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(MODE)
    token = os.environ.get(TOKEN)
    ray_constants.ENABLE_RAY_CLUSTER = False  # as on macOS: Ray's own way to the loopback
    if before is None:
        os.environ[MODE], os.environ[TOKEN] = "token", secrets.token_hex(32)
        _read_again()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several
        if before is None:
            for name, value in ((MODE, None), (TOKEN, token)):
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            _read_again()


def _read_again() -> None:
    """Ray reads both variables when it is imported, and remembers them."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
