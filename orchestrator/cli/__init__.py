"""The command `orchestrate`: what is typed and what is printed.

Imports heavy things inside commands only.
"""

import sys


def main() -> None:
    """Run the command. It is loaded here, so that Ctrl-C meanwhile is no traceback and processes
    that the command starts do not load it.
    """
    try:
        from orchestrator.cli.commands.sweeps import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
