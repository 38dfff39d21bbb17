"""Sweeps at an address lose no result: workers and drivers die in any request and any write."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import pytest

from tests.faults import world as worlds
from tests.faults.address import RemoteWorld
from tests.faults.scenarios import SCENARIOS
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


@pytest.mark.parametrize(
    "seed",
    [pytest.param(s, marks=[pytest.mark.full] if s >= QUICK else []) for s in range(ALL)],
)
def test_a_sweep_at_an_address_comes_to_its_end(seed: int) -> None:
    worlds._everything_imported()
    with folder() as where:
        world = RemoteWorld(seed, f"memory://{uuid.uuid4().hex}", ALONE[seed % len(ALONE)])
        drawn = (Faults.drawn(world.rng) for _ in range(LIVES))
        worlds._lived(world, where, drawn)
