"""Which sweeps among faults a run of the tests has: `--fault-seed`, `--fault-seeds`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CHUNK = 25
"""Seeds of one test: two processes then end at about the same time."""


def chunks(quick: int, every: int, config: pytest.Config) -> list[object]:
    """Parameters, each a range of seeds: of `quick` ones, and marked `full` of the others up to
    `every`; of as many as the person asked for; of the one that is to be seen again.
    """
    one, count = config.getoption("--fault-seed"), config.getoption("--fault-seeds")
    if one is not None:
        return [pytest.param(range(one, one + 1), id=str(one))]
    quick, every = min(quick, count or quick), count or every
    begins = [*range(0, quick, CHUNK), *range(quick, every, CHUNK)]
    ends = [*begins[1:], every]
    return [
        pytest.param(
            range(begin, end),
            id=f"from{begin}",
            marks=[pytest.mark.full] if begin >= quick and not count else [],
        )
        for begin, end in zip(begins, ends, strict=True)
    ]


@contextmanager
def seen_again(seed: int) -> Iterator[None]:
    """Within: a failure says how that sweep is run again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"this sweep again: --fault-seed {seed}")
        raise
