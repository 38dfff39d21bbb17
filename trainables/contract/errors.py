"""Every error a user can meet, as one tree; the command makes one message and exit code of each.

OrchestrateError            1  internal, or not said more precisely
├── UserError               2  wrong file, wrong value, missing or damaged data
├── NotWritable             2  the machine refuses to write a file
├── TrialFailed             3  a trial ended for a reason that a retry cannot cure
├── GateFailed              4  a check that the user asked for did not hold (a leak was found)
├── OutOfSpace            130  the disk or the quota is full; what was done is kept
├── StorageFailed      130, 2  an address does not answer, or refuses; what was done is kept
└── Interrupted           130  stopped from outside; what was done is kept
"""

from __future__ import annotations

import errno
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


class Unreached(UserError):
    """This machine cannot reach, or cannot hold, what a trial needs; another one may."""


class LaterForm(UserError):
    """A file was written by a later version, in a form that this one does not know."""


class TrialFailed(OrchestrateError):
    """A trial cannot go on (non-finite loss, deploy form that differs); no retry would help."""

    exit_code = 3


class GateFailed(OrchestrateError):
    """A check the user asked for did not hold."""

    exit_code = 4


class NotWritable(OrchestrateError, OSError):
    """The machine refuses to write a file: errno, why, and the file as it was asked for."""

    exit_code = 2

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written: {self.strerror}"


class OutOfSpace(OrchestrateError, OSError):
    """A file cannot be written because the disk or the quota is full; the file before it, if any,
    is as it was, and work can go on from there once there is room.
    """

    exit_code = 130

    def __init__(self, path: object, error: OSError) -> None:
        super().__init__(error.errno, error.strerror, str(path))

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written: {self.strerror}"

    @classmethod
    def is_why(cls, error: OSError) -> bool:
        """Whether the operating system refused for want of room."""
        return error.errno in (errno.ENOSPC, errno.EDQUOT)


class StorageFailed(OrchestrateError):
    """What lies at an address can be neither read nor written now; what lies there is whole, and
    work can go on from it once the other side answers.
    """

    def __init__(self, text: str, *, refused: bool = False) -> None:
        """refused: the other side answered, and would do so again until something is put right."""
        self.refused = refused
        self.exit_code = 2 if refused else 130
        super().__init__(text)


class Interrupted(OrchestrateError):
    """Asked to stop from outside; the state on disk is complete and can be resumed."""

    exit_code = 130


def in_words(message: str) -> str:
    """What pydantic says of a value, without its name for the kind of error."""
    return message.removeprefix("Value error, ")
