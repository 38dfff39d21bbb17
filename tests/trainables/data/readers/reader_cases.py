"""What a reader gives, as a store, and what it says is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.contract.errors import UserError
from trainables.data.store.description import Recordings
from trainables.data.store.reading import Store, write_store


def imported(recordings: Recordings, out: Path) -> Store:
    write_store(out, recordings.clips, recordings.description)
    made = Store.open(out)
    assert made.info.clips == recordings.count
    return made


def problems(make: Callable[[], Recordings]) -> str:
    """What a reader says, whether it notices at once or while reading."""
    with pytest.raises(UserError) as caught:
        list(make().clips)
    return str(caught.value)
