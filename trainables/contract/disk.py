"""Which errors mean that the disk takes no more: they concern the whole sweep, not one trial."""

from __future__ import annotations

import errno
import os

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def disk_problem(error: BaseException) -> str | None:
    """`No space left on device: FILE` if `error`, or one that it came from, says that the disk is
    full, a quota used up or the file system read-only; None otherwise.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, OSError) and current.errno in DISK_ERRORS:
            where = f": {current.filename}" if current.filename else ""
            return f"{os.strerror(current.errno)}{where}"
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None
