from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.faults.seeds import chunks


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        module = metafunc.module
        metafunc.parametrize("seeds", chunks(module.QUICK, module.ALL, metafunc.config))


@pytest.fixture(autouse=True)
def _on_one_core() -> Iterator[None]:
    """Threads of a world run one at a time: on one core the next one goes on in a quarter of the
    time. Nor is there much to collect: it would take 6 % of all time to look.
    """
    cores = os.sched_getaffinity(0)
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
    gc.disable()
    yield
    gc.enable()
    os.sched_setaffinity(0, cores)
