"""Names that come from foreign files: what a name may be, how foreign values are shown, and what
libraries say of such files.

Knows no format. A terminal obeys escape sequences, a folder obeys `..`: so no foreign text is
printed as it is, and no clip, class or data set is named with one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice
from reprlib import Repr
from typing import Any

LONGEST_NAME = 200
"""Characters of a clip's, class's, column's or data set's name: a file name has at most 255
bytes."""

LONGEST_REASON = 200
"""Characters of what a library says."""

_ADVICE = re.compile(r"allow_pickle|weights_only|max_header_size|set_int_max_str_digits|pickled")
"""Advice of libraries that no user should follow, or that is of no use outside the code."""
_PATH = re.compile(r"[/\\]|\.\.")
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 4
_SHORT.maxlevel = 3


def printable(text: str) -> str:
    """`text` with every character that is not visible written as its escape; lines stay lines."""
    return "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def shown(value: Any) -> str:
    """A foreign value in a message: short, in one line, without anything a terminal would obey."""
    return printable(" ".join(_SHORT.repr(value).split()))


def listed(values: Collection[Any], most: int = 5) -> str:
    """The first foreign values of many in a message."""
    first = ", ".join(shown(value) for value in islice(values, most))
    return f"{first}, ..." if len(values) > most else first or "none"


def said(error: BaseException) -> str:
    """What a library says is wrong with a file, in one short line; empty where it says nothing, or
    gives advice that is of no use to who has the file.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not text in {error.encoding}"
    text = printable(" ".join(str(error).split()))
    if "digits" in text:
        return "a number in it has too many digits"
    if _ADVICE.search(text):
        return ""
    return f"{text[:LONGEST_REASON]}..." if len(text) > LONGEST_REASON else text


def name_problem(name: str, *, file_name: bool = True) -> str | None:
    """The rule that a name breaks, to be read after what is named; None for a sound name.

    file_name: whether folders or files may be called like it, as with the id of a clip. The name of
    a class may hold a `/`.
    """
    if not name:
        return "must not be empty"
    if len(name) > LONGEST_NAME:
        return f"must have at most {LONGEST_NAME} characters, got {len(name)}: {shown(name)}"
    if not name.isprintable():
        return f"must be printable text without control characters, got {shown(name)}"
    if name != name.strip():
        return f"must not begin or end with white space, got {shown(name)}"
    if file_name and (name == "." or _PATH.search(name)):
        return f"must not hold '/', '\\' or '..', got {shown(name)}"
    return None
