"""Passwords in addresses: taken from the environment when they are used, never stored."""

from __future__ import annotations

import os
import re

from trainables.contract.errors import UserError
from trainables.contract.secrets import HIDDEN, VARIABLE


def expanded(text: str, place: str) -> str:
    """The text with the environment's values; UserError where a variable is not set or a password
    was not kept.

    place: what messages call the text.
    """
    problems: list[str] = []

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        known = os.environ.get(name, "")
        if not known and default is None and name not in os.environ:
            problems.append(
                f"{place}: environment variable {name} is not set; set it or write"
                f" ${{{name}:-default}}"
            )
        return known or default or ""

    whole = VARIABLE.sub(value, text)
    if any(f"{before}{HIDDEN}" in text for before in (":", "=", "//")):
        problems.append(
            f"{place}: the password of {text} is not kept with the sweep; write it as ${{VARIABLE}}"
            " in the sweep file, or run the file again"
        )
    if problems:
        raise UserError.of(problems)
    return whole
