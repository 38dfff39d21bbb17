"""A file system for tests that writes down what is opened, and can be slow or fail:
`counted:///path/of/the/store`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

OPENED = "OPENED_FILES"  # environment: where the names of opened files go, one a line
DELAY = "OPENING_DELAY"  # environment: seconds before a file opens
HANGS = "OPENING_HANGS"  # environment: the name of a file that does not open


class CountedFiles(LocalFileSystem):
    """Local files; names in `failing` raise that many more errors before they open."""

    protocol = "counted"
    cachable = False
    failing: dict[str, list[OSError]] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(path).removeprefix("counted://").rstrip("/")

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **kwargs: Any) -> Any:
        name = Path(path).name
        with Path(os.environ[OPENED]).open("a") as log:
            log.write(f"{name}\n")
        time.sleep(float(os.environ.get(DELAY, "0")))
        if os.environ.get(HANGS) == name:
            time.sleep(120)
        if self.failing.get(name):
            raise self.failing[name].pop()
        return super()._open(path, mode, block_size, **kwargs)


fsspec.register_implementation("counted", CountedFiles, clobber=True)
