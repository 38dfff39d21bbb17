"""Sweeps at an address whose file system is made up, see `tests.trainables.remote.faulty`."""

import pytest

from tests.orchestrator.finished import finished
from tests.orchestrator.record.at_an_address import new_machine, upload
from tests.trainables.remote.faulty import faulty_store


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    new_machine(monkeypatch, tmp_path, "cache")


@pytest.fixture
def store():
    with faulty_store() as found:
        yield found


@pytest.fixture
def local(tmp_path):
    return finished(tmp_path)


@pytest.fixture
def storage(store, local):
    """The address that holds what the local folder does."""
    address, fs = store
    upload(local, f"{address}/{local.name}")
    fs.revive()
    return address
