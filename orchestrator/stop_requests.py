"""How a sweep is asked to end: two files in its folder that any process on any machine may write. Knows neither Ray nor signals."""

from __future__ import annotations

from pathlib import Path

from trainables.contract.artifacts import write_atomic


class StopRequests:
    """`drain` (no new trials, the running ones finish) and `cancel` (running trials write a checkpoint and end now)."""

    def __init__(self, run: Path) -> None:
        self.drain_file = run / "drain"
        self.cancel_file = run / "cancel"

    def clear(self) -> None:
        """Forget requests made to an earlier run of the sweep."""
        self.drain_file.unlink(missing_ok=True)
        self.cancel_file.unlink(missing_ok=True)

    def drain(self, reason: str) -> None:
        """No new trials; the running ones finish."""
        write_atomic(self.drain_file, reason.encode())

    def cancel(self, reason: str) -> None:
        """No new trials; the running ones write a checkpoint and end."""
        write_atomic(self.cancel_file, reason.encode())

    def closed(self) -> bool:
        """True once no new trial may start."""
        return self.cancel_file.exists() or self.drain_file.exists()

    def reason(self) -> str | None:
        """Why the sweep was asked to end; None if it was not."""
        for path in (self.cancel_file, self.drain_file):
            if path.exists():
                return path.read_text()
        return None
