"""A sweep's report, written by a process of its own: in one process it and what is written to
MLflow meanwhile, both of them Python, would wait for each other.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from orchestrator.report.writing import write_report
from trainables.figures import blank_figure

_COMMAND = "import sys; sys.path[:] = {path}; from orchestrator.report.beside import main; main()"


class ReportBeside:
    """Within: a process that loads what reports need, ready to write one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._run: Path | None = None

    def __enter__(self) -> ReportBeside:
        self._process = _started()
        return self

    def begin(self, run: Path) -> None:
        """Write the report of this sweep, whose evaluation is complete."""
        self._run = run
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # it has died
                self._process.stdin.write(json.dumps(str(run)).encode() + b"\n")
                self._process.stdin.close()

    def report(self) -> Path:
        """report.md, once it is written; here where that process could not, so that what is wrong
        is raised here.
        """
        assert self._run is not None, "begin comes first"
        if self._process is not None and self._process.stdout is not None:
            said = self._process.stdout.read()
            if self._process.wait() == 0:
                return Path(json.loads(said))
        return write_report(self._run)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _started() -> subprocess.Popen[bytes] | None:
    """The process; None where there is none to be had."""
    command = [sys.executable, "-c", _COMMAND.format(path=sys.path)]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError:
        return None


def main() -> None:
    """That process: reads the sweep's folder, writes where the report is. It ends with the one that
    started it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    blank_figure(1.0, 1.0)  # loads matplotlib

    asked = sys.stdin.readline()
    if asked:
        try:
            sys.stdout.write(json.dumps(str(write_report(Path(json.loads(asked))))))
        except Exception:  # the process that started it writes it once more, and says what is wrong
            sys.exit(1)
