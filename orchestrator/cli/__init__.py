"""The command `orchestrate`: what is typed and what is printed.

Imports heavy things inside commands only.
"""

import atexit
import gc
import os
import sys


def main() -> None:
    """Run the command. It is loaded here, so that Ctrl-C meanwhile is no traceback and processes
    that the command starts do not load it.
    """
    _use_utf8()
    # loading makes no cycles to collect, but 400,000 objects for a sweep, which Python would look
    # through six times: 1.2 s
    gc.set_threshold(10_000)
    # Python looks for cycles among all objects as it ends: a second where a sweep has loaded torch,
    # Ray and MLflow
    atexit.register(gc.freeze)
    try:
        from orchestrator.cli.commands.sweeps import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode where the locale knows ASCII or one region's letters: a
    sweep file is UTF-8 whatever the locale, and so are the names that it gives files. Processes
    that the command starts inherit the mode.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
