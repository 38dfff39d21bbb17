"""How a sweep is asked to end: two files in its folder that any process on any machine may write.

Knows neither Ray nor signals.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from orchestrator.record.copies import remove
from trainables.contract.disk import read_json, write_json
from trainables.contract.errors import UserError


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a sweep ends before its trials are done."""

    # system: a full disk, a cluster that is gone, Tune itself
    by: Literal["person", "budget", "system"]
    reason: str


def _read(path: Path) -> Stop:
    """A request stands from the moment its file is there, whatever is in it."""
    try:
        return Stop(**read_json(path))
    except (UserError, TypeError):
        return Stop("person", f"the file {path.name} was found")


class StopRequests:
    """`drain` (no new trials, the running ones finish) and `cancel` (running trials write a
    checkpoint and end now).
    """

    def __init__(self, run: Path) -> None:
        self.drain_file = run / "drain"
        self.cancel_file = run / "cancel"

    def clear(self) -> None:
        """Forget requests made to an earlier run of the sweep."""
        remove(self.drain_file)
        remove(self.cancel_file)

    def drain(self, stop: Stop) -> None:
        """No new trials; the running ones finish."""
        write_json(self.drain_file, asdict(stop))

    def cancel(self, stop: Stop) -> None:
        """No new trials; the running ones write a checkpoint and end."""
        write_json(self.cancel_file, asdict(stop))

    def closed(self) -> bool:
        """True once no new trial may start."""
        return self.cancel_file.exists() or self.drain_file.exists()

    def stop(self) -> Stop | None:
        """The request that stands; None if there is none."""
        for path in (self.cancel_file, self.drain_file):
            if path.exists():
                return _read(path)
        return None
