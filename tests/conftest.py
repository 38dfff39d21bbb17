"""What every test shares: one thread, so that tests do not slow each other down, a cache of their
own, and no terminal, whose width workers of pytest-xdist are told.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

os.environ.pop("COLUMNS", None)

pytest_plugins = ["tests.browser", "tests.object_store"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seed", type=int, help="of tests/faults: this sweep alone")
    parser.addoption("--fault-seeds", type=int, help="of tests/faults: how many sweeps")


def pytest_collection_finish() -> None:
    """Millions of objects are known by now, of modules and of tests: the collector passes them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that tests measure or copy is kept for the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
