"""A page that follows a sweep while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from orchestrator.record.copies import refresh
from orchestrator.record.folder import is_running
from orchestrator.record.resolved import FILE as RESOLVED
from orchestrator.report.findings import read_findings
from orchestrator.report.page.sweep import write_page
from trainables.contract.errors import UserError


def watch(
    run: Path,
    every_s: int,
    written: Callable[[Path], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Write the page of a running sweep again and again until the sweep has ended; the last one no
    longer loads itself again, nor does one that is left when this is interrupted. `written` is told
    of the first page.
    """
    told = False
    try:
        while is_running(run):
            refresh(run)
            if (run / RESOLVED).is_file():  # it is written when the sweep has just begun
                path = write_page(read_findings(run), reload_s=every_s)
                if not told:
                    written(path)
                    told = True
            sleep(every_s)
    except BaseException:
        if told:
            with suppress(UserError):
                write_page(read_findings(run))
        raise
    path = write_page(read_findings(run))
    if not told:
        written(path)
    return path
