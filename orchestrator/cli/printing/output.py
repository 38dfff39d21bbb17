"""Standard output and error as they are: a terminal that knows ASCII only, a full disk, names of
files in another encoding. Knows no command.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from trainables.contract.errors import OrchestrateError

_HANDLER = "orchestrate"

P = ParamSpec("P")
R = TypeVar("R")


class OutputFull(OrchestrateError):
    """Standard output takes no more; what was computed is on disk."""

    exit_code = 2


class OutputClosed(SystemExit):
    """Nobody reads standard output any more, which needs no word."""


@contextmanager
def standard_output() -> Iterator[None]:
    """Within: a character that the terminal does not know is printed as its escape, the bytes of a
    file name as they are; OrchestrateError where standard output takes no more.
    """
    codecs.register_error(_HANDLER, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)
    out = sys.stdout
    out.write = _guarded(out.write)  # type: ignore[method-assign]
    out.flush = _guarded(out.flush)  # type: ignore[method-assign]
    try:
        try:
            yield
        finally:
            out.flush()
    except (OutputFull, OutputClosed):
        with suppress(OSError, ValueError):  # what is left: the interpreter would fail on it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise
    finally:
        del out.write, out.flush


def _guarded(act: Callable[P, R]) -> Callable[P, R]:
    """`act`, whose error is told from those of other files."""

    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return act(*args, **kwargs)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise OutputClosed(OutputFull.exit_code) from error
            raise OutputFull(
                f"standard output cannot be written: {error.strerror or error}"
            ) from error

    return guarded


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's answer: what stands for bytes (PEP 383) becomes these bytes, other characters their
    escapes.
    """
    assert isinstance(error, UnicodeEncodeError)
    letter = error.object[error.start]
    if 0xDC80 <= ord(letter) <= 0xDCFF:
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    return letter.encode("unicode_escape").decode("ascii"), error.start + 1
