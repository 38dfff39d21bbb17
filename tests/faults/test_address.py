"""Sweeps at an address lose no result: workers and drivers die in any request and any write.

`pytest tests/faults/test_address.py --fault-seed N` runs that sweep alone.
"""

from __future__ import annotations

import errno
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.record.journal import Journal
from tests.faults import world as worlds
from tests.faults.address import RemoteWorld
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.seeds import seen_again
from tests.faults.test_faults import folder
from tests.faults.world import LIVES, Faults


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


QUICK, ALL = 8, 200
"""Seeds in `make test`, and with those in `make test-full`."""
ALONE = [scenario for scenario in SCENARIOS if scenario.learns_from is None]
"""Sweeps that learn from no other one, which would lie at the address, too."""


def test_a_sweep_at_an_address_comes_to_its_end(seeds: range) -> None:
    worlds._everything_imported()
    for seed in seeds:
        with seen_again(seed), folder() as where:
            world = RemoteWorld(seed, f"memory://{uuid.uuid4().hex}", ALONE[seed % len(ALONE)])
            drawn = (Faults.drawn(world.rng) for _ in range(LIVES))
            worlds._lived(world, where, drawn)


def closed_once(append: Callable[..., None]) -> Callable[..., None]:
    """A journal that cannot be written when it is to tell of the first trial."""
    left = ["trial_started"]

    def changed(journal: Journal, event: Any, **fields: Any) -> None:
        if event in left:
            left.remove(event)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        append(journal, event, **fields)

    return changed


@pytest.mark.parametrize("scenario", ALONE, ids=lambda scenario: scenario.name)
def test_a_sweep_goes_on_whose_journal_could_not_tell_of_its_first_trial(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker has the trial all the same, and finishes it before it hears that it is to end."""
    worlds._everything_imported()
    monkeypatch.setattr(Journal, "append", closed_once(Journal.append))
    with folder() as where:
        world = RemoteWorld(1, f"memory://{uuid.uuid4().hex}", scenario)
        worlds._lived(world, where, [Faults()])
