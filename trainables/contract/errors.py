"""Every error a user can meet, as one tree; the command makes one message and exit code of each.

OrchestrateError            1  internal, or not said more precisely
├── UserError               2  wrong file, wrong value, missing or damaged data
├── TrialFailed             3  a trial ended for a reason that a retry cannot cure
├── GateFailed              4  a check that the user asked for did not hold (a leak was found)
└── Interrupted           130  stopped from outside; what was done is kept
"""

from __future__ import annotations

from collections.abc import Iterable


class OrchestrateError(Exception):
    """Root of the tree; `exit_code` is what the command returns."""

    exit_code = 1


class UserError(OrchestrateError, ValueError):
    """Something the user gave is wrong: the message names the place, the rule and the value."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = problems
        super().__init__("\n".join(problems))

    @classmethod
    def of(cls, problems: Iterable[str]) -> UserError:
        """All problems found so far in one error, in the order they were found."""
        return cls(*problems)


class TrialFailed(OrchestrateError):
    """A trial cannot go on (non-finite loss, deploy form that differs); no retry would help."""

    exit_code = 3


class GateFailed(OrchestrateError):
    """A check the user asked for did not hold."""

    exit_code = 4


class Interrupted(OrchestrateError):
    """Asked to stop from outside; the state on disk is complete and can be resumed."""

    exit_code = 130
