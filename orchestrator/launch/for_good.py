"""Runs a command, and ends well where it would end the same again: `python -m
orchestrator.launch.for_good orchestrate sweep FILE`. KubeRay starts a whole cluster anew for every
other end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

FINAL = {
    2: "the file, the data or the usage is wrong",
    3: "more trials failed than the sweep tolerates",
    4: "a check did not hold",
    5: "the time budget is used up",
}
"""Exit codes of `orchestrate` after which another start would not help or is not wanted. Not 130:
a lost node ends a sweep with that, too.
"""


def run(words: Sequence[str]) -> int:
    """The command's exit code; 0 for one in FINAL, which is said, and 128 + n after signal n."""
    code = subprocess.call(words)
    if code in FINAL:
        sys.stderr.write(
            f"exit code {code}: {FINAL[code]}; the job counts as done, so that no other cluster"
            " is started\n"
        )
        return 0
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
