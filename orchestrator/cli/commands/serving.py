"""A server that runs for as long as its command does. Knows nothing of what is served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

GRACE_S = 2.0
"""How long a server has to end by itself: MLflow's waits for browsers that have a page open."""


def serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the server until it ends; its exit code. What ends us ends it, and what it started.

    Ctrl-C does not reach it: while it starts it would answer with a traceback.
    """
    served = subprocess.Popen(command, env=os.environ | environment, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return served.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(served.pid, signal.SIGTERM)
        try:
            served.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # whoever asks twice does not wait, and leaves nothing running
            with suppress(ProcessLookupError):
                os.killpg(served.pid, signal.SIGKILL)
