"""Passwords in addresses: what counts as one, and texts with them hidden."""

from __future__ import annotations

import re

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
"""`${NAME}` or `${NAME:-default}`."""

HIDDEN = "***"
# scheme://user:password@host; a password may hold "@" and "/"
_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^:/@\s\"']*:)([^\s\"']+)(?=@)")
# scheme://token@host: what is as long as a token and has a digit is no person's name
_TOKEN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?=[^:/@\s\"']*[0-9])([^:/@\s\"'$*]{20,})(?=@)")
_SECRET = r"(?:pass|secret|token|signature|(?:access|account|api)_?key)"
_QUERY = re.compile(
    rf"([?&](?:sig|[^=&\s\"']*{_SECRET}[^=&\s\"']*)=)"
    r"([^&\s\"']+?)(?=:?(?:[&\s\"']|$))",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text with the passwords of all addresses in it hidden; `${NAME}` is no password."""
    return _QUERY.sub(_hide, _TOKEN.sub(_hide, _PASSWORD.sub(_hide, text)))


def _hide(match: re.Match[str]) -> str:
    return match[0] if VARIABLE.fullmatch(match[2]) else f"{match[1]}{HIDDEN}"
