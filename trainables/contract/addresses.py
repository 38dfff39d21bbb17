"""Addresses: places that are no local paths (`s3://bucket/folder`), told from paths and checked by
their looks. Opens nothing.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, urlsplit

from trainables.contract.secrets import redacted

OBJECT_STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss")
"""Their addresses are PROTOCOL://BUCKET/FOLDER and have no options."""

WRITTEN = (*OBJECT_STORES, "file", "memory")
"""Of what sweeps may lie at: a driver makes its lease there in one step."""

_NAMED_ACCOUNT = ("abfs", "abfss")
"""Of Azure: CONTAINER@ACCOUNT.dfs.core.windows.net is no user and no password."""

_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def is_address(text: str) -> bool:
    """Whether a place is an address, not a path: it holds `://`."""
    return "://" in text


def local_path(text: str) -> str | None:
    """`/folder` of `file:///folder`, which is on this machine; None for other addresses and for
    paths.
    """
    return text.removeprefix("file://") if text.startswith("file://") else None


def was_address(path: Path) -> bool:
    """Whether a path was made of an address, which lost a slash: `s3:/bucket/folder`."""
    first, *rest = path.parts or ("",)
    return bool(rest) and first.endswith(":") and _PROTOCOL.fullmatch(first[:-1]) is not None


def check_address(text: str) -> str | None:
    """What is wrong with the looks of an address, passwords hidden; None if nothing is."""
    shown = redacted(text)
    if not _PROTOCOL.fullmatch(text.partition("://")[0]):
        return f"{shown}: must be an address like s3://BUCKET/FOLDER"
    try:
        place = urlsplit(text)
    except ValueError as error:
        return f"{shown}: must be a path or an address: {error}"
    if _holds_a_password(text, place):
        return (
            f"{shown}: must not hold a password, which would be written down with every trial;"
            " credentials come from the environment"
        )
    if place.scheme == "file":
        rule = f"{shown}: must be file:///FOLDER, of this machine and from its root"
        return rule if place.netloc or not place.path.strip("/") else None
    if not (place.netloc + place.path).strip("/"):
        return f"{shown}: must name a bucket: {place.scheme}://BUCKET/FOLDER"
    if place.scheme not in OBJECT_STORES:
        return None
    if not place.netloc:
        return f"{shown}: must name a bucket: {place.scheme}://BUCKET/FOLDER"
    if place.query or place.fragment:
        return (
            f"{shown}: must have no '?' and no '#'; a region or an endpoint comes from the"
            " environment"
        )
    if {"..", "."} & {*place.path.split("/")} or "//" in place.path:
        return f"{shown}: must be without '.', '..' and '//', which mean nothing in a bucket"
    return None


def check_storage(text: str) -> str | None:
    """The same of an address that sweeps are written to."""
    problem = check_address(text)
    if problem is None and urlsplit(text).scheme not in WRITTEN:
        problem = (
            f"{redacted(text)}: must be an address that sweeps can be written to: s3://, gs://,"
            " az://, abfs:// or file://"
        )
    return problem


def joined(address: str, *names: str) -> str:
    """The address of what lies there under these names."""
    return "/".join((address.rstrip("/"), *names))


def last_name(address: str) -> str:
    """`folder` of `s3://bucket/folder/`; the bucket where there is no folder."""
    return PurePosixPath(address.rstrip("/")).name


def _holds_a_password(text: str, place: SplitResult) -> bool:
    if redacted(text) != text or place.password is not None:
        return True
    if place.scheme in OBJECT_STORES and place.scheme not in _NAMED_ACCOUNT and place.username:
        return True
    try:
        place.port  # noqa: B018, reading it checks it
    except ValueError:
        return True  # of KEY:SECRET/WITH/SLASHES@HOST, whose host ends within the password
    return False
